"""Real guards and real processes; the guests are shell scripts."""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
from pathlib import Path

import pytest

from blixard.drivers.host import SystemClock
from blixard.ports import Run, SeenUnit, UnitState
from drivers.place import FOREVER, STUBBORN, Place, started
from drivers.processes import alive_with, wait_until

PR_SET_CHILD_SUBREAPER = 36

# --- how a VM ends ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "ending"),
    [
        ("printf 'kernel \\033[31mpanic\\033[0m\\n'; exit 3", "exited with status 3\nkernel panic"),
        ("exit 0", "exited with status 0"),
        ("kill -9 $$", "killed by signal 9 (SIGKILL)"),
        ("seq 1 30", "\n".join(["exited with status 0", *map(str, range(11, 31))])),
    ],
    ids=["status", "itself", "signal", "long"],
)
async def test_how_it_ended_is_told_in_words(place: Place, script: str, ending: str) -> None:
    units = place.units()
    await units.open()
    units.start("web", Run(3, 7, 1, place.runner(script)))
    seen = await place.reaches(units, UnitState.EXITED)
    assert seen == SeenUnit(3, 7, UnitState.EXITED, detail=ending)
    await units.close()


async def test_what_was_written_last_is_told_in_2_kib(place: Place) -> None:
    units = place.units()
    await units.open()
    units.start("web", Run(3, 7, 1, place.runner("head -c 5000 /dev/zero | tr '\\0' x; echo end")))
    seen = await place.reaches(units, UnitState.EXITED)
    ending, _, console = seen.detail.partition("\n")
    assert ending == "exited with status 0"
    assert len(console) == 2048
    assert console.endswith("xend")
    await units.close()


@pytest.mark.parametrize(
    ("program", "words"),
    [(None, "No such file"), ("no script", "Exec format error"), ("#!/nowhere\n", "No such file")],
)
async def test_a_runner_that_cannot_be_run(place: Place, program: str | None, words: str) -> None:
    runner = place.runner("")
    path = Path(runner, "bin/microvm-run")
    path.unlink()
    if program is not None:
        path.write_text(program)
        path.chmod(0o755)
    units = place.units()
    await units.open()
    units.start("web", Run(3, 7, 1, runner))
    seen = await place.reaches(units, UnitState.EXITED)
    assert seen.detail.startswith("could not be run: ")
    assert words in seen.detail
    await units.close()
    again = place.units()
    await again.open()
    assert words in again.seen()["web"].detail, "known also to a later daemon"
    await again.close()


async def test_what_it_leaves_behind_ends_with_it(place: Place) -> None:
    """Also what took a session of its own and was adopted."""
    units = place.units()
    await units.open()
    script = "(setsid tail -f {mark} >/dev/null 2>&1 & ) ; exit 0"
    units.start("web", Run(3, 7, 1, place.runner(script)))
    await place.reaches(units, UnitState.EXITED)
    assert alive_with(place.mark) == [], "exited means that nothing is left"
    await units.close()


# --- how it is stopped --------------------------------------------------------------------------


async def test_a_graceful_stop_asks_the_runner(place: Place) -> None:
    script = "echo up; while [ ! -e stop ]; do sleep 0.02; done; echo bye"
    shutdown = "echo $MAINPID > stop.new; mv stop.new stop"
    units = await started(place, script, shutdown)
    units.stop("web", grace_ms=10_000, kill=False)
    assert units.seen()["web"].state is UnitState.STOPPING
    seen = await place.reaches(units, UnitState.EXITED)
    assert seen.detail == "exited with status 0\nup\nbye"
    assert (place.directory / "web/web/stop").read_text() == "2\n", "the pid as the VM knows it"
    await units.close()


async def test_an_end_waits_for_no_other_process_to_reap(place: Place) -> None:
    """Whoever inherits orphans here, reaps none of them; in some containers that is the rule."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        script = "echo up; while [ ! -e stop ]; do sleep 0.02; done"
        units = await started(place, script, "touch stop; sleep 1000")
        units.stop("web", grace_ms=10_000, kill=False)
        assert (await place.reaches(units, UnitState.EXITED)).detail == "exited with status 0\nup"
        await units.close()
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0)
        with contextlib.suppress(ChildProcessError):
            os.wait()  # the guard


async def test_after_its_grace_it_is_terminated(place: Place) -> None:
    """However quickly the runner's own shutdown returns: some return at once."""
    units = await started(place, FOREVER, "exit 0")
    units.stop("web", grace_ms=300, kill=False)
    begun_ms = SystemClock().boot_ms()
    seen = await place.reaches(units, UnitState.EXITED)
    assert seen.detail == "killed by signal 15 (SIGTERM)\nup"
    assert SystemClock().boot_ms() - begun_ms >= 300
    await units.close()


