"""No VM outlives the lease of its host, whatever is dead, stopped or hung; a kept one does.

`BLIXARD_ROUNDS=20 pytest -s` on this file prints how late the last process of each VM was gone.
"""

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from blixard.drivers.host import SystemClock
from blixard.drivers.process import ProcessUnits
from blixard.ports import Run, UnitState
from drivers.place import FOREVER, Place, start_daemon, started
from drivers.processes import wait_until

ROUNDS = int(os.environ.get("BLIXARD_ROUNDS", "1"))
KILL_BUDGET_MS = 1_000
ENDED = "its host's lease ended"
NO_LEASE = "could not be run: its host holds no lease"

UNRULY = """
trap '' TERM HUP INT
echo up
(setsid sh -c 'while :; do sleep 0.05; done; : {mark}' &)
(while :; do setsid sleep 0.1 & sleep 0.02; done) &
while :; do sleep 0.05; done
"""

DAEMON = """
import asyncio, sys
from pathlib import Path
from blixard.drivers.host import SystemClock, boot_id
from blixard.drivers.process import ProcessUnits
from blixard.ports import Run

async def main(directory, lease_ms, *runners):
    clock = SystemClock()
    units = ProcessUnits(Path(directory), wake=lambda: None, clock=clock, boot_id=boot_id())
    await units.open()
    while True:
        deadline_ms = clock.boot_ms() + int(lease_ms)
        units.renew(deadline_ms)
        if units.seen() and all(unit.guard for unit in units._units.values()):
            # The guards have been told. One write: who reads it may stop this process at any time.
            print(f"{deadline_ms}\\n", end="", flush=True)
        for uid, runner in enumerate(runners):
            name = Path(runner).name
            if name not in units.seen():
                units.start(name, Run(uid, 7, 1, runner))
        await asyncio.sleep(0.1)

asyncio.run(main(*sys.argv[1:]))
"""

boot_ms = SystemClock().boot_ms


# --- whatever is dead or stopped ----------------------------------------------------------------


FAULTS = {
    "none": None,
    "guard-stopped": signal.SIGSTOP,
    "guard-killed": signal.SIGKILL,
    "anchor-stopped": signal.SIGSTOP,
    "anchor-killed": signal.SIGKILL,
}
"""Sent for a VM shortly before its deadline. To its daemon, one of two things is done as well."""


def _victim_fd(place: Place, fault: str) -> int:
    """The pidfd of the process that the fault is to happen to."""
    is_guard = fault.startswith("guard")
    return os.pidfd_open(place.guard_pid(fault) if is_guard else place.record(fault).anchor_pid)


@contextlib.contextmanager
def _busy(loops: int) -> Iterator[None]:
    """Others want the processors as well."""
    running = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(loops)]
    try:
        yield
    finally:
        for loop in running:
            loop.kill()
            loop.wait()


@contextlib.contextmanager
def _daemon(place: Place, confinement: str, lease_ms: int) -> "Iterator[subprocess.Popen[str]]":
    """A daemon that runs a VM for each fault, and renews until something is done to it."""
    runners = [place.runner(UNRULY, name=fault) for fault in FAULTS]
    arguments = [sys.executable, "-c", DAEMON, str(place.directory), str(lease_ms), *runners]
    prefix = place.less(confinement)
    daemon = subprocess.Popen([*prefix, *arguments], stdout=subprocess.PIPE, text=True, bufsize=0)
    try:
        yield daemon
    finally:
        daemon.kill()
        daemon.communicate()


def _renews_no_more(daemon: "subprocess.Popen[str]", number: signal.Signals) -> int:
    """Stop or kill a daemon that has told the guards a deadline; return the last that it told."""
    assert daemon.stdout is not None
    pipe = daemon.stdout.fileno()
    said = os.read(pipe, 65_536)
    daemon.send_signal(number)
    while select.select([pipe], [], [], 0.05)[0] and (more := os.read(pipe, 65_536)):
        said += more
    return int(said.rpartition(b"\n")[0].rpartition(b"\n")[2])


async def _gone_ms(place: Place, until_ms: int) -> dict[str, int]:
    """When the last process of each VM was seen to be gone; those that never were are absent."""
    gone: dict[str, int] = {}
    while len(gone) < len(FAULTS) and boot_ms() < until_ms:
        for name in FAULTS.keys() - gone.keys():
            if not place.inside(name):
                gone[name] = boot_ms()
        await asyncio.sleep(0.005)
    return gone


