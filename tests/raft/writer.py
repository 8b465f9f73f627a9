"""A node of its own that commits numbers one by one and says which were acknowledged, until it is
cut off. Sabotaged, it makes a promise before it is kept.
"""

import os
import time
from itertools import count
from pathlib import Path
from random import Random
from unittest.mock import patch

import msgspec

from blixard.raft.engine import Applied, RaftEngine, RaftTimings
from blixard.raft.outcome import Outcome
from blixard.raft.store import Batch, SqliteStore

ELECTION = {"heartbeat_ms": 1, "election_min_ms": 5, "election_max_ms": 10}


class Numbers:
    """A state machine that keeps every number, so that a snapshot takes several pages."""

    def __init__(self) -> None:
        self.held: list[int] = []

    def apply(self, index: int, entry: bytes) -> object:
        self.held.append(int(entry))
        return None

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.held)

    def restore(self, data: bytes, index: int) -> None:
        self.held = numbers_in(data)


def numbers_in(state: bytes) -> list[int]:
    """What a snapshot of `Numbers` holds."""
    return msgspec.msgpack.decode(state, type=list[int])


class Watched(SqliteStore):
    """Says when a snapshot is being written."""

    def __init__(self, directory: Path, said: int) -> None:
        super().__init__(directory)
        self._said = said

    def commit(self, batch: Batch) -> None:
        if batch.snapshot is None:
            super().commit(batch)
        else:
            os.write(self._said, b"snapshot begins\n")
            super().commit(batch)
            os.write(self._said, b"snapshot ends\n")


class Hasty(Watched):
    """Sabotage: returns from three commits in four before anything is written."""

    def __init__(self, directory: Path, said: int) -> None:
        super().__init__(directory, said)
        self._put_off: list[Batch] = []

    def commit(self, batch: Batch) -> None:
        self._put_off.append(batch)
        if len(self._put_off) == 4:
            for one in self._put_off:
                super().commit(one)
            self._put_off = []


def write(directory: Path, first: int, snapshot_entries: int, said: int, sabotage: str) -> None:
    """Commit `first` and the numbers after it. Says `told NUMBER TERM OPENED` on the pipe `said`
    after each outcome, with the term and the life in which it was told."""
    store = (Hasty if "hasty" in sabotage else Watched)(directory, said)
    if "wal" in sabotage:
        store._database.execute("PRAGMA synchronous=OFF")
    if "mark" in sabotage:
        patch("os.fdatasync").start()
    machine = Numbers()
    timings = RaftTimings(snapshot_entries=snapshot_entries, **ELECTION)
    engine = RaftEngine(1, store, machine, lambda *_: None, time.monotonic, Random(1), timings)
    for number in count(first):
        told: list[Outcome] = []
        engine.propose(b"%d" % number, told.append)
        while not told:
            engine.tick()
        if isinstance(told[0], Applied):
            opened = engine._journal.opened
            os.write(said, b"told %d %d %d\n" % (number, engine.status().term, opened))
