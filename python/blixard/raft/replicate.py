"""The leader's side of replication: what to send to each member next.

The library would send its whole backlog at once and move back at each answer that is late, which
can go on for ever. Here a member is probed with one empty append at a time until one fits; only
then entries flow, a limited number of appends ahead of the answers (the thesis, section 10.2.1, and
the progress states of etcd's raft).
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from blixard.raft import snapshot as snapshots
from blixard.raft.journal import Journal
from blixard.raft.snapshot import Outgoing
from blixard.raft.wire import BATCH_BYTES, Append, Message
from blixard.v1.raft_pb2 import SnapshotChunk

APPENDS_AHEAD: Final = 16
"""So many appends may be unanswered."""
NEWS_S: Final = 0.01
"""What was committed meanwhile waits so long for the next append that could tell it as well."""

Send = Callable[[int, Message | SnapshotChunk], None]


@dataclass(slots=True)
class Progress:
    """How far one member is."""

    next_index: int
    match_index: int = 0
    probing: bool = True
    probe_due_s: float = 0.0
    ahead: deque[int] = field(default_factory=deque)
    """The last index of each append that is not answered."""
    told_commit: int = 0
    told_s: float = 0.0
    """What the last append said to be committed, and when it was sent."""
    transfer: Outgoing | None = None
    chunk_due_s: float = 0.0


class Replicator:
    """The progress of all members in one term."""

    def __init__(
        self, journal: Journal, send: Send, clock: Callable[[], float], retry_s: float
    ) -> None:
        self._journal = journal
        self._send = send
        self._clock = clock
        self._retry_s = retry_s
        self._term = 0
        self._members: dict[int, Progress] = {}
        self._transfers = 0

    def advance(self, term: int, members: Sequence[int], *, heartbeat: bool) -> None:
        """Send each of `members` what comes next, and something in any case if `heartbeat`."""
        if term != self._term:
            self._term, self._members = term, {}
        for member in sorted(set(self._members) - set(members)):
            del self._members[member]
        for member in members:
            progress = self._members.setdefault(member, Progress(self._journal.last_index + 1))
            self._advance(member, progress, heartbeat=heartbeat)

    def matched(self, member: int, index: int) -> None:
        """The member's log equals ours up to `index`."""
        progress = self._members.get(member)
        if progress is None:
            return
        progress.match_index = max(progress.match_index, index)
        progress.next_index = max(progress.next_index, index + 1)
        if progress.probing:
            progress.probing = False
            progress.next_index = progress.match_index + 1
        while progress.ahead and progress.ahead[0] <= index:
            progress.ahead.popleft()

    def mismatched(self, member: int, prev_index: int, next_index: int) -> None:
        """An append after `prev_index` did not fit."""
        progress = self._members.get(member)
        if progress is None or progress.transfer is not None:
            return
        is_late = prev_index <= progress.match_index or (
            progress.probing and prev_index != progress.next_index - 1
        )
        if not is_late:
            self._probe(progress, min(next_index, prev_index))

    def reconnected(self, member: int) -> None:
        """What was on its way to the member may be lost."""
        progress = self._members.get(member)
        if progress is not None:
            self._probe(progress, progress.next_index)
            if progress.transfer is not None:
                progress.chunk_due_s = 0.0

    def held(self, member: int, transfer: int, held: int) -> None:
        """The member holds so many bytes of a snapshot."""
        progress = self._members.get(member)
        outgoing = progress.transfer if progress else None
        if progress is None or outgoing is None or outgoing.transfer != transfer:
            return
        if held == outgoing.total:
            progress.transfer = None
            self._probe(progress, outgoing.index + 1)
        elif held > outgoing.arrived:
            outgoing.arrived = held
            progress.chunk_due_s = 0.0
        elif held < outgoing.arrived:
            outgoing.arrived = held

    def match_of(self, member: int) -> int:
        """The last index up to which the member is known to agree."""
        progress = self._members.get(member)
        return progress.match_index if progress else 0

    @property
    def owes_news(self) -> bool:
        """Whether a member that follows has not been told what is committed."""
        committed = self._journal.commit_index
        return any(
            progress.told_commit < committed and not progress.probing
            for progress in self._members.values()
        )

    def _probe(self, progress: Progress, next_index: int) -> None:
        progress.next_index = max(next_index, progress.match_index + 1)
        progress.probing = True
        progress.probe_due_s = 0.0
        progress.ahead.clear()

    def _advance(self, member: int, progress: Progress, *, heartbeat: bool) -> None:
        now_s = self._clock()
        if progress.transfer is not None or progress.next_index <= self._journal.base_index:
            self._send_snapshot(member, progress, now_s, heartbeat=heartbeat)
        elif progress.probing:
            if heartbeat or now_s >= progress.probe_due_s:
                progress.probe_due_s = now_s + self._retry_s
                self._send(member, self._append(progress, size_bytes=0))
        else:
            self._send_entries(member, progress, now_s, heartbeat=heartbeat)

    def _send_entries(
        self, member: int, progress: Progress, now_s: float, *, heartbeat: bool
    ) -> None:
        committed = self._journal.commit_index
        while (
            progress.next_index <= self._journal.last_index and len(progress.ahead) < APPENDS_AHEAD
        ):
            append = self._append(progress, size_bytes=BATCH_BYTES)
            progress.next_index = append.last_index + 1
            progress.ahead.append(append.last_index)
            progress.told_commit, progress.told_s = committed, now_s
            self._send(member, append)
            heartbeat = False
        is_news = committed > progress.told_commit and now_s - progress.told_s >= NEWS_S
        if heartbeat or is_news:
            progress.told_commit, progress.told_s = committed, now_s
            self._send(member, self._append(progress, size_bytes=0))

    def _append(self, progress: Progress, size_bytes: int) -> Append:
        prev = progress.next_index - 1
        return Append(
            term=self._term,
            commit_index=self._journal.commit_index,
            prev_index=prev,
            prev_term=self._journal.term_at(prev),
            entries=self._journal.batch_from(progress.next_index, size_bytes),
        )

    def _send_snapshot(
        self, member: int, progress: Progress, now_s: float, *, heartbeat: bool
    ) -> None:
        if progress.transfer is None:
            snapshot = self._journal.snapshot
            assert snapshot is not None, "what is no longer in the log is in a snapshot"
            self._transfers += 1
            progress.transfer = Outgoing(self._transfers, snapshot, snapshots.encode(snapshot))
            progress.chunk_due_s = 0.0
        if now_s >= progress.chunk_due_s:
            progress.chunk_due_s = now_s + self._retry_s
            self._send(member, progress.transfer.chunk())
        elif heartbeat:
            self._send(member, progress.transfer.chunk(empty=True))
