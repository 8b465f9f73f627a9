"""The journal on disk: what is acknowledged stays, and what is damaged is noticed."""

import errno
import os
import resource
import shutil
import sqlite3
from pathlib import Path
from random import Random

import pytest

from blixard.errors import BlixardError, Code
from blixard.raft import store as stores
from blixard.raft.journal import Journal
from blixard.raft.recovery import Identity, bootstrap, identity_of, join, recover
from blixard.raft.store import SLOT_DISTANCE, Batch, CorruptJournal, SqliteStore
from blixard.raft.wire import Entry
from raft.lab import Lab, MemoryStore


def write(directory: Path, *, entries: int, snapshot: bool = False) -> SqliteStore:
    """A journal of several transactions."""
    store = SqliteStore(directory)
    bootstrap(store, "c1", 1, "10.0.0.1:7001", birth=1)
    journal = recover(store, 1)
    journal.setCurrentTerm(2, 1)
    for index in range(2, entries + 1):
        journal.add(b"\0command %d" % index, index, 2)
        if index % 3 == 0:
            journal.setRaftCommitIndex(index)
            journal.flush()
        if snapshot and index == entries // 2:
            journal.compact(journal.commit_index, b"state" * 100, keep=5)
    journal.flush()
    return store


def contents(journal: Journal) -> tuple[object, ...]:
    term, vote = journal.getCurrentTerm(), journal.getVotedForNodeId()
    return list(journal[:]), term, vote, journal.members(), journal.snapshot