@pytest.mark.parametrize("round_", range(ROUNDS))
@pytest.mark.parametrize(
    ("confinement", "to_daemon"),
    [
        ("pid-namespace", signal.SIGKILL),
        ("pid-namespace", signal.SIGSTOP),
        ("user-namespace", signal.SIGKILL),
        ("chain", signal.SIGSTOP),
    ],
    ids=str,
)
async def test_every_process_is_gone_in_time(
    place: Place, confinement: str, to_daemon: signal.Signals, round_: int
) -> None:
    with _busy(2), _daemon(place, confinement, lease_ms=2_500) as daemon:
        for name in FAULTS:
            await wait_until(lambda name=name: len(place.inside(name)) > 4)  # type: ignore[misc]
            assert place.record(name).confinement == confinement
        deadline_ms = _renews_no_more(daemon, to_daemon)
        victims = [(_victim_fd(place, fault), number) for fault, number in FAULTS.items() if number]
        fault_ms = deadline_ms - Random(round_).randrange(100, 600)
        await wait_until(lambda: boot_ms() >= fault_ms)
        ended = [name for name in FAULTS if not place.inside(name)]
        assert not ended or boot_ms() >= deadline_ms, "nothing ends before its time"
        for pidfd, number in victims:
            with contextlib.suppress(ProcessLookupError):  # late: this host is busy
                signal.pidfd_send_signal(pidfd, number)
            os.close(pidfd)
        gone_ms = await _gone_ms(place, deadline_ms + 2 * KILL_BUDGET_MS)
        late_ms = {name: at_ms - deadline_ms for name, at_ms in sorted(gone_ms.items())}
        print(json.dumps([confinement, to_daemon.name, late_ms]))
    assert late_ms.keys() == FAULTS.keys(), "the others live on"
    assert max(late_ms.values()) <= KILL_BUDGET_MS
    await wait_until(lambda: place.record("none").state == "exited")
    assert place.record("none").ending == ENDED


# --- the life of a lease ------------------------------------------------------------------------


async def test_a_vm_ends_with_the_lease_of_its_host(place: Place) -> None:
    units = await started(place, UNRULY, lease_ms=2_000)
    assert (await place.reaches(units, UnitState.EXITED)).detail == f"{ENDED}\nup"
    assert place.inside() == []
    await units.close()


async def test_a_host_that_was_suspended_counts_that_time(place: Place) -> None:
    """CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC there (time_namespaces(7))."""
    suspended = ["unshare", "--time", "--boottime", "1000000", "--fork"]
    daemon = start_daemon(place, suspended, UNRULY, lease_ms=2_000)
    told, _ = await asyncio.to_thread(daemon.communicate, timeout=15)
    assert told == f"EXITED {ENDED}\nup\n"


async def test_also_while_it_is_being_stopped(place: Place) -> None:
    units = await started(place, UNRULY, "exit 0", lease_ms=2_000)
    units.stop("web", grace_ms=3_600_000, kill=False)
    assert (await place.reaches(units, UnitState.EXITED)).detail == f"{ENDED}\nup"
    await units.close()


async def test_a_kept_vm_goes_on_without_one(place: Place) -> None:
    units = await started(place, UNRULY, lease_ms=3_000)
    units.start("kept", Run(4, 8, 1, place.runner(FOREVER), keep=True))
    await place.reaches(units, UnitState.ACTIVE, "kept")
    await place.reaches(units, UnitState.EXITED)
    units.renew(boot_ms() + 1)
    await _processed(place, "kept")
    await asyncio.sleep(0.3)  # the anchor would have had its turn
    assert len(place.inside("kept")) == 1
    assert units.seen()["kept"].state is UnitState.ACTIVE
    units.stop("kept", grace_ms=0, kill=True)
    await place.reaches(units, UnitState.EXITED, "kept")
    await units.close()


@pytest.mark.parametrize("keep", [False, True], ids=["fenced", "kept"])
@pytest.mark.parametrize("lease_ms", [None, 0, -3_600_000], ids=["never", "over", "long-over"])
async def test_nothing_starts_without_a_lease(
    place: Place, lease_ms: int | None, keep: bool
) -> None:
    units = place.units(lease_ms=lease_ms)
    await units.open()
    runner = place.runner("echo ran > ran")
    units.start("web", Run(3, 7, 1, runner, keep))
    assert (await place.reaches(units, UnitState.EXITED)).detail == NO_LEASE
    assert not (place.directory / "web/web/ran").exists()
    units.discard("web")
    units.renew(boot_ms() + 60_000)
    units.start("web", Run(3, 8, 1, runner, keep))
    assert (await place.reaches(units, UnitState.EXITED)).detail == "exited with status 0"
    await units.close()


