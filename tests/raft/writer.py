"""A node of its own in a process of its own: commits numbers one by one, and says which.

Usage: python writer.py DIRECTORY FIRST
"""

import sys
import time
from itertools import count
from pathlib import Path
from random import Random

from blixard.raft.engine import Applied, RaftEngine, RaftTimings
from blixard.raft.outcome import Outcome
from blixard.raft.store import SqliteStore


class Nothing:
    """A state machine without a state."""

    def apply(self, index: int, entry: bytes) -> object:
        return (index, entry)

    def snapshot(self) -> bytes:
        return b""

    def restore(self, data: bytes) -> None: ...


def main(directory: Path, first: int) -> None:
    store = SqliteStore(directory)
    timings = RaftTimings(snapshot_entries=1_000_000)
    engine = RaftEngine(1, store, Nothing(), lambda *_: None, time.monotonic, Random(1), timings)
    for number in count(first):
        told: list[Outcome] = []
        engine.propose(b"%d" % number, told.append)
        while not told:
            engine.tick()
        if isinstance(told[0], Applied):
            print(number, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