def copied(source: Path, target: Path) -> Path:
    """The files as a crash leaves them."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    return target


def reopen(directory: Path) -> tuple[object, ...]:
    store = SqliteStore(directory)
    try:
        return contents(recover(store, 1))
    finally:
        store.close()


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << (position % 8)
    path.write_bytes(data)


def test_what_was_flushed_is_there_after_a_restart(tmp_path: Path) -> None:
    store = write(tmp_path / "a", entries=30, snapshot=True)
    before = contents(recover(store, 1))
    assert reopen(copied(tmp_path / "a", tmp_path / "crashed")) == before
    store.close()
    assert reopen(tmp_path / "a") == before


def test_what_was_not_flushed_is_gone(tmp_path: Path) -> None:
    store = write(tmp_path / "a", entries=30)
    journal = recover(store, 1)
    before = contents(journal)
    journal.add(b"\0more", 31, 2)
    journal.setCurrentTerm(3, None)
    assert reopen(copied(tmp_path / "a", tmp_path / "crashed")) == before
    store.close()


def test_a_truncated_and_rewritten_tail_is_kept_as_rewritten(tmp_path: Path) -> None:
    store = write(tmp_path / "a", entries=29)
    journal = recover(store, 1)
    journal.deleteEntriesFrom(28)
    journal.setCurrentTerm(3, None)
    journal.add(b"\0other", 28, 3)
    assert journal.flush()
    assert not journal.flush(), "nothing is left to write"
    store.close()
    assert reopen(tmp_path / "a")[:2] == (list(journal[:]), 3)
    assert journal[-1] == Entry(b"\0other", 28, 3)


@pytest.mark.parametrize("name", ["raft.db-wal", "raft.db"])
def test_no_flipped_bit_is_taken_for_the_truth(tmp_path: Path, name: str) -> None:
    """Wherever a bit flips, either the journal is refused or nothing that counts has changed."""
    store = write(tmp_path / "a", entries=120, snapshot=True)
    before = contents(recover(store, 1))
    if name == "raft.db":
        store.close()
    size = (tmp_path / "a" / name).stat().st_size
    random = Random(1)
    refused = 0
    for _ in range(150):
        damaged = copied(tmp_path / "a", tmp_path / "damaged")
        flip(damaged / name, random.randrange(size))
        try:
            assert reopen(damaged) == before
        except CorruptJournal:
            refused += 1
        shutil.rmtree(damaged)
    if name != "raft.db":
        store.close()
    assert refused > 20


def test_a_wal_that_lost_its_end_is_noticed(tmp_path: Path) -> None:
    store = write(tmp_path / "a", entries=60)
    wal = (tmp_path / "a" / "raft.db-wal").read_bytes()
    for size in range(0, len(wal) - 1, len(wal) // 40):
        damaged = copied(tmp_path / "a", tmp_path / "damaged")
        (damaged / "raft.db-wal").write_bytes(wal[:size])
        with pytest.raises(CorruptJournal) as raised:
            reopen(damaged)
        assert raised.value.remedy.startswith("remove this node from the cluster")
        shutil.rmtree(damaged)
    store.close()


def test_a_crash_between_a_transaction_and_its_mark_is_no_damage(tmp_path: Path) -> None:
    store = write(tmp_path / "a", entries=30)
    journal = recover(store, 1)
    mark = (tmp_path / "a" / "raft.mark").read_bytes()
    journal.add(b"\0more", 31, 2)
    journal.flush()
    crashed = copied(tmp_path / "a", tmp_path / "crashed")
    (crashed / "raft.mark").write_bytes(mark)
    assert reopen(crashed) == contents(journal)
    journal.add(b"\0and more", 32, 2)
    journal.flush()
    older = copied(tmp_path / "a", tmp_path / "older")
    (older / "raft.mark").write_bytes(mark)
    with pytest.raises(CorruptJournal, match="another journal"):
        reopen(older)
    store.close()


def test_one_torn_mark_is_survived_but_not_two(tmp_path: Path) -> None:
    store = write(tmp_path / "a", entries=30)
    before = contents(recover(store, 1))
    store.close()
    for slot in (0, 1):
        damaged = copied(tmp_path / "a", tmp_path / f"damaged{slot}")
        flip(damaged / "raft.mark", slot * SLOT_DISTANCE + 30)
        assert reopen(damaged) == before
        assert (damaged / "raft.mark").read_bytes() != b""
    flip(tmp_path / "a" / "raft.mark", 30)
    flip(tmp_path / "a" / "raft.mark", SLOT_DISTANCE + 30)
    with pytest.raises(CorruptJournal, match="mark is gone"):
        reopen(tmp_path / "a")


def test_a_database_that_vanished_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "a", entries=30).close()
    (tmp_path / "a" / "raft.db").unlink()
    with pytest.raises(CorruptJournal, match="empty"):
        reopen(tmp_path / "a")
    (tmp_path / "a" / "raft.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(CorruptJournal, match="not a database"):
        reopen(tmp_path / "a")


def test_a_journal_begins_once_and_belongs_to_one_node(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "a")
    assert identity_of(store) is None
    with pytest.raises(BlixardError, match="belongs to no cluster yet"):
        recover(store, 1)
    join(store, "c1", 4)
    assert identity_of(store) == Identity("c1", 4)
    with pytest.raises(BlixardError, match="already belongs"):
        join(store, "c1", 4)
    with pytest.raises(BlixardError, match="already belongs"):
        bootstrap(store, "c2", 4, "10.0.0.4:7001")
    with pytest.raises(BlixardError, match="belongs to node 4, not to node 5"):
        recover(store, 5)
    assert recover(store, 4).members() == {}
    store.close()


def test_births_differ(tmp_path: Path) -> None:
    births = set()
    for name in "ab":
        store = SqliteStore(tmp_path / name)
        join(store, "c1", 4)
        births.add(recover(store, 4).birth)
        store.close()
    assert len(births) == 2


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "a")
    with pytest.raises(BlixardError, match="another process uses"):
        SqliteStore(tmp_path / "a")
    store.close()
    SqliteStore(tmp_path / "a").close()


def test_an_unusable_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BlixardError, match="cannot be used") as raised:
        SqliteStore(tmp_path / "file" / "a")
    assert raised.value.remedy


def test_a_disk_that_fails_is_not_called_damage(tmp_path: Path) -> None:
    """Else its owner would be told to empty the data directory."""
    write(tmp_path / "a", entries=30).close()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(BlixardError, match="disk I/O error") as raised:
            reopen(tmp_path / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.code is Code.DATA_UNUSABLE
    assert raised.value.remedy.startswith("look at the disk")
    reopen(tmp_path / "a")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (sqlite3.SQLITE_BUSY, Code.DATA_UNUSABLE),
        (sqlite3.SQLITE_CANTOPEN, Code.DATA_UNUSABLE),
        (sqlite3.SQLITE_FULL, Code.DATA_UNUSABLE),
        (sqlite3.SQLITE_IOERR | 5 << 8, Code.DATA_UNUSABLE),
        (sqlite3.SQLITE_CORRUPT, Code.DATA_CORRUPT),
        (sqlite3.SQLITE_READONLY, Code.DATA_CORRUPT),
        (sqlite3.SQLITE_ERROR, Code.DATA_CORRUPT),
    ],
)
def test_each_error_of_sqlite_says_whether_the_data_is_damaged(kind: int, code: Code) -> None:
    error = sqlite3.DatabaseError("the reason")
    error.sqlite_errorcode = kind
    failure = stores._failure(error)
    assert failure.code is code
    assert "the reason" in failure.message


def test_damage_that_sqlite_cannot_put_in_words_is_damage(tmp_path: Path) -> None:
    write(tmp_path / "a", entries=30).close()
    path = tmp_path / "a" / "raft.db"
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE log", b"CREATE TAB\xccE log"))
    for _ in range(2):
        with pytest.raises(CorruptJournal, match="utf-8"):
            reopen(tmp_path / "a")


def test_damage_that_is_met_by_a_write_is_damage(tmp_path: Path) -> None:
    write(tmp_path / "a", entries=30).close()
    database = sqlite3.connect(tmp_path / "a" / "raft.db")
    (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'head'").fetchone()
    database.close()
    flip(tmp_path / "a" / "raft.db", (page - 1) * 4096 + 1)
    damaged = SqliteStore(tmp_path / "a")
    journal = recover(damaged, 1)
    journal.setCurrentTerm(3, 1)
    with pytest.raises(CorruptJournal, match="malformed"):
        journal.flush()
    damaged.close()


def test_marks_that_cannot_be_read_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    kept = write(tmp_path / "a", entries=30)
    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(BlixardError, match="Input/output error") as raised:
        recover(kept, 1)
    assert raised.value.code is Code.DATA_UNUSABLE
    kept.close()


def test_a_disk_that_fails_lets_nothing_leave() -> None:
    class Failing(MemoryStore):
        fails = False

        def commit(self, batch: Batch) -> None:
            if self.fails:
                raise BlixardError("the journal cannot be written: disk I/O error")
            super().commit(batch)

    lab = Lab()
    disk = lab.disks[1] = Failing()
    lab.found(3)
    lab.until(lambda: lab.leader() == 1)
    disk.fails = True
    lab.sent.clear()
    told: list[object] = []
    engine = lab.nodes[1].engine
    engine.propose(b"a", told.append)
    with pytest.raises(BlixardError, match="disk I/O error"):
        engine.tick()
    assert told == []
    assert lab.sent == []
