"""Where the journal is kept: a port of five calls, and SQLite behind it.

A store keeps bytes and gives them back. It need not notice that a disk lies: the journal seals what
it writes, and checks it when it reads.
"""

import fcntl
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from blixard.errors import BlixardError, Code
from blixard.ports import UNMEASURED, Meters, Timed


class Row(NamedTuple):
    """One log entry as it is kept, with the hash that chains it to all entries before."""

    index: int  # type: ignore[assignment]  # not the method of tuples
    term: int
    data: bytes
    chain: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """All that a store holds. Where a disk lies, the types can be wrong as well as the values."""

    head: object
    snapshot: object | None
    rows: list[tuple[object, object, object, object]]
    """As `Row`, in the order of their indices."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction writes. Rows with an index above `keep_to` or up to `base` are deleted,
    then `rows` are added; a snapshot of None leaves the one that is there."""

    head: bytes
    base: int
    keep_to: int
    rows: list[Row]
    snapshot: bytes | None


class CorruptJournal(BlixardError):
    """What was kept here is not what was written. This node must neither vote nor acknowledge."""

    code = Code.DATA_CORRUPT

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the journal is damaged: {what}",
            remedy="remove this node from the cluster, empty its data directory, and add it again",
        )


class Store(Protocol):
    """Durable memory for one node's journal. Every write is durable when the call returns."""

    def load(self) -> Stored | None:
        """All that was committed; None if nothing ever was. Raises `CorruptJournal`, and
        `BlixardError` if the disk fails."""
        ...

    def commit(self, batch: Batch) -> None:
        """Write all of `batch` or nothing. Raises `BlixardError`, and `CorruptJournal` if damage
        is in the way."""
        ...

    def read_marks(self) -> list[bytes]:
        """The two high-water marks, as they are found; empty if none was ever written. Raises
        `BlixardError` if the disk fails."""
        ...

    def write_mark(self, slot: int, mark: bytes) -> None:
        """Replace the mark in `slot` (0 or 1), at most 512 bytes. Raises `BlixardError`."""
        ...

    def close(self) -> None:
        """Let another process have the store."""
        ...


SLOT_BYTES: Final = 512
"""A mark fits in one disk sector."""
SLOT_DISTANCE: Final = 4096
"""The two marks are kept this far apart, so that a torn page cannot hold both."""

WAL_BYTES: Final = 4 * 1024 * 1024
"""SQLite checkpoints a WAL of 1,000 pages of 4 KiB."""

