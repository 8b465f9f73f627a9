"""What stands between a message and the library.

The library trusts what it receives. Each check here closes a hole that a perfectly ordinary network
opens: late, repeated and overlapping messages of earlier terms and connections.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from blixard.raft.journal import Journal
from blixard.raft.wire import Append
from blixard.v1.raft_pb2 import RaftEnvelope


@dataclass(frozen=True, slots=True)
class Fitted:
    """An append that the library may act on."""

    append: Append
    verified: int
    """The last index at which this log is known to equal the leader's; no more is acknowledged."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """The append does not fit this log; the leader should try from `next_index`."""

    next_index: int


def fit(append: Append, log: Journal) -> Fitted | Misfit:
    """Cut an append down to what is new here (the paper, figure 2, AppendEntries 2 to 5).

    The library truncates behind `prev_index` even where the entries agree, so that an append which
    was overtaken drops acknowledged entries. Here only a real conflict is left to truncate. What
    is committed needs no check: every later leader has it (the paper, section 5.4.3).
    """
    committed = log.commit_index
    prev, entries = append.prev_index, append.entries
    verified = max(append.last_index, committed)
    if prev < committed:
        assert all(
            log.term_at(entry.index) == entry.term
            for entry in entries
            if log.base_index <= entry.index <= committed
        ), "what is committed here is committed everywhere"
        prev, entries = committed, [entry for entry in entries if entry.index > committed]
    elif prev > log.last_index:
        return Misfit(log.last_index + 1)
    elif log.term_at(prev) != append.prev_term:
        assert prev > committed, "what is committed here is committed everywhere"
        return Misfit(_before_term(log, prev))
    same = 0
    while (
        same < len(entries)
        and entries[same].index <= log.last_index
        and log.term_at(entries[same].index) == entries[same].term
    ):
        same += 1
    entries = entries[same:]
    # With nothing new the append is anchored at our end, where there is nothing to truncate.
    prev = prev + same if entries else log.last_index
    return Fitted(
        Append(
            term=append.term,
            commit_index=min(append.commit_index, verified),
            prev_index=prev,
            prev_term=log.term_at(prev),
            entries=entries,
        ),
        verified,
    )


def _before_term(log: Journal, index: int) -> int:
    """The first index of the term at `index`: the leader skips a term at a time (the paper, end of
    section 5.3), but never what is committed."""
    term = log.term_at(index)
    while index - 1 > log.commit_index and log.term_at(index - 1) == term:
        index -= 1
    return index


@dataclass(slots=True)
class Order:
    """Drops what does not come after the last message of its sender: repeated, or left over from
    an earlier connection."""

    _last: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)

    def is_next(self, envelope: RaftEnvelope) -> bool:
        """Whether to act on it."""
        sender = (envelope.sender, envelope.sender_birth)
        position = (envelope.epoch, envelope.sequence)
        if position <= self._last.get(sender, (0, 0)):
            return False
        self._last[sender] = position
        return True


@dataclass(slots=True)
class Ballot:
    """Who said yes in a term: each node once."""

    term: int = 0
    _voters: set[int] = field(default_factory=set)

    def count(self, term: int, voter: int) -> bool:
        """Note a vote; False if this one was counted before."""
        if term != self.term:
            self.term, self._voters = term, set()
        if voter in self._voters:
            return False
        self._voters.add(voter)
        return True

    def is_won(self, members: Collection[int], self_id: int) -> bool:
        """Whether a majority of `members` said yes; this node says yes to itself."""
        yes = (self._voters | {self_id}) & set(members)
        return 2 * len(yes) > len(members)
