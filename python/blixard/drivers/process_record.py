"""What a VM's guard leaves on the disk, and how to tell from it whether anything still lives.

Standard library only: the guard reads and writes it as well as the daemon.
"""

import fcntl
import json
import os
import struct
from dataclasses import asdict, dataclass
from pathlib import Path

RECORD = "record.json"
"""The present placement, from its start until it is discarded."""
DISCARDED = "discarded.json"
"""The last placement that was discarded: none up to its epoch is ever started again."""
LOCK = "lock"
SOCKET = "guard.sock"
CONSOLE = "console.log"
CONSOLE_SOCKET = "console.sock"
"""Where the guest's serial port can be attached to; see `console_hub`."""
_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux: type, whence, start, length, pid


def state_directory(directory: Path) -> Path:
    """Where the runner runs, and its volumes lie. It has the VM's name, as it has under
    /var/lib/microvms, because runners call their guest by it."""
    return directory / directory.name


@dataclass(frozen=True, slots=True)
class Order:
    """What a guard is told to run."""

    directory: str
    uid: int
    epoch: int
    runner: str
    boot_id: str
    kill_after_ms: int
    deadline_ms: int
    """CLOCK_BOOTTIME from which on it must not start, and not run unless it is to be kept."""
    keep: bool


@dataclass(frozen=True, slots=True)
class Record:
    """What became of an order."""

    uid: int
    epoch: int
    runner: str
    boot_id: str
    confinement: str
    """How the guard's death is made the death of the VM; see `process_confinement`."""
    anchor_pid: int
    """Once this process is gone, no process of the VM is left."""
    anchor_ticks: int
    """When the anchor started, in clock ticks since boot: with the pid, its identity."""
    keep: bool
    """It has no deadline."""
    state: str
    """A `ports.UnitState`."""
    active_since_ms: int = 0
    """CLOCK_BOOTTIME at which the runner was started."""
    ending: str = ""
    """How it ended, in words."""


def load(path: Path) -> Record | None:
    """Read a record, or None if there is none. Raises `ValueError` if it is damaged."""
    try:
        fields = json.loads(path.read_bytes())
        return Record(**fields)
    except FileNotFoundError:
        return None
    except TypeError as damage:
        raise ValueError(str(damage)) from damage


def save(path: Path, record: Record) -> None:
    """Replace a record, so that even a power loss leaves the old one or the new one."""
    scratch = path.with_suffix(".new")
    with scratch.open("w") as file:
        json.dump(asdict(record), file)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def take_lock(path: Path) -> int | None:
    """Take the lock that proves a guard alive, or return None if another process holds it.

    The lock ends with this process and is not inherited by its children (fcntl(2), advisory record
    locks); it is lost if the process opens the file once more and closes it.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def lock_holder(path: Path) -> int | None:
    """The pid of the process that holds the lock now. No other process must hold it: the kernel
    names the holder itself, so a pid that was used again is never mistaken for it."""
    try:
        lock = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(lock, fcntl.F_GETLK, wanted))
    finally:
        os.close(lock)
    return None if kind == fcntl.F_UNLCK else int(pid)


def start_ticks(stat: bytes) -> int:
    """When a process started, from its /proc/PID/stat (proc(5), field 22)."""
    return int(stat.rpartition(b")")[2].split()[19])
