"""What a snapshot on the disk is worth after a power failure, a restart, or a late writer."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from blixard.raft.store import CorruptJournal
from schedules.crashes import is_an_error
from schedules.ours import Ours
from schedules.stock import Stock, package
from schedules.subject import TOP, Make, text

# The dump is renamed unsynced, and the journal is trimmed after it.


def test_a_member_without_a_state_votes_and_acknowledges_on_stock(
    stock: Make, tmp_path: Path
) -> None:
    """After a power failure the dump can be empty. What the journal lacks by then is gone."""
    member = stock(folder=tmp_path / "1")
    member.append(2, 1, TOP, [1] * 29, commit=20)
    member.compact()
    member.close()
    (tmp_path / "1" / "dump").write_bytes(b"")
    member.open()
    member.tick()
    member.append(2, 1, (30, 1), [1], commit=31)
    member.tick()
    assert member.applied == []
    assert member.claimed == 31
    assert member.asks_for_vote(3, 2, (31, 1))


def test_a_member_without_a_state_does_not_start_on_ours(ours: Make, tmp_path: Path) -> None:
    member = ours(folder=tmp_path / "1")
    member.append(2, 1, TOP, [1] * 29, commit=20)
    member.compact()
    member.close()
    with closing(sqlite3.connect(tmp_path / "1" / "raft.db")) as database, database:
        database.execute("UPDATE snapshot SET data = x''")
    with pytest.raises(CorruptJournal, match="checksum of its snapshot"):
        member.open()
    with closing(sqlite3.connect(tmp_path / "1" / "raft.db")) as database, database:
        database.execute("DELETE FROM snapshot")
    with pytest.raises(CorruptJournal, match="snapshot is gone"):
        member.open()


# A process of its own writes the dump, and ends when it ends.


def test_a_late_dump_replaces_a_newer_one_on_stock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forked process is played here: it gets the state of entry 10, and has its turn after a
    snapshot of entry 28 was received and entries after that were acknowledged."""
    member = Stock(1, 3, tmp_path / "1", useFork=True)
    member.append(2, 1, TOP, [1] * 9, commit=10)
    monkeypatch.setattr(os, "fork", lambda: 4242)
    monkeypatch.setattr(os, "waitpid", lambda *_: (0, 0))
    serialize = package.serializer.Serializer.serialize
    forked: list[tuple[Any, ...]] = []

    def caught(self: Any, *state: Any) -> None:
        forked.append(state)
        serialize(self, *state)

    monkeypatch.setattr(package.serializer.Serializer, "serialize", caught)
    member.library.forceLogCompaction()
    member.tick()
    for chunk in member.snapshot(28, 1, [text(index, 1) for index in range(2, 29)]):
        member.hear_chunk(2, 1, chunk)
    member.append(2, 1, (28, 1), [1, 1])
    assert member.claimed == 30
    child = package.serializer.Serializer(str(tmp_path / "1" / "dump"), 0, False, None, None, None)
    serialize(child, *forked[0])
    member.restart()
    member.tick()
    assert member.log == [(9, 1), (10, 1)]
    assert member.asks_for_vote(3, 2, (10, 1)), "11 to 30 are lost"
    member.close()


def test_a_snapshot_gives_way_only_to_a_newer_one_on_ours(
    ours: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made in the tick, by the process that holds the journal."""
    for name in ("fork", "posix_spawn"):
        monkeypatch.setattr(os, name, is_an_error)
    member = ours(folder=tmp_path / "1")
    assert isinstance(member, Ours)
    member.append(2, 1, TOP, [1] * 9, commit=10)
    for chunk in member.snapshot(28, 1, [text(index, 1) for index in range(2, 29)]):
        member.hear_chunk(2, 1, chunk)
    member.append(2, 1, (28, 1), [1, 1])
    with pytest.raises(AssertionError):
        member.journal.compact(10, b"", 0)
    member.core.compact(0)
    member.restart()
    assert member.log == [(28, 1), (29, 1), (30, 1)]
    assert member.applied == [text(index, 1) for index in range(2, 29)]


# A journal in a file, and the dump in memory: what the configuration allows.


def test_a_restart_loses_the_state_on_stock(tmp_path: Path) -> None:
    member = Stock(1, 3, tmp_path / "1", fullDumpFile=None)
    member.append(2, 1, TOP, [1] * 29, commit=20)
    member.library.forceLogCompaction()
    member.tick()
    member.tick()
    member.restart()
    member.append(2, 1, (30, 1), [1], commit=31)
    member.tick()
    assert member.applied == [], "and none of it will ever be"
    member.close()


def test_a_restart_finds_the_state_on_ours(ours: Make, tmp_path: Path) -> None:
    member = ours(folder=tmp_path / "1")
    member.append(2, 1, TOP, [1] * 29, commit=20)
    member.compact()
    member.restart()
    assert member.applied == [text(index, 1) for index in range(2, 21)]
    member.append(2, 1, (30, 1), [1], commit=31)
    assert member.applied == [text(index, 1) for index in range(2, 32)]
