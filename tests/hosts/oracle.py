"""Which hosts run which guests, as seen from outside, by none of Blixard's own means.

A guest is a process of a host whose command line names a VM (`-name NAME`, as QEMU has it). It
counts from the moment that the kernel started it until its end, and not while its whole host is
frozen, since then it cannot execute. All times are milliseconds of this machine's CLOCK_BOOTTIME.
"""

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

from hosts.machine import Machine

TICK_MS: Final = 50
NICE: Final = -15
CLOCK_TICKS: Final = os.sysconf("SC_CLK_TCK")
DEADLINE: Final = "/run/blixard-keeper/deadline"
"""Of the keeper: the boot's id, and from when on it ends every VM, in ns of the host's clock."""


def boot_ms() -> int:
    """CLOCK_BOOTTIME of this machine."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def deadline_ms(machine: Machine) -> int | None:
    """From when on a host's keeper ends every VM, by this machine's clock; None while fenced."""
    words = _read(machine.outside(DEADLINE)).split()
    if len(words) != 2 or words[1] == "0":
        return None
    return int(words[1]) // 1_000_000 - machine.later_s * 1000


@dataclass(eq=False)
class Life:
    """One process of a VM."""

    host: str
    vm: str
    pid: int
    began_ms: int
    """When the kernel started it, to 10 ms."""
    first_seen_ms: int
    last_seen_ms: int
    ended_ms: int | None = None
    """When its end was noticed, which wakes the oracle."""
    deadline_ms: int | None = None
    """From when on its host's keeper would have ended it, as last known when it ended."""
    frozen: list[tuple[int, int]] = field(default_factory=list)
    """While it could not execute."""

    def executing(self, until_ms: int) -> Iterator[tuple[int, int]]:
        """From when until when it could execute, up to a moment."""
        begin = self.began_ms
        for since, thawed in self.frozen:
            yield begin, since
            begin = thawed
        end = until_ms if self.ended_ms is None else self.ended_ms
        if begin < end:
            yield begin, end


@dataclass(frozen=True)
class Overlap:
    """A VM that was able to execute twice."""

    vm: str
    hosts: tuple[str, str]
    since_ms: int
    until_ms: int


def overlaps(
    lives: Iterable[Life], now_ms: int, frozen_ms: Mapping[str, int] = MappingProxyType({})
) -> list[Overlap]:
    """Every pair of processes of one VM that could execute at one time, on one host or on two.

    `frozen_ms` says since when the hosts are frozen that are frozen now.
    """
    found = []
    spans = sorted(
        (since, until, life.vm, life.host)
        for life in lives
        for since, until in life.executing(frozen_ms.get(life.host, now_ms))
    )
    for number, (_, until, vm, host) in enumerate(spans):
        for later, end, other_vm, other_host in spans[number + 1 :]:
            if later >= until:
                break
            if other_vm == vm:
                hosts = (min(host, other_host), max(host, other_host))
                found.append(Overlap(vm, hosts, later, min(until, end)))
    return found


class Host:
    """One host as the oracle sees it."""

    def __init__(self, machine: Machine) -> None:
        self.name = machine.name
        self.payload = machine.payload
        self.deadline_ms: int | None = None
        self._machine = machine
        self.frozen_since_ms: int | None = None
        self._asked_ms = 0

    def guests(self) -> Iterator[tuple[int, str]]:
        """The processes in the units of VMs that name a VM."""
        for folder in _units(self.payload):
            for pid in _read(folder / "cgroup.procs").split():
                if vm := _named(pid):
                    yield int(pid), vm

    def look_at_freezer(self) -> tuple[int, int] | None:
        """Note whether it is frozen. Returns from when until when it was, once that is over.

        A guest that is killed while its host is frozen never executes again, although the cgroup
        is not called frozen while it ends. So what was asked for is what counts, not what is.
        """
        asked = _read(self.payload / "cgroup.freeze").strip()
        since = self.frozen_since_ms
        if since is None:
            if asked == "1" and "frozen 1" in _read(self.payload / "cgroup.events"):
                self.frozen_since_ms = self._asked_ms = boot_ms()
            return None
        if asked == "1":
            self._asked_ms = boot_ms()
            return None
        self.frozen_since_ms = None
        # A host that has lost its power meanwhile has no such file.
        return since, self._asked_ms if asked else boot_ms()

    def look_at_keeper(self) -> None:
        """Note the newest deadline; none is lost while the host is off."""
        if self._machine.is_up():
            self.deadline_ms = deadline_ms(self._machine) or self.deadline_ms


