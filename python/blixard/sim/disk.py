"""A simulated disk: what a node's journal wrote, and what a disk may do to it.

It answers the five calls of `raft.store.Store`. A transaction is there wholly or not at all, as
SQLite promises; everything else that real disks do, it does when a fault tells it to.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol

from blixard.errors import BlixardError, Code
from blixard.raft.store import Batch, Row, Stored

UNDO_BATCHES: Final = 4
"""So many transactions can be lost by a disk that lied about having synced them."""


class PowerCut(BaseException):
    """The process is gone, in the middle of whatever it did. Nothing may catch it but its host."""


class Owner(Protocol):
    """The process that uses a disk."""

    def point(self, kind: str) -> None:
        """A moment at which the process may die. Raises `PowerCut`."""
        ...


@dataclass(slots=True)
class _Image:
    head: bytes
    snapshot: bytes | None
    rows: dict[int, Row]
    first: int
    """No row has a lower index."""
    last: int


@dataclass(frozen=True, slots=True)
class _Undo:
    head: bytes
    snapshot: bytes | None
    dropped: list[Row]
    added: list[int]


@dataclass(slots=True)
class Disk:
    """What outlives the process, and the host."""

    random: Random
    fsync_us: tuple[int, int]
    bit: Callable[[str], None]
    committed: Callable[[Batch], None]
    """Told of each transaction: the checkers know what was once durable, whatever happens to it."""
    image: _Image | None = None
    marks: list[bytes] = field(default_factory=list)
    undo: deque[_Undo] = field(default_factory=lambda: deque(maxlen=UNDO_BATCHES))
    commits: int = 0
    marked: int = 0
    """How many transactions there were, and up to which the mark says so."""
    full: bool = False
    failing: bool = False
    slow: int = 1
    """By how much syncing takes longer than usual."""
    damage: str = ""
    """What a fault did to the contents; the node must refuse to start with them."""

    def sync_us(self) -> int:
        """How long the next transaction takes."""
        if self.slow > 1:
            self.bit("slow-fsync")
        return self.random.randint(*self.fsync_us) * self.slow

    def wipe(self) -> None:
        """Nothing is left."""
        self.image, self.marks, self.damage = None, [], ""
        self.commits = self.marked = 0
        self.undo.clear()

    def lose_tail(self) -> bool:
        """The last transactions are gone, although they were synced: a WAL cut short."""
        if not self.undo:
            return False
        image = self.image
        assert image is not None
        for _ in range(self.random.randint(1, len(self.undo))):
            undo = self.undo.pop()
            self.commits -= 1
            for index in undo.added:
                del image.rows[index]
            image.rows.update((row.index, row) for row in undo.dropped)
            image.head, image.snapshot = undo.head, undo.snapshot
        self.undo.clear()
        if self.commits >= self.marked:
            return False  # Nothing was told of what is lost.
        self.damage = "lost-tail"
        return True

    def flip_bit(self) -> bool:
        """One bit of what is kept is wrong."""
        image = self.image
        if image is None:
            return False
        places = [
            "head",
            *(["snapshot"] if image.snapshot else []),
            *(["row"] if image.rows else []),
        ]
        match self.random.choice(places):
            case "head":
                image.head = self._flipped(image.head)
            case "snapshot":
                assert image.snapshot is not None
                image.snapshot = self._flipped(image.snapshot)
            case _:
                index = self.random.choice(sorted(image.rows))
                row = image.rows[index]
                if self.random.random() < 0.5:
                    image.rows[index] = row._replace(data=self._flipped(row.data))
                else:
                    image.rows[index] = row._replace(term=row.term ^ 1)
        self.damage = "bit-flip"
        return True

    def _flipped(self, data: bytes) -> bytes:
        changed = bytearray(data)
        changed[self.random.randrange(len(changed))] ^= 1 << self.random.randrange(8)
        return bytes(changed)


class DiskStore:
    """One process's `Store` on a disk."""

    def __init__(self, disk: Disk, owner: Owner) -> None:
        self._disk = disk
        self._owner = owner

    def load(self) -> Stored | None:
        image = self._disk.image
        if image is None:
            return None
        rows: list[tuple[object, object, object, object]] = [
            image.rows[index] for index in sorted(image.rows)
        ]
        return Stored(image.head, image.snapshot, rows)

    def commit(self, batch: Batch) -> None:
        disk, owner = self._disk, self._owner
        owner.point("journal, before a commit")
        if disk.full:
            disk.bit("full-disk")
            raise _unwritable("database or disk is full")
        if disk.failing and disk.random.random() < 0.5:
            disk.bit("fsync-error")
            raise _unwritable("disk I/O error")
        self._write(batch)
        if disk.failing:
            # The data got there, the answer did not; after a restart it is as if it was committed.
            disk.bit("fsync-error")
            raise _unwritable("disk I/O error")
        owner.point("journal, after a commit")

    def _write(self, batch: Batch) -> None:
        disk = self._disk
        image = disk.image
        if image is None:
            image = disk.image = _Image(batch.head, None, {}, 1, 0)
        else:
            dropped = [
                image.rows.pop(index)
                for index in (
                    *range(image.first, batch.base + 1),
                    *range(max(image.first, batch.keep_to + 1), image.last + 1),
                )
                if index in image.rows
            ]
            added = [row.index for row in batch.rows]
            disk.undo.append(_Undo(image.head, image.snapshot, dropped, added))
        image.head = batch.head
        image.snapshot = batch.snapshot or image.snapshot
        image.first = max(image.first, batch.base + 1)
        image.last = min(image.last, batch.keep_to)
        for row in batch.rows:
            assert row.index not in image.rows, "a row is inserted once"
            image.rows[row.index] = row
            image.last = row.index
        disk.commits += 1
        disk.committed(batch)

    def read_marks(self) -> list[bytes]:
        return list(self._disk.marks)

    def write_mark(self, slot: int, mark: bytes) -> None:
        disk = self._disk
        disk.marks = disk.marks or [b"", b""]
        try:
            self._owner.point("journal, in a mark")
        except PowerCut:
            # A sector that was being written when the power failed.
            disk.marks[slot] = mark[: len(mark) // 2]
            disk.bit("torn-write")
            raise
        disk.marks[slot] = mark
        disk.marked = disk.commits
        self._owner.point("journal, after a mark")

    def close(self) -> None: ...


def _unwritable(why: str) -> BlixardError:
    return BlixardError(
        f"the journal cannot be written: {why}",
        remedy="look at the disk: is it full, or failing? Then start the node again",
        code=Code.DATA_UNUSABLE,
    )
