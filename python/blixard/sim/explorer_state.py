"""One node as a value: its disk and its memory, taken out of a running engine and put back.

The explorer visits each node state often, in clusters that differ elsewhere. So a node's state is a
tuple that can be compared, and what a node does with an input is computed once by the shipped
engine, which takes on any state. What never matters again is left out, so that equal states are
found equal: counters whose order alone counts (transactions, lives, message numbers), the books of
a leader that no longer leads, and times. The clock stands still: a deadline has passed or has not,
and it passes when the explorer says so. News of a commit are always due, for ticks are 20 ms apart.
"""

from typing import Final, NamedTuple, TypeVar

import msgspec

from blixard.raft import snapshot as snapshots
from blixard.raft.engine import RaftTimings
from blixard.raft.journal import Head, Mark, mark_of
from blixard.raft.seal import seal, unseal
from blixard.raft.snapshot import Snapshot
from blixard.raft.store import Batch, Row, Stored
from blixard.raft.wire import Change, Entry, Member

NOW_S: Final = 1000.0
"""What the clock always says."""
CLUSTER_ID: Final = "c"
SEQUENCE: Final = 10
"""The number that the last transaction of every node has."""
FOUNDED_INDEX: Final = 1
"""The log begins after this entry, which is in the snapshot that every node begins with."""
TIMINGS: Final = RaftTimings(proposal_timeout_ms=10**9, snapshot_entries=10**9)

T = TypeVar("T")


def address_of(node: int) -> str:
    """Where a node is reached."""
    return f"n{node}"


class Disk(NamedTuple):
    """What survives a crash."""

    head: Head
    rows: tuple[Row, ...]
    snapshot: bytes | None
    mark: Mark
    """The newer one. The other is written next, so that it is never read."""


class Following(NamedTuple):
    """A leader's book about one member; see `replicate.Progress`."""

    member: int
    next_index: int
    match_index: int
    library_match: int | None
    """What the library counts; None if it does not know the member."""
    probing: bool
    probe_is_due: bool
    ahead: tuple[int, ...]
    told_commit: int
    transfer: tuple[int, bytes, int] | None
    """Its number, the whole snapshot, and how much of it has arrived."""
    chunk_is_due: bool


class Memory(NamedTuple):
    """What a crash loses."""

    entries: tuple[Entry, ...]
    chains: tuple[bytes, ...]
    changes: tuple[tuple[int, Change], ...]
    snapshot: bytes | None
    snapshot_is_new: bool
    stored_to: int
    journal_vote: tuple[int, int | None]
    """Term and vote."""
    journal_commit: int
    role: int
    term: int
    vote: int | None
    leader: int | None
    votes: tuple[int, tuple[int, ...]] | None
    """Of a candidate: how many the library has counted, and whose."""
    pre_votes: tuple[int, ...] | None
    """Who would vote for this node in the next term, if it has asked."""
    election_is_due: bool
    transfer_in_progress: bool
    commit: int
    applied: int
    noop: int | None
    """Of a leader: its first entry."""
    following: tuple[Following, ...]
    members: tuple[tuple[int, Member], ...]
    transfers: int
    incoming: tuple[tuple[int, int, int] | None, bytes]
    waiting: tuple[tuple[int, tuple[tuple[int, bytes], ...]], ...]
    """By index, the term and the entry of each proposal that waits."""
    history: tuple[tuple[int, bytes], ...]
    """What the state machine has applied."""


class NodeState(NamedTuple):
    """All of a node; without memory it is not running."""

    disk: Disk
    memory: Memory | None


class History:
    """A state machine that is its history."""

    def __init__(self) -> None:
        self.applied: list[tuple[int, bytes]] = []

    def apply(self, index: int, entry: bytes) -> object:
        self.applied.append((index, entry))
        return entry

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.applied)

    def restore(self, data: bytes, index: int) -> None:  # noqa: ARG002 - the state tells it
        self.applied = msgspec.msgpack.decode(data, type=list[tuple[int, bytes]])


class MemoryDisk:
    """A store that takes on any state. It writes nothing but whole transactions."""

    def __init__(self, disk: Disk) -> None:
        self._snapshot: bytes | None = None
        self.put(disk)

    def head(self) -> Head:
        """What the last transaction left behind."""
        return _decoded(self._head, Head)

    def put(self, disk: Disk) -> None:
        self._head = seal(msgspec.msgpack.encode(disk.head))
        self._rows = {row.index: row for row in disk.rows}
        self._snapshot = disk.snapshot
        self._mark = seal(msgspec.msgpack.encode(disk.mark))
        self.before_mark: bytes | None = None
        """The mark before the last transaction; None if there was none since `put`."""

    def take(self, *, torn: bool = False) -> Disk:
        """What is on the disk; if `torn`, as it was before the last mark was written."""
        head = self.head()
        mark = _decoded(self.before_mark if torn and self.before_mark else self._mark, Mark)
        shift = SEQUENCE - head.sequence
        return Disk(
            msgspec.structs.replace(head, sequence=SEQUENCE, opened=1),
            tuple(self._rows[index] for index in sorted(self._rows)),
            self._snapshot,
            msgspec.structs.replace(mark, sequence=mark.sequence + shift),
        )

    def load(self) -> Stored | None:
        return Stored(self._head, self._snapshot, [self._rows[i] for i in sorted(self._rows)])

    def commit(self, batch: Batch) -> None:
        self._head = batch.head
        keep = {i: row for i, row in self._rows.items() if batch.base < i <= batch.keep_to}
        self._rows = keep | {row.index: row for row in batch.rows}
        self._snapshot = batch.snapshot or self._snapshot

    def read_marks(self) -> list[bytes]:
        return [self._mark, b""]

    def write_mark(self, slot: int, mark: bytes) -> None:  # noqa: ARG002 - the older is not kept
        self.before_mark, self._mark = self._mark, mark

    def close(self) -> None: ...


def _decoded(data: bytes, kind: type[T]) -> T:
    payload = unseal(data)
    assert payload is not None
    return msgspec.msgpack.decode(payload, type=kind)


def founded(node: int, nodes: int) -> NodeState:
    """A node of a cluster whose founding is in a snapshot, before its first election."""
    chain = b"founded".ljust(16, b"\0")
    members = {member: Member(address_of(member), member) for member in range(1, nodes + 1)}
    snapshot = Snapshot(FOUNDED_INDEX, 0, chain, members, History().snapshot())
    index = FOUNDED_INDEX
    head = Head(
        sequence=SEQUENCE,
        cluster_id=CLUSTER_ID,
        node_id=node,
        birth=node,
        opened=1,
        term=0,
        vote=None,
        commit_index=index,
        base_index=index,
        base_term=0,
        base_chain=chain,
        last_index=index,
        last_chain=chain,
    )
    return NodeState(Disk(head, (), snapshots.encode(snapshot), mark_of(head)), None)


def snapshot_of(data: bytes) -> Snapshot:
    """The snapshot that `data` holds."""
    snapshot = snapshots.decode(data)
    assert snapshot is not None
    return snapshot
