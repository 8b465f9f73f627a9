"""What a campaign does to hosts: a table of named faults, each with its beginning and its end.

A fault is a context that yields the moment at which it struck (`boot_ms`); leaving it ends it.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hosts.faults_disk import Disk
from hosts.lab import Lab
from hosts.machine import Machine
from hosts.network import Network
from hosts.oracle import boot_ms, deadline_ms

SLOW_KBIT_S: Final = 200
LATE_MS: Final = 100
"""So long before the fence has to begin, it is struck itself."""
DAEMON: Final = "blixard.service"
KEEPER: Final = "blixard-keeper.service"
BUS: Final = "dbus.service"

BUSY: Final = '''
"""Laid beside the daemon's code by a test: SIGUSR1 lets its main thread spin, until SIGUSR2."""
import signal

busy = False

def spin(*_):
    global busy
    busy = True
    while busy:
        pass

def rest(*_):
    global busy
    busy = False

signal.signal(signal.SIGUSR1, spin)
signal.signal(signal.SIGUSR2, rest)
'''


class Site:
    """What faults work on: hosts, each with a disk of its own for the data of its daemon."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self.folder = lab.folder
        self.machines = lab.machines
        self.network: Network = lab.network
        self.disks = {host.name: Disk(lab.folder / host.name) for host in lab.machines}
        self._random = random.Random(seed)
        for host in self.machines:
            host.writable[self.disks[host.name].data] = "/var/lib/blixard"

    def switch_on(self, host: Machine) -> None:
        """Switch a host on, with a boot time clock that is unlike any other's."""
        host.wait_for_shutdown()
        # As after a true boot it may well begin close to zero.
        host.later_s = self._random.randint(5 - boot_ms() // 1000, 10_000)
        host.start()


def busy_files(layers: Sequence[Path]) -> dict[str, str]:
    """What makes every Python program of a host able to spin (see site in Python's library)."""
    [folder] = layers[1].glob("opt/blixard/venv/lib/python3.*/site-packages")
    inside = f"/{folder.relative_to(layers[1])}"
    return {f"{inside}/lab_busy.py": BUSY, f"{inside}/lab_busy.pth": "import lab_busy\n"}


@contextmanager
def power_cut(site: Site, host: Machine) -> Iterator[int]:
    at_ms = boot_ms()
    host.crash()
    yield at_ms
    site.switch_on(host)


@contextmanager
def reboot(site: Site, host: Machine) -> Iterator[int]:
    """It loses its power only for a moment, and its boot time clock shows another time then."""
    at_ms = boot_ms()
    host.crash()
    site.switch_on(host)
    yield at_ms


@contextmanager
def power_cut_of_all(site: Site, _: Machine) -> Iterator[int]:
    """At one instant, with the loss of all that was written and not synced."""
    at_ms = boot_ms()
    for host in site.machines:
        host.freeze()  # so that nobody sees a disk fail before the end
    for host in site.machines:
        site.disks[host.name].lose_unsynced()
    for host in site.machines:
        host.crash()
    for host in site.machines:
        # Only now: every host has in its namespace what was mounted when it was switched on.
        site.disks[host.name].attach_again()
    yield at_ms
    for host in site.machines:
        site.switch_on(host)


@contextmanager
def freeze(_: Site, host: Machine) -> Iterator[int]:
    host.freeze()
    yield boot_ms()
    host.thaw()


def cut(*, out: bool, into: bool) -> "Strike":
    """Drop what a host sends, what is sent to it, or both."""

    @contextmanager
    def strike(site: Site, host: Machine) -> Iterator[int]:
        others = [other.name for other in site.machines if other is not host]
        pairs = [(host.name, other) for other in others] if out else []
        pairs += [(other, host.name) for other in others] if into else []
        at_ms = boot_ms()
        for pair in pairs:
            site.network.cut(*pair)
        yield at_ms
        for pair in pairs:
            site.network.mend(*pair)

    return strike


def sent(unit: str, number: int, undo: int | None = None) -> "Strike":
    """Send a signal to the main process of a unit, and another one in the end."""

    @contextmanager
    def strike(_: Site, host: Machine) -> Iterator[int]:
        process = os.pidfd_open(host.main_pid(unit))
        try:
            at_ms = boot_ms()
            signal.pidfd_send_signal(process, number)
            yield at_ms
            if undo is not None:
                with suppress(ProcessLookupError):  # somebody has ended it meanwhile
                    signal.pidfd_send_signal(process, undo)
        finally:
            os.close(process)

    return strike


@contextmanager
def fsync_blocked(site: Site, host: Machine) -> Iterator[int]:
    at_ms = boot_ms()
    site.disks[host.name].stand_still()
    try:
        yield at_ms
    finally:
        site.disks[host.name].go_on()


@contextmanager
def disk_full(site: Site, host: Machine) -> Iterator[int]:
    at_ms = boot_ms()
    site.disks[host.name].fill()
    yield at_ms
    site.disks[host.name].empty()


@contextmanager
def slow_link(site: Site, host: Machine) -> Iterator[int]:
    at_ms = boot_ms()
    site.network.slow_down(host.name, SLOW_KBIT_S)
    yield at_ms
    site.network.speed_up(host.name)


def late(also: "Strike") -> "Strike":
    """Stop the daemon, so that nobody renews, and strike again when the fence is about to begin."""
    stopped = sent(DAEMON, signal.SIGSTOP, signal.SIGCONT)

    @contextmanager
    def strike(site: Site, host: Machine) -> Iterator[int]:
        with stopped(site, host) as at_ms:
            fences_ms = deadline_ms(host)
            assert fences_ms is not None, "its fence has begun already"
            time.sleep(max(0, fences_ms - LATE_MS - boot_ms()) / 1000)
            with also(site, host):
                yield at_ms

    return strike


Strike = Callable[[Site, Machine], AbstractContextManager[int]]


@dataclass(frozen=True)
class Fault:
    """One row of the table."""

    strike: Strike
    power: bool = False
    """It switches the host on again."""
    spares: bool = False
    """No guest may die of it, not even on the host that it strikes."""
    moves: bool = False
    """Every VM of the host that it strikes must come to run elsewhere while it lasts."""
    everyone: bool = False
    """It strikes every host."""
    leader: bool = False
    """It is the leader's host that it strikes."""


FAULTS: Final[Mapping[str, Fault]] = {
    "power cut": Fault(power_cut, power=True, moves=True),
    "power cut, leader": Fault(power_cut, power=True, moves=True, leader=True),
    "power cut of all": Fault(power_cut_of_all, power=True, everyone=True),
    "reboot": Fault(reboot, power=True),
    "cut off": Fault(cut(out=True, into=True), moves=True),
    "cut off, leader": Fault(cut(out=True, into=True), moves=True, leader=True),
    "cut, sends": Fault(cut(out=True, into=False), moves=True),
    "cut, receives": Fault(cut(out=False, into=True), moves=True),
    "freeze": Fault(freeze, moves=True),
    "daemon killed": Fault(sent(DAEMON, signal.SIGKILL), spares=True),
    "leader killed": Fault(sent(DAEMON, signal.SIGKILL), spares=True, leader=True),
    "daemon stopped": Fault(sent(DAEMON, signal.SIGSTOP, signal.SIGCONT), moves=True),
    "daemon busy": Fault(sent(DAEMON, signal.SIGUSR1, signal.SIGUSR2), moves=True),
    "keeper killed": Fault(sent(KEEPER, signal.SIGKILL), spares=True),
    "keeper stopped": Fault(sent(KEEPER, signal.SIGSTOP, signal.SIGCONT), spares=True),
    "keeper killed, late": Fault(late(sent(KEEPER, signal.SIGKILL)), moves=True),
    "keeper stopped, late": Fault(late(sent(KEEPER, signal.SIGSTOP, signal.SIGCONT)), moves=True),
    "bus stopped, late": Fault(late(sent(BUS, signal.SIGSTOP, signal.SIGCONT)), moves=True),
    "fsync blocked, late": Fault(late(fsync_blocked), moves=True),
    "bus killed": Fault(sent(BUS, signal.SIGKILL), spares=True),
    "bus stopped": Fault(sent(BUS, signal.SIGSTOP, signal.SIGCONT), spares=True),
    "fsync blocked": Fault(fsync_blocked),
    "disk full": Fault(disk_full),
    "slow link": Fault(slow_link),
}
