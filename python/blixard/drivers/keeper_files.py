"""What the keeper leaves in files: which VMs may start, and until when they may run.

`gates/NAME` holds "EPOCH INCARNATION lease|keep", and `deadline` "BOOT_ID NS". The deadline is in
this one place, and moves for all gates at once; a gate says only whether it heeds it. A file
appears whole, or not at all (rename(2)).
"""

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import NamedTuple

MS = 1_000_000
"""In nanoseconds, as all times here are."""


def now_ns() -> int:
    """CLOCK_BOOTTIME: it runs on through suspend, and nobody sets it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def log(text: str) -> None:
    """Say something, unless whoever reads it hangs."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())


def read(path: Path) -> str:
    """A small file, "" if there is none. Files of a cgroup that is going fail with ENODEV."""
    try:
        return path.read_text("ascii", "replace")
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENODEV}:
            return ""
        raise


class Gate(NamedTuple):
    """What an open gate says."""

    epoch: int
    incarnation: int
    keep: bool
    """It heeds no deadline, and the fence spares its VM."""


class KeeperFiles:
    """The gates and the deadline in `directory`, which only root may write to."""

    def __init__(self, directory: Path, boot_id: str) -> None:
        self._deadline = directory / "deadline"
        self._gates = directory / "gates"
        self._scratch = directory / "new"
        self._boot_id = boot_id.replace("-", "")

    def create(self) -> None:
        self._gates.mkdir(parents=True, exist_ok=True)

    def is_of_this_boot(self, boot_id: str) -> bool:
        return boot_id.replace("-", "") == self._boot_id

    def deadline_ns(self) -> int:
        """The deadline of this boot, 0 if there is none."""
        match read(self._deadline).split():
            case [boot_id, deadline] if self.is_of_this_boot(boot_id) and deadline.isdecimal():
                return int(deadline)
        return 0

    def set_deadline(self, deadline_ns: int) -> None:
        self._put(self._deadline, f"{self._boot_id} {deadline_ns}")

    def open(self, name: str, gate: Gate) -> None:
        kind = "keep" if gate.keep else "lease"
        self._put(self._gates / name, f"{gate.epoch} {gate.incarnation} {kind}")

    def shut(self, name: str) -> bool:
        """Return whether it was open."""
        try:
            (self._gates / name).unlink()
        except FileNotFoundError:
            return False
        return True

    def end_lease(self) -> None:
        """Shut the gates that heed a deadline, and forget it. A full disk is no hindrance, nor is
        somebody who does the same."""
        kept = self.kept()
        for path in self._gates.iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)
        self._deadline.unlink(missing_ok=True)

    def gates(self) -> dict[str, Gate]:
        """The open gates."""
        looked = ((path.name, self.look(path.name)) for path in sorted(self._gates.iterdir()))
        return {name: gate for name, gate in looked if gate}

    def kept(self) -> set[str]:
        """The VMs that the fence spares."""
        return {name for name, gate in self.gates().items() if gate.keep}

    def look(self, name: str) -> Gate | None:
        """A gate, if it is open. A damaged one is not."""
        match read(self._gates / name).split():
            case [epoch, incarnation, ("lease" | "keep") as kind] if (
                epoch.isdecimal() and incarnation.isdecimal()
            ):
                return Gate(int(epoch), int(incarnation), kind == "keep")
        return None

    def why_not(self, name: str) -> str:
        """Why a VM may not start now, "" if it may. That its gate is there is not enough: nobody
        may have been left to shut it."""
        gate = self.look(name)
        if gate is None:
            return f"the gate of {name} is shut"
        if not gate.keep and now_ns() >= self.deadline_ns():
            return f"the gate of {name} is shut: the lease of this host has ended"
        return ""

    def _put(self, path: Path, text: str) -> None:
        self._scratch.write_text(f"{text}\n")
        self._scratch.replace(path)
