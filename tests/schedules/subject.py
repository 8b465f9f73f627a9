"""One member under test; the schedule is all the others.

A schedule speaks the messages that the library itself sends, so the same one runs against the
untouched library and against ours. Both logs begin with one place: index 1, of term 0.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from blixard.raft.wire import Append, Appended, Change, Entry, PreVoteRequest, Vote, VoteRequest
from blixard.v1.raft_pb2 import SnapshotChunk
from raft.lab import STEP_S, address_of

TOP: Final = (1, 0)
"""The index and term of the place before the first entry."""


def adding(node_id: int) -> Change:
    return Change(True, node_id, address_of(node_id), node_id)


def removing(node_id: int) -> Change:
    return Change(False, node_id)


def text(index: int, term: int) -> bytes:
    """The command that a schedule puts at this place."""
    return b"%d@%d" % (index, term)


def cut(data: bytes, index: int, term: int, parts: int = 2, **fields: Any) -> list[SnapshotChunk]:
    """A snapshot in so many chunks."""
    size = -(-len(data) // parts)
    return [
        SnapshotChunk(
            offset=offset,
            total=len(data),
            index=index,
            term=term,
            data=data[offset : offset + size],
            **fields,
        )
        for offset in range(0, len(data), size)
    ]


class Subject(ABC):
    """What a schedule does to a member, and what it sees of it."""

    def __init__(self, node_id: int) -> None:
        self.node_id = node_id
        self.sent: list[tuple[int, Any]] = []
        """What it said, and to whom."""
        self.acknowledged: list[bytes] = []
        """What its clients were told to be committed."""
        self.refusals: list[str] = []
        """What its administrator, or a peer, was told when something was refused."""
        self._runs = False

    # What happens to it.

    @abstractmethod
    def receive(self, sender: int, message: Any, term: int | None = None) -> None:
        """A message arrives. `term` is the sender's when it spoke; now, unless given."""

    @abstractmethod
    def receive_again(self) -> None:
        """The last message arrives once more, as it was."""

    @abstractmethod
    def hear_chunk(self, sender: int, term: int, chunk: SnapshotChunk, commit: int = 1) -> None:
        """A part of a snapshot arrives from the leader of `term`, and it ticks."""

    @abstractmethod
    def tick(self) -> None: ...

    @abstractmethod
    def later(self, seconds: float) -> None:
        """Let time pass, and tick once."""

    @abstractmethod
    def propose(self, entry: bytes, then: Callable[[], None] = lambda: None) -> None:
        """A client's command. `then` is called when it is acknowledged."""

    @abstractmethod
    def add(self, node_id: int) -> None:
        """The administrator adds a member."""

    @abstractmethod
    def remove(self, node_id: int) -> None:
        """The administrator removes a member."""

    @abstractmethod
    def compact(self) -> list[SnapshotChunk]:
        """Take a snapshot of what is applied; returns it as it would be sent."""

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    # What it holds.

    @property
    @abstractmethod
    def term(self) -> int: ...

    @property
    @abstractmethod
    def leads(self) -> bool: ...

    @property
    @abstractmethod
    def log(self) -> list[tuple[int, int]]:
        """Index and term of each entry, from the place before the first."""

    @property
    @abstractmethod
    def applied(self) -> list[bytes]: ...

    @property
    @abstractmethod
    def voters(self) -> set[int]:
        """Whom it counts for a majority."""

    @abstractmethod
    def command(self, entry: bytes) -> bytes:
        """The data of the log entry for a command."""

    @abstractmethod
    def membership(self, change: Change) -> bytes:
        """The data of the log entry for a change of members."""

    @abstractmethod
    def snapshot(self, index: int, term: int, state: Sequence[bytes]) -> list[SnapshotChunk]:
        """Another member's snapshot, in two chunks. `state` is what was applied."""

    # Longer words.

    def hear(self, sender: int, message: Any, term: int | None = None) -> None:
        """A message arrives, and it ticks."""
        self.receive(sender, message, term)
        self.tick()

    def open(self) -> None:
        """The process starts."""
        self._open()
        self._runs = True

    def close(self) -> None:
        """The process ends, if it runs."""
        if self._runs:
            self._runs = False
            self._close()

    def restart(self) -> None:
        self.close()
        self.open()

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.later(STEP_S)

    def append(
        self,
        sender: int,
        term: int,
        after: tuple[int, int],
        terms: Sequence[int] = (),
        commit: int = 1,
        changes: Mapping[int, Change] = {},
    ) -> None:
        """The leader of `term` appends entries of `terms` after the one at `after`."""
        previous, previous_term = after
        entries = [
            Entry(
                self.membership(changes[index])
                if index in changes
                else self.command(text(index, its_term)),
                index,
                its_term,
            )
            for index, its_term in enumerate(terms, previous + 1)
        ]
        self.hear(sender, Append(term, commit, previous, previous_term, entries))

    def ack(self, sender: int, index: int, term: int | None = None) -> None:
        """A follower says that it holds everything up to `index`."""
        self.hear(sender, Appended(index + 1, reset=False, success=True), term)

    def asks_for_vote(self, sender: int, term: int, last: tuple[int, int]) -> bool:
        """A candidate whose log ends with `last` asks; returns whether it got the vote."""
        self.sent.clear()
        self.hear(sender, VoteRequest(term, *last), term)
        return (sender, Vote(term)) in self.sent

    def campaign(self) -> None:
        """Let time pass until it asks for votes; every other node would give it one."""
        self.sent.clear()
        for _ in range(500):
            self.later(STEP_S)
            for node, message in list(self.sent):
                if isinstance(message, PreVoteRequest):
                    self.grant_pre_vote(node, message)
            if any(isinstance(message, VoteRequest) for _, message in self.sent):
                return
        raise AssertionError("it never campaigns")

    def grant_pre_vote(self, sender: int, request: PreVoteRequest) -> None:
        """Only ours asks for it."""
        raise AssertionError(f"node {sender} was asked {request}")

    def elect(self, *voters: int) -> None:
        """It campaigns, and gets these votes besides its own."""
        self.campaign()
        for voter in voters:
            self.hear(voter, Vote(self.term))

    def said_to(self, node_id: int) -> list[Any]:
        """What it said to one node."""
        return [message for node, message in self.sent if node == node_id]

    @property
    def last(self) -> tuple[int, int]:
        return self.log[-1]

    @property
    def claimed(self) -> int:
        """The last index that it said to hold in common with the leader."""
        claims = [
            message.next_node_idx - 1
            for _, message in self.sent
            if isinstance(message, Appended) and message.success
        ]
        return max(claims, default=0)


def carry(sender: Subject, receiver: Subject) -> None:
    """Deliver all that one member has said to another, which then ticks."""
    said, sender.sent[:] = list(sender.sent), []
    for to, message in said:
        if to == receiver.node_id:
            receiver.receive(sender.node_id, message, sender.term)
    receiver.tick()


class Make(Protocol):
    """Makes a member of a cluster of so many; its files are in `folder`, or nowhere."""

    def __call__(
        self, node_id: int = 1, members: int = 3, folder: Path | None = None
    ) -> Subject: ...
