"""The journal: the log and the vote in memory, and what of it the store does not hold yet.

The library reads and writes it like a list. Everything since the last transaction is made durable
in the next one; nothing may leave this node before.

Every entry is chained: its hash covers the hash of the entry before, its index, its term and its
data. So one hash stands for the whole log up to an entry, on every node alike, and a row that is
damaged, missing or swapped is noticed when the journal is read.
"""
# ruff: noqa: N802 - the library calls these names

from dataclasses import dataclass
from typing import Any, Final, overload

import msgspec

from blixard.raft import snapshot as snapshots
from blixard.raft.seal import digest, seal
from blixard.raft.snapshot import Snapshot
from blixard.raft.store import Batch, Row, Store
from blixard.raft.wire import Entry, Kind, Member, membership_of

ORIGIN: Final = bytes(16)
"""The chained hash before the first entry."""


class Head(msgspec.Struct, frozen=True):
    """What a transaction leaves behind, besides entries."""

    sequence: int
    """How many transactions there were."""
    cluster_id: str
    node_id: int
    birth: int
    """Drawn when the journal began: one that begins anew in its place is another node."""
    opened: int
    """How often the journal was opened: tells this life of the node from its earlier ones."""
    term: int
    vote: int | None
    """The node that got this node's vote in `term`."""
    commit_index: int
    base_index: int
    """The entry before the first that is kept, with its term and chained hash."""
    base_term: int
    base_chain: bytes
    last_index: int
    last_chain: bytes


class Mark(msgspec.Struct, frozen=True):
    """The high-water mark: the end of the last transaction, kept apart from the transactions."""

    sequence: int
    last_index: int
    term: int
    vote: int | None
    last_chain: bytes


def mark_of(head: Head) -> Mark:
    """The mark that is written after the transaction that wrote `head`."""
    return Mark(head.sequence, head.last_index, head.term, head.vote, head.last_chain)


def link(chain: bytes, entry: Entry) -> bytes:
    """The chained hash at `entry`, given the one before it."""
    numbers = entry.index.to_bytes(8, "big") + entry.term.to_bytes(8, "big")
    return digest(chain + numbers + entry.data)


@dataclass(frozen=True, slots=True)
class Write:
    """One transaction of the journal, as it is to be made durable."""

    head: Head
    batch: Batch


