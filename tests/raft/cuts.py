"""Cuts a writer off at random moments, many times over one journal, and audits what is left.

Usage: python cuts.py kill|power DIRECTORY SEED CUTS [hasty|wal|mark|wal+mark]

`kill` is SIGKILL. `power` needs root and a mount namespace of its own: the journal lies on ext4 in
an image file, and the file system is shut down under the writer, so that pages that were not synced
are lost. Prints one line of JSON; `fault` in it is null if every promise was kept.
"""

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from blixard.raft.recovery import bootstrap, recover
from blixard.raft.store import SqliteStore
from blixard.raft.wire import Kind
from raft.writer import numbers_in, write

# _IOR('X', 125, __u32) in the kernel's fs/ext4/ext4.h, and the flag that also drops what the
# file system's own journal has not written yet.
EXT4_IOC_SHUTDOWN = 0x8004587D
NOLOGFLUSH = 2

IMAGE = "disk"
IMAGE_BYTES = 48 * 1024 * 1024
NO_MOUNTS = 77
"""The exit status that says that nothing can be mounted here."""
FIRST_WORDS = 3
"""With so many, the last of them at least is `told`: both marks have been written."""


class Fault(Exception):
    """A promise was broken."""


class Fork:
    """Runs a function in a child process that never returns from it; reads what it says."""

    def __init__(self, run: Callable[[int], None]) -> None:
        reading, said = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            try:
                run(said)
                os._exit(0)
            except BaseException as error:  # noqa: BLE001 - reported by the parent
                os.write(said, f"failed {type(error).__name__}: {error}\n".encode())
                os._exit(1)
        os.close(said)
        self._lines = os.fdopen(reading, "r")

    def line(self) -> str:
        """What it says next; empty once it has ended."""
        return self._lines.readline().rstrip("\n")

    def end(self) -> list[str]:
        """Wait until it has ended, and give what it said meanwhile."""
        lines = self._lines.read().splitlines()
        self._lines.close()
        os.waitpid(self.pid, 0)
        return lines


class Kill:
    """The process is cut off; what it wrote stays with the kernel."""

    def __init__(self, directory: Path) -> None:
        self.journal = directory / "journal"

    def begin(self) -> None: ...

    def cut(self, writer: Fork) -> list[str]:
        os.kill(writer.pid, signal.SIGKILL)
        return writer.end()