async def test_without_a_shutdown_it_is_terminated_at_once(place: Place) -> None:
    units = await started(place, FOREVER)
    units.stop("web", grace_ms=3_600_000, kill=False)
    seen = await place.reaches(units, UnitState.EXITED)
    assert seen.detail == "killed by signal 15 (SIGTERM)\nup"
    await units.close()


async def test_what_does_not_obey_is_killed(place: Place) -> None:
    units = await started(place, STUBBORN, "echo no")
    units.stop("web", grace_ms=100, kill=False)
    seen = await place.reaches(units, UnitState.EXITED)
    assert seen.detail.startswith("killed by signal 9 (SIGKILL)\nup\nno\n")
    assert seen.detail.endswith("\nasked")
    await units.close()


async def test_a_kill_cuts_a_graceful_stop_short_and_nothing_else_does(place: Place) -> None:
    units = await started(place, STUBBORN, "echo called")
    units.stop("web", grace_ms=3_600_000, kill=False)
    units.stop("web", grace_ms=1, kill=False)
    await wait_until(lambda: place.console() == "up\ncalled\n")
    units.stop("web", grace_ms=1, kill=False)
    units.stop("web", grace_ms=3_600_000, kill=True)
    seen = await place.reaches(units, UnitState.EXITED)
    assert seen.detail == "killed by signal 9 (SIGKILL)\nup\ncalled", "it was never terminated"
    await units.close()


async def test_a_guard_that_hangs_is_killed_with_its_vm(place: Place) -> None:
    units = await started(place, FOREVER)
    os.kill(place.guard_pid(), signal.SIGSTOP)
    units.stop("web", grace_ms=0, kill=True)
    seen = await place.reaches(units, UnitState.EXITED)
    assert seen.detail == "its guard was killed\nup"
    assert alive_with(place.mark) == []
    await units.close()


async def test_a_stop_reaches_a_vm_that_still_starts(place: Place) -> None:
    units = place.units()
    await units.open()
    units.start("web", Run(3, 7, 1, place.runner(FOREVER)))
    units.stop("web", grace_ms=0, kill=True)
    assert units.seen()["web"].state is UnitState.STOPPING
    await place.reaches(units, UnitState.EXITED)
    assert alive_with(place.mark) == []
    await units.close()


async def test_a_guard_that_is_terminated_stops_its_vm(place: Place) -> None:
    """As when a host without systemd is shut down."""
    script = "echo up; while [ ! -e stop ]; do sleep 0.02; done; exit 4"
    units = await started(place, script, "touch stop")
    os.kill(place.guard_pid(), signal.SIGTERM)
    assert (await place.reaches(units, UnitState.EXITED)).detail == "exited with status 4\nup"
    await units.close()


# --- the parts ----------------------------------------------------------------------------------


async def test_a_long_directory_is_no_obstacle(place: Place) -> None:
    """The address of a Unix socket has room for 108 bytes."""
    place.directory = place.path / ("d" * 120) / "units"
    units = await started(place, STUBBORN, "echo no")
    units.stop("web", grace_ms=0, kill=True)
    await place.reaches(units, UnitState.EXITED)
    await units.close()


async def test_the_console_is_rotated(place: Place) -> None:
    units = place.units()
    await units.open()
    script = "head -c 1500000 /dev/zero | tr '\\0' x; echo end"
    units.start("web", Run(3, 7, 1, place.runner(script)))
    assert (await place.reaches(units, UnitState.EXITED)).detail.endswith("xend")
    sizes = [
        (place.directory / "web" / name).stat().st_size for name in ("console.log", "console.log.1")
    ]
    assert sum(sizes) == 1_500_004
    assert max(sizes) <= 1024 * 1024
    await units.close()


async def test_nonsense_on_its_socket_does_not_disturb_a_guard(place: Place) -> None:
    units = await started(place, FOREVER)
    for nonsense in (
        b"{\n",
        b"[]\n",
        b"{}\n",
        b'{"grace_ms": "x", "kill": 1}\n',
        b"\xff\n",
        b"x" * 9000,
    ):
        reader, writer = await asyncio.open_unix_connection(place.directory / "web/guard.sock")
        assert json.loads(await reader.readline())["state"] == "active"
        writer.write(nonsense)
        assert await reader.read() == b"", "the guard hangs up"
        writer.close()
    assert units.seen()["web"].state is UnitState.ACTIVE
    units.stop("web", grace_ms=0, kill=True)
    await place.reaches(units, UnitState.EXITED)
    await units.close()


async def test_many_at_once(place: Place) -> None:
    units = place.units()
    await units.open()
    names = [f"vm-{n}" for n in range(8)]
    for epoch, name in enumerate(names):
        units.start(name, Run(epoch, epoch + 1, 1, place.runner(FOREVER)))
    for name in names:
        await place.reaches(units, UnitState.ACTIVE, name)
    assert sorted(units.seen()) == names
    for name in names:
        units.stop(name, grace_ms=0, kill=True)
    for name in names:
        await place.reaches(units, UnitState.EXITED, name)
    assert alive_with(place.mark) == []
    await units.close()