class Journal:
    """The log from `base_index` on, in memory and in a store.

    The first element is not an entry but the place before the first: the library needs its index
    and term to match what a leader sends next. Raises what the store raises.
    """

    def __init__(
        self, store: Store, head: Head, entries: list[Entry], snapshot: Snapshot | None
    ) -> None:
        self._store = store
        self._head = self._durable = head
        """The end of the last transaction that was prepared, and of the last in the store."""
        self._entries = [Entry(bytes([Kind.EMPTY]), head.base_index, head.base_term), *entries]
        self._chains = [head.base_chain]
        for entry in entries:
            self._chains.append(link(self._chains[-1], entry))
        self._changes = [
            (entry.index, change)
            for entry in entries
            if (change := membership_of(entry.data)) is not None
        ]
        self.snapshot = snapshot
        self._term, self._vote = head.term, head.vote
        self._commit_index = head.commit_index
        self._opened = head.opened
        self._stored_to = head.last_index
        """Entries up to here are in the store as they are here, or in a transaction that is being
        written."""
        self._snapshot_is_new = False

    def open(self) -> None:
        """Begin a new life of this node: no earlier one used the same number."""
        self._opened += 1

    @property
    def cluster_id(self) -> str:
        return self._head.cluster_id

    @property
    def node_id(self) -> int:
        return self._head.node_id

    @property
    def birth(self) -> int:
        return self._head.birth

    @property
    def opened(self) -> int:
        return self._opened

    @property
    def base_index(self) -> int:
        """The index before the first entry that is kept."""
        return self._entries[0].index

    @property
    def last_index(self) -> int:
        return self._entries[-1].index

    @property
    def last_term(self) -> int:
        return self._entries[-1].term

    @property
    def commit_index(self) -> int:
        return self._commit_index

    @property
    def snapshot_index(self) -> int:
        """What the snapshot includes; 0 without one."""
        return self.snapshot.index if self.snapshot else 0

    def term_at(self, index: int) -> int:
        """The term of the entry at `index`, which must lie between base and last."""
        return self._entries[index - self.base_index].term

    def batch_from(self, index: int, size_bytes: int) -> list[Entry]:
        """Entries from `index` on, until their sizes reach `size_bytes`; at least one if any."""
        first = index - self.base_index
        end, size = first, 0
        while end < len(self._entries) and size < size_bytes:
            size += len(self._entries[end].data)
            end += 1
        return self._entries[first:end]

    def members(self, at: int | None = None) -> dict[int, Member]:
        """The configuration as of the entry at `at`, or of the last one, in order of the ids.

        A change counts from the moment it is in the log, committed or not (the thesis, section
        4.1). `at` must not lie before the snapshot.
        """
        members = dict(self.snapshot.members) if self.snapshot else {}
        for index, change in self._changes:
            if self.snapshot_index < index <= (self.last_index if at is None else at):
                if change.add:
                    members[change.node_id] = Member(change.address, change.birth)
                else:
                    members.pop(change.node_id, None)
        return dict(sorted(members.items()))

    def last_change(self) -> int:
        """The index of the last entry that changes the configuration; 0 if none is kept."""
        return self._changes[-1][0] if self._changes else 0

    def compact(self, index: int, state: bytes, keep: int) -> None:
        """Replace everything up to `index` by a snapshot; `keep` entries before it stay, for
        members that are a little behind."""
        assert self.snapshot_index < index <= self._commit_index
        position = index - self.base_index
        members = self.members(index)
        self.snapshot = Snapshot(
            index, self._entries[position].term, self._chains[position], members, state
        )
        self._snapshot_is_new = True
        self._drop_before(max(0, position - keep))

    def install(self, snapshot: Snapshot) -> None:
        """Take over the leader's snapshot, which this log does not reach or contradicts."""
        assert snapshot.index > self._commit_index
        self.snapshot = snapshot
        self._snapshot_is_new = True
        self._entries = [Entry(bytes([Kind.EMPTY]), snapshot.index, snapshot.term)]
        self._chains = [snapshot.chain]
        self._changes = []
        self._stored_to = self._commit_index = snapshot.index

    def prepare(self) -> Write | None:
        """What there is to write, as one transaction; None if there is nothing. A commit index that
        moved alone is not worth a write: it is learned again. What changes afterwards belongs to
        the next transaction, which must not be prepared before this one is durable."""
        assert self.is_durable, "one transaction at a time"
        head = self._next_head()
        if head is None:
            return None
        first_new = max(self._stored_to, self.base_index) - self.base_index + 1
        rows = [
            Row(entry.index, entry.term, entry.data, chain)
            for entry, chain in zip(
                self._entries[first_new:], self._chains[first_new:], strict=True
            )
        ]
        snapshot = None
        if self._snapshot_is_new and self.snapshot is not None:
            snapshot = snapshots.encode(self.snapshot)
        batch = Batch(
            seal(msgspec.msgpack.encode(head)), head.base_index, self._stored_to, rows, snapshot
        )
        self._head = head
        self._stored_to = self.last_index
        self._snapshot_is_new = False
        return Write(head, batch)

    def write(self, write: Write) -> None:
        """Make a transaction durable. Takes as long as the disk does, and may be done in another
        thread: nobody else touches the store meanwhile."""
        self._store.commit(write.batch)
        write_mark(self._store, write.head)
        self._durable = write.head

    def flush(self) -> bool:
        """Make everything durable now; False if there was nothing to write."""
        write = self.prepare()
        if write is None:
            return False
        self.write(write)
        return True

    @property
    def is_durable(self) -> bool:
        """Whether all that was prepared is in the store."""
        return self._durable is self._head

    def _next_head(self) -> Head | None:
        head = Head(
            sequence=self._head.sequence,
            cluster_id=self._head.cluster_id,
            node_id=self._head.node_id,
            birth=self._head.birth,
            opened=self._opened,
            term=self._term,
            vote=self._vote,
            commit_index=self._head.commit_index,
            base_index=self.base_index,
            base_term=self._entries[0].term,
            base_chain=self._chains[0],
            last_index=self.last_index,
            last_chain=self._chains[-1],
        )
        if head == self._head and not self._snapshot_is_new:
            return None
        return msgspec.structs.replace(
            head, sequence=head.sequence + 1, commit_index=self._commit_index
        )

    def _drop_before(self, position: int) -> None:
        """Forget the entries before `position`; what is there becomes the base."""
        base = self._entries[position]
        kept = self._entries[position + 1 :]
        self._entries = [Entry(bytes([Kind.EMPTY]), base.index, base.term), *kept]
        self._chains = self._chains[position:]
        self._changes = [change for change in self._changes if change[0] > base.index]

    # What the library calls.

    def add(self, data: bytes, index: int, term: int) -> None:
        """Append an entry."""
        assert index == self.last_index + 1, "the log has no holes"
        assert term >= self.last_term, "terms never decrease along the log"
        entry = Entry(data, index, term)
        self._chains.append(link(self._chains[-1], entry))
        self._entries.append(entry)
        change = membership_of(data)
        if change is not None:
            self._changes.append((index, change))

    def deleteEntriesFrom(self, position: int) -> None:
        """Drop a suffix that the leader does not have."""
        first = self._entries[position].index
        assert first > self._commit_index, "a committed entry is never dropped"
        del self._entries[position:]
        del self._chains[position:]
        self._changes = [change for change in self._changes if change[0] < first]
        self._stored_to = min(self._stored_to, first - 1)

    @overload
    def __getitem__(self, item: int) -> Entry: ...

    @overload
    def __getitem__(self, item: "slice[Any, Any, Any]") -> list[Entry]: ...

    def __getitem__(self, item: "int | slice[Any, Any, Any]") -> Entry | list[Entry]:
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    def setRaftCommitIndex(self, index: int) -> None:
        """Everything up to `index` is decided for ever."""
        assert self._commit_index <= index <= self.last_index
        self._commit_index = index

    def getRaftCommitIndex(self) -> int:
        return self._commit_index

    def setCurrentTerm(self, term: int, vote: int | None) -> None:
        """Enter a term, or vote in it."""
        assert term > self._term or (term == self._term and self._vote in (None, vote))
        self._term, self._vote = term, vote

    def getCurrentTerm(self) -> int:
        return self._term

    def getVotedForNodeId(self) -> int | None:
        return self._vote

    def onOneSecondTimer(self) -> None:
        """The library's time to sync; we do that before anything is told."""


def write_mark(store: Store, head: Head) -> None:
    """Note outside the database that `head` is durable."""
    store.write_mark(head.sequence % 2, seal(msgspec.msgpack.encode(mark_of(head))))
