"""A lab: hosts on a network of their own, and nothing left of them afterwards.

A run leaves a folder in the cache while it lives, and holds a lock on it. Whatever a run that was
killed could not remove, the next one does.
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

from hosts.container import Container, end_cgroup
from hosts.faults_disk import thaw
from hosts.machine import Machine
from hosts.network import Network, remove_namespaces

GUEST: Final = Path("/opt/blixard/guest")
"""Where `make guest` puts the kernel of vm-templates/tiny, here and in every host."""


class Lab:
    """The hosts of one test module, in the words of the NixOS test driver."""

    def __init__(self, machines: Sequence[Machine], network: Network, folder: Path) -> None:
        self.machines = list(machines)
        self.network = network
        self.folder = folder
        """Goes with the lab, and whatever is mounted below it."""

    def start_all(self) -> None:
        """Switch on every host."""
        for machine in self.machines:
            machine.start()

    @contextmanager
    def subtest(self, name: str) -> Iterator[None]:
        """A part of a script, named in its output."""
        print(f"subtest: {name}")
        yield


@contextmanager
def open_lab(
    layers: Sequence[Path], runs: Path, names: Sequence[str], files: Mapping[str, Mapping[str, str]]
) -> Iterator[Lab]:
    """Hosts of these names, switched off, with `files[name]` (path -> text) on their disks.

    `runs` is the folder of all runs; what dead ones left there is cleared away first.
    """
    sweep(runs)
    run = f"blixard-{os.getpid()}-{uuid4().hex[:4]}"
    folder = runs / run
    with _claimed(folder), ExitStack() as closing:
        closing.callback(_clear, folder)
        network = Network(f"{run}-", names)
        network.up()
        machines = []
        for name in names:
            namespace = network.namespace(name)
            container = Container(name, folder / name, layers, namespace, f"{run}/{name}")
            closing.callback(container.kill)
            container.put("/etc/hostname", f"{name}\n")
            container.put("/etc/hosts", network.hosts_file())
            container.put("/etc/machine-id", f"{uuid4().hex}\n")
            for path, text in files.get(name, {}).items():
                container.put(path, text)
            machines.append(Machine(container, network, {GUEST: str(GUEST)}))
        yield Lab(machines, network, folder)


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Make a folder that is locked from the moment it has its name."""
    fresh = folder.with_name(f"new-{folder.name}")
    fresh.mkdir(parents=True)
    with (fresh / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fresh.rename(folder)
        yield


def sweep(runs: Path) -> None:
    """Clear away what runs that were killed have left."""
    for folder in runs.glob("blixard-*/"):
        with (folder / "lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _clear(folder)


def _clear(folder: Path) -> None:
    """End the processes of a run, and remove its cgroup, its network and its disks."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    below = [Path(mount) for mount in mounts if Path(mount).is_relative_to(folder.resolve())]
    for mount in below:
        # Processes that wait for a disk that stands still cannot be ended.
        thaw(mount)
    end_cgroup(folder.name)
    remove_namespaces(f"{folder.name}-")
    for mount in below:
        subprocess.run(["umount", str(mount)], check=True)
    shutil.rmtree(folder)
