"""The processes of VMs: the cgroup of version 2 in which systemd puts their units (cgroups(7))."""

import contextlib
import os
import signal
from pathlib import Path

from blixard.drivers.keeper_files import read

TREES = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
"""Where a tree of version 2 is mounted; the second on hosts that have one of version 1 as well."""
SLICE = "blixard.slice/blixard-vms.slice"


def find_slice() -> Path:
    """Where systemd has the slice. Raises `ValueError` if there is no tree of version 2."""
    for tree in TREES:
        if (tree / "cgroup.controllers").exists():
            return tree / SLICE
    raise ValueError("no cgroups of version 2 here, so no VM could be ended: mount them")


class Slice:
    """All VMs of this host: `path`, which need not exist, has a cgroup for each unit of theirs,
    `microvm@NAME.service` or `microvm-virtiofsd@NAME.service`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def pids(self, spared: set[str]) -> set[int]:
        """The processes of all VMs but these; 0 for one of another PID namespace."""
        return {pid for group in self._groups(spared) for pid in _pids(group)}

    def kill(self, spared: set[str]) -> None:
        """Kill the processes of all VMs but these. They may live a moment longer."""
        for group in self._groups(spared):
            try:
                file = os.open(group / "cgroup.kill", os.O_WRONLY)
            except FileNotFoundError:  # before Linux 5.14
                for pid in _pids(group) - {0}:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            else:
                with contextlib.suppress(OSError):  # the group has just gone
                    os.write(file, b"1")
                os.close(file)

    def _groups(self, spared: set[str]) -> list[Path]:
        """The slice as a whole, so that nothing slips through; its parts only if one is spared."""
        if not spared:
            return [self._path]
        return [group for group in self._path.glob("*/") if _vm_of(group.name) not in spared]


def _vm_of(unit: str) -> str:
    return unit.removesuffix(".service").partition("@")[2]


def _pids(group: Path) -> set[int]:
    folders = (Path(folder) for folder, _, _ in os.walk(group))
    return {int(pid) for folder in folders for pid in read(folder / "cgroup.procs").split()}
