"""What a member has promised, after its power failed or its disk was damaged."""

import os
import shutil
import sqlite3
import struct
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from blixard.raft import recovery
from blixard.raft.engine import RaftEngine, Turn
from blixard.raft.recovery import recover
from blixard.raft.store import CorruptJournal, SqliteStore
from blixard.v1.raft_pb2 import RaftEnvelope
from schedules.crashes import crashes_of, is_an_error
from schedules.ours import Ours, begin
from schedules.stock import Stock, package
from schedules.subject import TOP, Make, Subject, text


def crashed(folder: Path) -> Path:
    """The files as a crash leaves them now."""
    return shutil.copytree(folder, folder.with_name("crashed"), dirs_exist_ok=True)


# Nothing is synced before it is acknowledged.


class Syncs:
    """Counts what makes files durable."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for name in ("fsync", "fdatasync"):
            self._count(monkeypatch, os, name)
        self._count(monkeypatch, package.journal.ResizableFile, "flush")

    def _count(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def counted(*arguments: Any) -> Any:
            self.count += 1
            return real(*arguments)

        monkeypatch.setattr(owner, name, counted)


def an_entry_and_a_vote(member: Subject) -> None:
    member.append(2, 1, TOP, [1])
    assert member.claimed == 2
    assert member.asks_for_vote(3, 2, (2, 1))


def test_an_entry_and_a_vote_leave_unsynced_on_stock(
    stock: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = stock(folder=tmp_path / "1")
    syncs = Syncs(monkeypatch)
    an_entry_and_a_vote(member)
    assert syncs.count == 0


def test_an_entry_and_a_vote_are_synced_on_ours(
    ours: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite syncs its WAL at each commit when `synchronous` is FULL (2); the mark beside it is
    synced here. Nothing is renamed, so no directory needs to be synced."""
    for name in ("rename", "replace", "renames"):
        monkeypatch.setattr(os, name, is_an_error)
    monkeypatch.setattr(shutil, "move", is_an_error)
    member = ours(folder=tmp_path / "1")
    assert isinstance(member, Ours)
    assert isinstance(member.store, SqliteStore)
    run = member.store._database.execute
    assert run("PRAGMA synchronous").fetchone() == (2,)
    assert run("PRAGMA journal_mode").fetchone() == ("wal",)
    syncs = Syncs(monkeypatch)
    an_entry_and_a_vote(member)
    assert syncs.count >= 2, "a mark for each"