class Oracle:
    """Looks every `TICK_MS`, in a thread of its own, from `with` until its end."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self.lives: list[Life] = []
        """All that were seen, ended or not, in the order in which they were found."""
        self.pause_ms = 0
        """The longest time between two looks: a guest of a shorter life may not have been seen."""
        self._hosts = [Host(machine) for machine in machines]
        self._alive: dict[int, Life] = {}
        """By a descriptor that tells of the end."""
        self._poll = select.poll()
        self._looked = threading.Condition()
        self._ended = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="oracle", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()
        for descriptor in self._alive:
            os.close(descriptor)

    # --- asked from outside ---------------------------------------------------------------------

    def where(self) -> dict[str, list[str]]:
        """The hosts on which each VM can execute now, one for each process of it."""
        with self._looked:
            found: dict[str, list[str]] = {}
            for life in self._alive.values():
                if life.host not in self._frozen():
                    found.setdefault(life.vm, []).append(life.host)
            return found

    def since(self, from_ms: int) -> list[Life]:
        """The processes that lived then or have begun since."""
        with self._looked:
            return [one for one in self.lives if one.ended_ms is None or one.ended_ms >= from_ms]

    def overlaps(self, from_ms: int) -> list[Overlap]:
        """What overlapped since then."""
        lives = self.since(from_ms)
        with self._looked:
            found = overlaps(lives, boot_ms(), self._frozen())
        return [one for one in found if one.until_ms > from_ms]

    def _frozen(self) -> dict[str, int]:
        since = {host.name: host.frozen_since_ms for host in self._hosts}
        return {name: at_ms for name, at_ms in since.items() if at_ms is not None}

    def wait(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until a condition holds, asked after each look; false if it does not in time."""
        deadline_ms = boot_ms() + round(timeout_s * 1000)
        with self._looked:
            while not holds():
                if self._failure is not None:
                    raise RuntimeError("the oracle is blind") from self._failure
                if boot_ms() > deadline_ms:
                    return False
                self._looked.wait(1)
        return True

    # --- looking --------------------------------------------------------------------------------

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        last_ms = next_ms = boot_ms()
        try:
            while not self._ended:
                for descriptor, _ in self._poll.poll(max(0, next_ms - boot_ms())):
                    self._end(descriptor)
                now_ms = boot_ms()
                if now_ms < next_ms:
                    continue
                with self._looked:
                    self.pause_ms = max(self.pause_ms, now_ms - last_ms)
                    self._look()
                    self._looked.notify_all()
                last_ms = now_ms
                next_ms = max(next_ms + TICK_MS, now_ms)
        except BaseException as failure:
            self._failure = failure
            raise

    def _look(self) -> None:
        known = {life.pid: life for life in self._alive.values()}
        for host in self._hosts:
            if span := host.look_at_freezer():
                self._thawed(host.name, span)
            host.look_at_keeper()
            for pid, vm in host.guests():
                if pid in known:
                    known[pid].last_seen_ms = boot_ms()
                else:
                    self._begin(host, pid, vm)

    def _begin(self, host: Host, pid: int, vm: str) -> None:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            began_ms = _began_ms(pid)
            descriptor = os.pidfd_open(pid)
            if _named(str(pid)) != vm or _began_ms(pid) != began_ms:
                os.close(descriptor)  # the number is another's by now
                return
            now_ms = boot_ms()
            life = Life(host.name, vm, pid, began_ms, now_ms, now_ms)
            self._alive[descriptor] = life
            self._poll.register(descriptor, select.POLLIN)
            self.lives.append(life)

    def _end(self, descriptor: int) -> None:
        now_ms = boot_ms()
        self._poll.unregister(descriptor)
        os.close(descriptor)
        with self._looked:
            life = self._alive.pop(descriptor)
            [host] = (host for host in self._hosts if host.name == life.host)
            life.ended_ms, life.deadline_ms = now_ms, host.deadline_ms
            if host.frozen_since_ms is not None:
                life.frozen.append((host.frozen_since_ms, now_ms))

    def _thawed(self, host: str, span: tuple[int, int]) -> None:
        for life in self._alive.values():
            if life.host == host:
                life.frozen.append((max(span[0], life.began_ms), span[1]))


def _units(folder: Path) -> Iterator[Path]:
    """The units of VMs below a cgroup; only slices hold units."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if entry.name.endswith(".slice"):
                yield from _units(Path(entry.path))
            elif entry.name.startswith("microvm") and entry.name.endswith(".service"):
                yield Path(entry.path)


def _named(pid: str) -> str:
    """The VM that a process names; a zombie has no command line."""
    _, _, rest = _read(Path(f"/proc/{pid}/cmdline")).partition("\0-name\0")
    return rest.partition("\0")[0]


def _began_ms(pid: int) -> int:
    """Its start, in CLOCK_BOOTTIME (proc_pid_stat(5), field 22)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) * 1000 // CLOCK_TICKS


def _read(path: Path) -> str:
    """What a file holds that may be gone at any moment; reading a process that ends is ESRCH."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