class Power:
    """The file system is cut off; what was not synced is gone."""

    def __init__(self, directory: Path) -> None:
        self._image = directory / IMAGE
        self._mounted = directory / "mounted"
        self.journal = self._mounted / "journal"
        self._mounted.mkdir()
        with self._image.open("wb") as image:
            image.truncate(IMAGE_BYTES)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,nodiscard", self._image)

    def begin(self) -> None:
        run("mount", "-t", "ext4", "-o", "loop", self._image, self._mounted)

    def cut(self, writer: Fork) -> list[str]:
        disk = os.open(self._mounted, os.O_RDONLY)
        flags = ctypes.c_uint32(NOLOGFLUSH)
        fcntl.ioctl(disk, EXT4_IOC_SHUTDOWN, bytes(flags))
        os.close(disk)
        # The writer is not killed: it must notice by itself that it can promise nothing any more.
        lines = writer.end()
        run("umount", self._mounted)
        return lines


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@dataclass
class Trial:
    """One journal, and what was promised about it."""

    disk: Kill | Power
    random: Random
    sabotage: str
    cuts: int = 0
    told: list[int] = field(default_factory=list)
    term: int = 0
    opened: int = 0
    found: list[int] = field(default_factory=list)
    """What the last audit found: durable, acknowledged or not."""
    in_snapshot: int = 0
    """How many cuts fell into the writing of a snapshot."""
    in_opening: int = 0
    """How many cuts came before the first word of a life."""

    def found_cluster(self) -> None:
        store = SqliteStore(self.disk.journal)
        bootstrap(store, "c1", 1, "10.0.0.1:7001")
        store.close()

    def live(self) -> None:
        """One life of the writer, from its start to its cut."""
        first, entries = (self.cuts + 1) * 1_000_000, self.random.choice([2, 5, 30])
        journal, sabotage = self.disk.journal, self.sabotage
        writer = Fork(lambda said: write(journal, first, entries, said, sabotage))
        wanted = self.random.choice([0, 1, self.random.randrange(100)])
        if not self.cuts:
            # The first mark in a slot is a new block. Its fdatasync(2) that meets the shutdown of
            # the file system may succeed in vain (Linux 6.18): no power cut does that.
            wanted = max(wanted, FIRST_WORDS)
        aims_at_snapshot = self.random.random() < 0.4
        lines: list[str] = []
        while len(lines) < wanted or (aims_at_snapshot and lines[-1:] != ["snapshot begins"]):
            lines.append(writer.line())
            if not lines[-1]:
                raise Fault(f"the writer could not go on: {lines[-2:]}")
        within_s = 0.0005 if aims_at_snapshot else 0.003 if wanted else 0.06
        moment_s = time.perf_counter() + self.random.uniform(0, within_s)
        while time.perf_counter() < moment_s:
            pass
        rest = self.disk.cut(writer)
        self.cuts += 1
        self._note([line for line in lines + rest if not line.startswith("failed")])

    def _note(self, lines: list[str]) -> None:
        self.in_opening += not lines
        self.in_snapshot += lines[-1:] == ["snapshot begins"]
        for line in lines:
            if line.startswith("told"):
                number, self.term, self.opened = map(int, line.split()[1:])
                self.told.append(number)

    def audit(self) -> None:
        """Open what is left, and compare. Every second time nothing is closed, so that the next
        life meets the files as they were found."""
        closing = self.random.random() < 0.5

        def look(said: int) -> None:
            store = SqliteStore(self.disk.journal)
            journal = recover(store, 1)
            held = numbers_in(journal.snapshot.state) if journal.snapshot else []
            for data, index, _ in journal[1:]:
                if index > journal.snapshot_index and data[0] == Kind.COMMAND:
                    held.append(int(data[1:]))
            vote = journal.getVotedForNodeId()
            if closing:
                store.close()
            found = [journal.getCurrentTerm(), vote, journal.opened, held]
            with os.fdopen(said, "w") as pipe:
                pipe.write(json.dumps(found))

        (line,) = Fork(look).end()
        if line.startswith("failed"):
            raise Fault(line)
        term, vote, opened, held = json.loads(line)
        lost = {*self.told, *self.found} - set(held)
        if lost:
            raise Fault(f"lost {len(lost)} commands, the first is {min(lost)}")
        if held != sorted(set(held)):
            raise Fault("commands are there twice, or in another order")
        if term < self.term or vote != 1 or opened < self.opened:
            raise Fault(f"term {term}, vote {vote}, opened {opened} fell back")
        self.found = held


def main(kind: str, directory: Path, seed: int, cuts: int, sabotage: str) -> int:
    try:
        disk = Kill(directory) if kind == "kill" else Power(directory)
        disk.begin()
    except (OSError, subprocess.CalledProcessError) as error:
        print(error, getattr(error, "stderr", ""))
        return NO_MOUNTS
    trial = Trial(disk, Random(seed), sabotage)
    trial.found_cluster()
    fault = None
    try:
        while trial.cuts < cuts:
            trial.live()
            trial.disk.begin()
            trial.audit()
    except Fault as found:
        fault = str(found)
    report = {name: getattr(trial, name) for name in ("cuts", "in_snapshot", "in_opening")}
    print(json.dumps({**report, "told": len(trial.told), "fault": fault}))
    return 0


if __name__ == "__main__":
    _, kind, directory, seed, cuts, *sabotage = sys.argv
    sys.exit(main(kind, Path(directory), int(seed), int(cuts), "".join(sabotage)))