def found_when_sent(member: Ours, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Acknowledge entry 2, and vote in term 2. Returns the last index and the term that a crash
    at the moment of each message leaves on the disk."""
    found: list[tuple[int, int]] = []
    say = member.engine._send

    def sent(receiver: int, address: str, envelope: RaftEnvelope) -> None:
        assert member.folder is not None
        store = SqliteStore(crashed(member.folder))
        journal = recover(store, 1)
        found.append((journal.last_index, journal.getCurrentTerm()))
        store.close()
        say(receiver, address, envelope)

    monkeypatch.setattr(member.engine, "_send", sent)
    an_entry_and_a_vote(member)
    return found


def test_whatever_leaves_is_on_the_disk_on_ours(
    ours: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = ours(folder=tmp_path / "1")
    assert isinstance(member, Ours)
    assert found_when_sent(member, monkeypatch) == [(2, 1), (2, 2)]


def test_what_leaves_early_is_seen_if_an_answer_does_not_wait_for_its_own_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = RaftEngine.end

    def eager(self: RaftEngine, turn: Turn) -> None:
        end(self, replace(turn, letters=turn.letters + self._post.collect()))

    monkeypatch.setattr(RaftEngine, "end", eager)
    member = Ours(1, 3, tmp_path / "1", is_writing=True)
    assert found_when_sent(member, monkeypatch) == [(1, 0), (2, 1)]
    member.close()


# A record has no checksum.


def test_a_damaged_entry_is_applied_on_stock(stock: Make, tmp_path: Path) -> None:
    member = stock(folder=tmp_path / "1")
    member.append(2, 1, TOP, [1])
    member.close()
    journal = tmp_path / "1" / "journal"
    journal.write_bytes(journal.read_bytes().replace(text(2, 1), text(9, 1)))
    member.open()
    member.append(2, 1, (2, 1), commit=2)
    member.tick()
    assert member.applied == [text(9, 1)]


def test_a_damaged_entry_is_found_on_ours(ours: Make, tmp_path: Path) -> None:
    member = ours(folder=tmp_path / "1")
    member.append(2, 1, TOP, [1])
    member.close()
    with closing(sqlite3.connect(tmp_path / "1" / "raft.db")) as database, database:
        (data,) = database.execute("SELECT data FROM log WHERE idx = 2").fetchone()
        wrong = data.replace(text(2, 1), text(9, 1))
        database.execute("UPDATE log SET data = ? WHERE idx = 2", (wrong,))
    with pytest.raises(CorruptJournal, match="checksum of entry 2"):
        member.open()


# The vote is lost, and given again.


def test_a_second_vote_in_the_same_term_on_stock(stock: Make, tmp_path: Path) -> None:
    """The file of the vote is renamed unsynced: after a power failure it can be empty."""
    member = stock(folder=tmp_path / "1")
    assert member.asks_for_vote(2, 7, TOP)
    member.close()
    (tmp_path / "1" / "journal.meta").write_bytes(b"")
    member.open()
    assert member.asks_for_vote(3, 7, TOP)


def a_disk_that_forgot(ours: Make, folder: Path) -> Subject:
    """The vote is given; then the power fails, and the disk has lost the last transaction."""
    member = ours(folder=folder / "1")
    assert isinstance(member, Ours)
    before = crashed(folder / "1")
    assert member.asks_for_vote(2, 7, TOP)
    shutil.copy(folder / "1" / "raft.mark", before)
    return ours(folder=before)


def test_a_vote_that_was_lost_is_noticed_on_ours(ours: Make, tmp_path: Path) -> None:
    with pytest.raises(CorruptJournal, match="below its high-water mark"):
        a_disk_that_forgot(ours, tmp_path)


def test_a_second_vote_is_seen_if_the_mark_is_not_compared(
    weakened: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "_check_mark", lambda *_: None)
    member = a_disk_that_forgot(weakened, tmp_path)
    assert member.asks_for_vote(3, 7, TOP)


def test_a_vote_is_given_once_in_a_term_over_a_restart_on_ours(ours: Make, tmp_path: Path) -> None:
    member = ours(folder=tmp_path / "1")
    assert member.asks_for_vote(2, 7, TOP)
    member.restart()
    assert not member.asks_for_vote(3, 7, TOP)
    assert member.asks_for_vote(3, 8, TOP)


# The journal is written anew, in place, to drop what a snapshot replaces. (Ours: see G.)


class Killed(BaseException):
    """The process ends here."""


def test_a_kill_while_the_journal_is_rewritten_drops_acknowledged_entries_on_stock(
    stock: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = stock(folder=tmp_path / "1")
    member.append(2, 1, TOP, [1] * 29, commit=20)
    journal = package.journal.FileJournal
    add = journal.add

    def killed_at_23(self: Any, command: bytes, index: int, term: int) -> None:
        if index == 23:
            raise Killed
        add(self, command, index, term)

    monkeypatch.setattr(journal, "add", killed_at_23)
    with pytest.raises(Killed):
        member.compact()
    monkeypatch.undo()
    again = stock(folder=crashed(tmp_path / "1"))
    again.tick()
    assert again.last == (22, 1)
    assert again.asks_for_vote(3, 2, (22, 1)), "23 to 30 are lost"


# Where the journal ends, in bytes and in entries.


def test_a_journal_beyond_4_gib_ends_the_member_on_stock(stock: Make, tmp_path: Path) -> None:
    member = stock(folder=tmp_path / "1")
    assert isinstance(member, Stock)
    with pytest.raises(struct.error):
        member.private("raftLog")._FileJournal__setLastRecordOffset(2**32)


def test_indices_of_64_bits_are_kept_on_ours(tmp_path: Path) -> None:
    """There is no offset of our own: SQLite's are of 64 bits."""
    store = SqliteStore(tmp_path / "1")
    begin(store, 1, 3, top=2**40)
    journal = recover(store, 1)
    journal.add(b"\0x", 2**40 + 1, 2**40)
    journal.flush()
    store.close()
    store = SqliteStore(tmp_path / "1")
    assert recover(store, 1)[-1] == (b"\0x", 2**40 + 1, 2**40)
    store.close()


# The commit index is ahead of the journal, and counts for entries that come later.


def a_commit_index_from_before(member: Subject) -> None:
    """Entries 2 to 5 are committed, says the leader of term 1. The power fails, and the journal
    has lost 4 and 5, which are others in term 2, and not committed yet."""
    member.append(2, 1, TOP, [1] * 4, commit=5)
    member.later(2)


def test_entries_are_applied_before_they_are_committed_on_stock(
    stock: Make, tmp_path: Path
) -> None:
    member = stock(folder=tmp_path / "1")
    a_commit_index_from_before(member)
    assert isinstance(member, Stock)
    member.private("raftLog").deleteEntriesFrom(3)
    member.restart()
    member.append(3, 2, (3, 1), [2, 2], commit=3)
    member.tick()
    assert member.applied[-2:] == [text(4, 2), text(5, 2)], "if that leader dies, others may come"


def test_the_commit_index_is_never_ahead_of_the_journal_on_ours(ours: Make, tmp_path: Path) -> None:
    """Both are in one transaction, and a journal that has lost its end is refused."""
    member = ours(folder=tmp_path / "1")
    assert isinstance(member, Ours)
    crashes = crashes_of(member, tmp_path / "crashes")
    a_commit_index_from_before(member)
    member.append(2, 1, (5, 1), [1] * 4, commit=9)
    member.close()
    assert len(crashes) > 10
    for crash in crashes:
        store = SqliteStore(crash)
        journal = recover(store, 1)
        assert journal.commit_index <= journal.last_index
        store.close()
    with closing(sqlite3.connect(tmp_path / "1" / "raft.db")) as database, database:
        database.execute("DELETE FROM log WHERE idx > 5")
    with pytest.raises(CorruptJournal, match="ends at entry 5 instead of 9"):
        member.open()


def test_a_commit_index_ahead_of_the_journal_stops_the_process_if_the_end_is_not_compared(
    weakened: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = weakened(folder=tmp_path / "1")
    a_commit_index_from_before(member)
    member.append(2, 1, (5, 1), [1], commit=5)
    member.close()
    with closing(sqlite3.connect(tmp_path / "1" / "raft.db")) as database, database:
        database.execute("DELETE FROM log WHERE idx > 3")
    real = recovery._entries

    def lenient(rows: Any, head: Any) -> Any:
        end = structs.replace(head, last_index=head.base_index + len(rows), last_chain=rows[-1][3])
        return real(rows, end)

    monkeypatch.setattr(recovery, "_entries", lenient)
    member.open()
    with pytest.raises(AssertionError):
        member.append(3, 2, (3, 1), [2, 2], commit=3)
    assert member.applied == []
