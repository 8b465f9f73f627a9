"""Daemons come and go; VMs stay, are found again, and are never started twice."""

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from blixard.drivers import process_record
from blixard.drivers.host import boot_id
from blixard.errors import BlixardError, Code
from blixard.ports import Run, SeenUnit, UnitState
from drivers.place import FOREVER, Place, start_daemon, started
from drivers.processes import alive_with, wait_until, wait_until_gone

HOLDER = """
import sys
from pathlib import Path
from blixard.drivers.process_record import take_lock
print(take_lock(Path(sys.argv[1])) is not None, flush=True)
sys.stdin.read()
"""


async def test_a_vm_outlives_its_daemon_and_is_found_again(place: Place) -> None:
    daemon = start_daemon(place, [], FOREVER)
    await wait_until(lambda: alive_with(place.mark))
    await wait_until(lambda: place.record().state == "active")
    pids = alive_with(place.mark)
    daemon.kill()
    await asyncio.to_thread(daemon.communicate)
    units = place.units()
    await units.open()
    seen = units.seen()["web"]
    assert (seen.uid, seen.epoch, seen.state) == (3, 7, UnitState.ACTIVE)
    assert seen.active_ms >= 0
    assert alive_with(place.mark) == pids
    units.stop("web", grace_ms=0, kill=True)
    await place.reaches(units, UnitState.EXITED)
    await units.close()


async def test_closing_leaves_the_vm_alone(place: Place) -> None:
    units = await started(place, FOREVER)
    await units.close()
    assert len(alive_with(place.mark)) == 1
    again = place.units()
    await again.open()
    assert again.seen()["web"].state is UnitState.ACTIVE
    again.stop("web", grace_ms=0, kill=True)
    await place.reaches(again, UnitState.EXITED)
    await again.close()


async def test_a_vm_that_ended_meanwhile_is_told(place: Place) -> None:
    units = await started(place, FOREVER)
    await units.close()
    guard = place.guard_pid()
    os.kill(guard, signal.SIGHUP)
    await wait_until(lambda: place.record().state == "exited")
    await wait_until(lambda: not Path(f"/proc/{guard}").exists())
    again = place.units()
    await again.open()
    seen = again.seen()["web"]
    assert seen.state is UnitState.EXITED
    assert seen.detail == "killed by signal 9 (SIGKILL)\nup"
    await again.close()


async def test_a_guard_that_died_meanwhile_is_told(place: Place) -> None:
    units = await started(place, FOREVER)
    await units.close()
    os.kill(place.guard_pid(), signal.SIGKILL)
    await wait_until_gone(place.mark)
    again = place.units()
    await again.open()
    assert await place.reaches(again, UnitState.EXITED) == SeenUnit(
        3, 7, UnitState.EXITED, detail="its guard was killed\nup"
    )
    await again.close()


async def test_after_a_reboot_a_pid_that_is_used_again_is_nobody(place: Place) -> None:
    directory = place.directory / "web"
    directory.mkdir(parents=True)
    mine = process_record.start_ticks(Path("/proc/self/stat").read_bytes())
    record = process_record.Record(
        3, 7, "/runner", "an earlier boot", "pid-namespace", os.getpid(), mine, False, "active", 5
    )
    process_record.save(directory / process_record.RECORD, record)
    units = place.units()
    await units.open()
    assert units.seen()["web"].detail == "its host was restarted"
    await units.close()
    same_boot = replace(record, boot_id=boot_id(), anchor_ticks=mine + 1)
    process_record.save(directory / process_record.RECORD, same_boot)
    units = place.units()
    await units.open()
    assert units.seen()["web"].detail == "its guard was killed"
    await units.close()


@pytest.mark.parametrize("last", ["guard", "anchor"])
async def test_nothing_has_exited_before_both_guard_and_anchor_are_gone(
    place: Place, last: str
) -> None:
    """Here one of them is a process of ours, which ends when we say so."""
    directory = place.directory / "web"
    directory.mkdir(parents=True)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLDER,
            str(directory / process_record.LOCK if last == "guard" else place.path / "x"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    ticks = process_record.start_ticks(Path(f"/proc/{holder.pid}/stat").read_bytes())
    anchor_pid = holder.pid if last == "anchor" else 2**22
    record = process_record.Record(
        3, 7, "/runner", boot_id(), "pid-namespace", anchor_pid, ticks, False, "active", 5
    )
    process_record.save(directory / process_record.RECORD, record)
    units = place.units()
    await units.open()
    await asyncio.sleep(0.2)
    assert units.seen()["web"].state is UnitState.ACTIVE
    holder.communicate()
    assert (await place.reaches(units, UnitState.EXITED)).detail == "its guard was killed"
    await units.close()


async def test_a_placement_is_never_started_twice(place: Place) -> None:
    units = place.units()
    await units.open()
    runner = place.runner("echo ran >> runs")
    for epoch, ran in ((7, True), (7, False), (6, False), (8, True)):
        units.start("web", Run(3, epoch, 1, runner))
        seen = await place.reaches(units, UnitState.EXITED)
        assert ("exited with status 0" in seen.detail) == ran, seen.detail
        assert ("was started here before" in seen.detail) == (not ran), seen.detail
        units.discard("web")
        assert units.seen() == {}
    assert (place.directory / "web/web/runs").read_text() == "ran\nran\n", "volumes stay"
    await units.close()


async def test_two_guards_never_share_a_vm(place: Place) -> None:
    """A daemon that believes nothing runs, because the record was lost, is told otherwise."""
    units = await started(place, FOREVER)
    await units.close()
    (place.directory / "web" / process_record.RECORD).rename(place.path / "kept")
    again = place.units()
    await again.open()
    assert again.seen() == {}
    again.start("web", Run(4, 9, 1, place.runner(FOREVER, name="another")))
    assert "another guard lives" in (await place.reaches(again, UnitState.EXITED)).detail
    assert len(alive_with(place.mark)) == 1
    os.kill(place.guard_pid(), signal.SIGKILL)
    await again.close()


async def test_a_second_daemon_is_kept_out(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blixard.drivers.process._LAUNCH_S", 0.1)
    units = place.units()
    await units.open()
    with pytest.raises(BlixardError, match="another daemon") as refused:
        await place.units().open()
    assert refused.value.code is Code.DATA_UNUSABLE
    await units.close()


async def test_a_launch_under_way_is_waited_for(place: Place) -> None:
    """A daemon is killed while it starts a VM; the next one must not miss that VM."""
    launcher = place.path / "launcher"
    os.mkfifo(launcher)
    place.directory.mkdir()
    script = "exec 9>$0/launching; flock 9; echo held >$1; read line <$1"
    holder = subprocess.Popen(["sh", "-c", script, place.directory, launcher])
    assert launcher.read_text() == "held\n"
    units = place.units()
    opening = asyncio.create_task(units.open())
    await asyncio.wait([opening], timeout=0.3)
    assert not opening.done()
    launcher.write_text("done\n")
    await opening
    holder.wait()
    await units.close()


async def test_a_damaged_record_is_no_guess(place: Place) -> None:
    (place.directory / "web").mkdir(parents=True)
    (place.directory / "web" / process_record.RECORD).write_text("{")
    with pytest.raises(BlixardError, match="is damaged") as refused:
        await place.units().open()
    assert refused.value.code is Code.DATA_CORRUPT


def test_the_lock_names_its_holder(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert process_record.lock_holder(lock) is None
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    assert process_record.lock_holder(lock) == holder.pid
    assert process_record.take_lock(lock) is None
    holder.communicate()
    assert process_record.lock_holder(lock) is None