async def test_a_renewed_lease_goes_on_for_every_vm(place: Place) -> None:
    units = await started(place, FOREVER, lease_ms=2_000)
    first_ms = units._deadline_ms
    units.start("db", Run(4, 8, 1, place.runner(FOREVER)))
    await wait_until(lambda: units._units["web"].guard)
    units.renew(boot_ms() + 60_000)  # `web` is told now, `db` once its guard is there
    await place.reaches(units, UnitState.ACTIVE, "db")
    await wait_until(lambda: boot_ms() > first_ms + 300)
    assert len(place.inside()) == len(place.inside("db")) == 1
    await _stop_all(place, units)


async def test_a_later_daemon_renews_what_it_finds(place: Place) -> None:
    units = await started(place, FOREVER, lease_ms=2_000)
    first_ms = units._deadline_ms
    await units.close()
    again = place.units(lease_ms=3_000)
    await again.open()
    await wait_until(lambda: boot_ms() > first_ms + 300)
    assert again.seen()["web"].state is UnitState.ACTIVE
    assert (await place.reaches(again, UnitState.EXITED)).detail == f"{ENDED}\nup"
    assert boot_ms() >= again._deadline_ms
    await again.close()


async def test_a_deadline_is_never_moved_back(place: Place) -> None:
    """Neither by the driver nor, whoever says so, by the guard."""
    units = await started(place, FOREVER)
    early_ms = boot_ms() + 100
    units.renew(early_ms)
    await _processed(place, "web", {"deadline_ms": early_ms})
    await wait_until(lambda: boot_ms() > early_ms + 300)
    units.start("db", Run(4, 8, 1, place.runner(FOREVER)))
    await place.reaches(units, UnitState.ACTIVE, "db")
    assert len(place.inside()) == 1
    await _stop_all(place, units)


async def test_a_renewal_that_comes_late_revives_nothing(place: Place) -> None:
    """It waits at a guard that is stopped. So is the anchor, or nothing would be left to revive."""
    units = await started(place, UNRULY, lease_ms=2_000)
    deadline_ms = units._deadline_ms
    guard = place.guard_pid()
    os.kill(place.record().anchor_pid, signal.SIGSTOP)
    os.kill(guard, signal.SIGSTOP)
    units.renew(boot_ms() + 60_000)
    await wait_until(lambda: boot_ms() > deadline_ms)
    assert place.inside(), "two faults at once are outside the promise"
    os.kill(guard, signal.SIGCONT)
    assert (await place.reaches(units, UnitState.EXITED)).detail == f"{ENDED}\nup"
    await units.close()


async def test_the_namespace_of_an_ended_lease_lets_nothing_start(place: Place) -> None:
    """A guard that was stopped before its deadline asks the guest to shut down after it."""
    units = await started(place, FOREVER, "touch asked", lease_ms=2_000)
    guard = place.guard_pid()
    os.kill(guard, signal.SIGSTOP)
    units.stop("web", grace_ms=60_000, kill=False)
    await wait_until(lambda: not place.inside())
    os.kill(guard, signal.SIGCONT)
    await place.reaches(units, UnitState.EXITED)
    assert not Path(place.directory, "web/web/asked").exists()
    await units.close()


async def test_a_guard_that_hangs_is_seen_to_have_lost_its_vm(place: Place) -> None:
    """The lease of the host goes on, but its guard could not be told."""
    units = await started(place, FOREVER, lease_ms=2_000)
    units.start("kept", Run(4, 8, 1, place.runner(FOREVER), keep=True))
    await place.reaches(units, UnitState.ACTIVE, "kept")
    await place.reaches(units, UnitState.ACTIVE)
    for name in ("web", "kept"):
        os.kill(place.guard_pid(name), signal.SIGSTOP)
    units.renew(boot_ms() + 2_000)
    assert (await place.reaches(units, UnitState.EXITED)).detail == "its guard was killed\nup"
    assert boot_ms() > units._deadline_ms, "it has been given its time"
    assert len(place.inside("kept")) == 1
    await _stop_all(place, units)


async def test_no_watchdog_stands_behind_it(place: Place) -> None:
    assert place.units().guaranteed is False


async def _processed(place: Place, name: str, *orders: dict[str, int]) -> None:
    """Give a guard orders, and return once it has read them: it hangs up at what is none."""
    reader, writer = await asyncio.open_unix_connection(place.directory / name / "guard.sock")
    for order in orders:
        writer.write(json.dumps(order).encode() + b"\n")
    writer.write(b"{\n")
    await reader.read()
    writer.close()


async def _stop_all(place: Place, units: ProcessUnits) -> None:
    for name in [name for name, unit in units.seen().items() if unit.state != UnitState.EXITED]:
        units.stop(name, grace_ms=0, kill=True)
        await place.reaches(units, UnitState.EXITED, name)
    await units.close()