_SQLITE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite raises: its messages quote what it found, which need not be text."""
_NOT_THE_DATA: Final = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
}
"""Errors that say nothing about what is kept: the disk, or another process, is in the way."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS head (id INTEGER PRIMARY KEY CHECK (id = 1), data BLOB) STRICT;
CREATE TABLE IF NOT EXISTS snapshot (id INTEGER PRIMARY KEY CHECK (id = 1), data BLOB) STRICT;
CREATE TABLE IF NOT EXISTS log (
    idx INTEGER PRIMARY KEY, term INTEGER NOT NULL, data BLOB NOT NULL, chain BLOB NOT NULL
) STRICT;
"""


class SqliteStore:
    """One SQLite database and one file of marks in a directory, locked against a second process.

    WAL with `synchronous=FULL` syncs the WAL at every commit (sqlite.org/pragma.html). SQLite
    drops everything after a damaged WAL frame without an error (sqlite.org/walformat.html, section
    4.1), which is why the marks live in a file of their own.
    """

    def __init__(self, directory: Path, meters: Meters = UNMEASURED) -> None:
        """Open or create the store. Raises `BlixardError` if the disk fails, or the directory is
        unusable or in use, and `CorruptJournal` if the database is damaged."""
        self._meters = meters
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._marks = os.open(directory / "raft.mark", os.O_RDWR | os.O_CREAT, 0o600)
            directory_fd = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(directory_fd)
            finally:
                os.close(directory_fd)
        except OSError as error:
            raise BlixardError(
                f"the data directory cannot be used: {error}",
                remedy="choose another --data-dir, or give this user the right to write there",
                code=Code.DATA_UNUSABLE,
            ) from error
        try:
            fcntl.flock(self._marks, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._marks)
            raise BlixardError(
                f"another process uses {directory}",
                remedy="stop it first, or give this node a data directory of its own",
                code=Code.DATA_UNUSABLE,
            ) from error
        try:
            self._database = _open(directory / "raft.db")
        except _SQLITE_ERRORS as error:
            os.close(self._marks)
            raise _failure(error) from error

    def load(self) -> Stored | None:
        try:
            heads = self._database.execute("SELECT data FROM head").fetchall()
            snapshots = self._database.execute("SELECT data FROM snapshot").fetchall()
            rows = self._database.execute("SELECT idx, term, data, chain FROM log ORDER BY idx")
            stored_rows = rows.fetchall()
        except _SQLITE_ERRORS as error:
            raise _failure(error) from error
        if not heads and not snapshots and not stored_rows:
            return None
        if not heads:
            raise CorruptJournal("its head is gone")
        return Stored(heads[0][0], snapshots[0][0] if snapshots else None, stored_rows)

    def commit(self, batch: Batch) -> None:
        run, synced = self._database.execute, self._meters.timed(Timed.JOURNAL_SYNC)
        try:
            run("BEGIN IMMEDIATE")
            run("DELETE FROM log WHERE idx <= ?", (batch.base,))
            run("DELETE FROM log WHERE idx > ?", (batch.keep_to,))
            self._database.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", batch.rows)
            if batch.snapshot is not None:
                run("INSERT OR REPLACE INTO snapshot VALUES (1, ?)", (batch.snapshot,))
            run("INSERT OR REPLACE INTO head VALUES (1, ?)", (batch.head,))
            run("COMMIT")
        except _SQLITE_ERRORS as error:
            raise _failure(error) from error
        synced()

    def read_marks(self) -> list[bytes]:
        try:
            if os.fstat(self._marks).st_size == 0:
                return []
            return [os.pread(self._marks, SLOT_BYTES, slot * SLOT_DISTANCE) for slot in (0, 1)]
        except OSError as error:
            raise _failure(error) from error

    def write_mark(self, slot: int, mark: bytes) -> None:
        assert slot in (0, 1)
        assert len(mark) <= SLOT_BYTES
        synced = self._meters.timed(Timed.JOURNAL_SYNC)
        try:
            os.pwrite(self._marks, mark.ljust(SLOT_BYTES, b"\0"), slot * SLOT_DISTANCE)
            os.fdatasync(self._marks)
        except OSError as error:
            raise _failure(error) from error
        synced()

    def close(self) -> None:
        self._database.close()
        os.close(self._marks)


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        # Exclusive before WAL: no shared-memory file is needed (sqlite.org/wal.html, section 8).
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
            database.execute(f"PRAGMA {pragma}")
        database.execute("PRAGMA cell_size_check=ON")
        database.executescript(_SCHEMA)
        _make_room(database)
    except _SQLITE_ERRORS:
        database.close()
        raise
    return database


def _make_room(database: sqlite3.Connection) -> None:
    """Give the WAL the size that it has at most. It is reused from its start after a checkpoint,
    and to write into a file is much faster than to make it longer: the file system's own journal
    need not be synced as well."""
    database.execute("BEGIN IMMEDIATE")
    database.execute("CREATE TABLE IF NOT EXISTS room (data BLOB)")
    database.execute("INSERT INTO room VALUES (zeroblob(?))", (WAL_BYTES,))
    database.execute("COMMIT")
    database.execute("DROP TABLE room")
    database.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()


def _failure(error: Exception) -> BlixardError:
    """What an error of SQLite or of the system means for this node."""
    # The low byte is the kind of error (sqlite.org/rescode.html, "Extended Result Codes").
    kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if isinstance(error, OSError) or kind in _NOT_THE_DATA:
        return BlixardError(
            f"the journal cannot be used: {error}",
            remedy="look at the disk: is it full, or failing? Then start the node again",
            code=Code.DATA_UNUSABLE,
        )
    return CorruptJournal(str(error))
