"""A place for VMs without systemd: their directory, and guests that are shell scripts."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from blixard.drivers import process_record
from blixard.drivers.host import SystemClock, boot_id
from blixard.drivers.process import ProcessUnits
from blixard.ports import Run, SeenUnit, UnitState
from drivers.processes import wait_until
from drivers.watch import Watch

FOREVER = "echo up; exec tail -f {mark} >/dev/null 2>&1"
STUBBORN = "trap 'echo asked' TERM; echo up; while :; do sleep 0.05; done; : {mark}"
LEASE_MS = 120_000
"""A lease that no test outlasts."""
LESS = {
    "pid-namespace": [],
    # An ordinary user, who may make user namespaces.
    "user-namespace": ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
    # The same in a user namespace (its own limits, not the machine's) that allows no more of them.
    "chain": [
        *("unshare", "--user", "--map-root-user", "sh", "-c"),
        'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all "$@"',
        "sh",
    ],
}
"""For each confinement, what a daemon is run by so that it has the privileges for no better one."""


class Place:
    """A directory for units, and runners that carry its path as a mark on their command lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.directory = path / "units"
        self.mark = str(path / "mark")
        (path / "mark").touch()
        self.watch = Watch()

    def units(
        self, kill_after_ms: int = 5_000, boot: str | None = None, lease_ms: int | None = LEASE_MS
    ) -> ProcessUnits:
        """Units that hold a lease, or were never given one."""
        units = ProcessUnits(
            self.directory,
            wake=self.watch,
            clock=SystemClock(),
            boot_id=boot or boot_id(),
            kill_after_ms=kill_after_ms,
        )
        if lease_ms is not None:
            units.renew(SystemClock().boot_ms() + lease_ms)
        return units

    def less(self, confinement: str) -> list[str]:
        """What to run a daemon by, which can then write here."""
        for path in (self.path, *self.path.parents[:-2]):
            path.chmod(path.stat().st_mode | 0o755)
        self.directory.mkdir()
        os.chown(self.directory, 65534 if confinement == "user-namespace" else 0, -1)
        return LESS[confinement]

    def runner(self, script: str, shutdown: str | None = None, name: str = "runner") -> str:
        scripts = {"microvm-run": script}
        if shutdown is not None:
            scripts["microvm-shutdown"] = shutdown
        for program, text in scripts.items():
            path = self.path / name / "bin" / program
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"#!/bin/sh\n{text.replace('{mark}', self.mark)}\n")
            path.chmod(0o755)
        return str(self.path / name)

    def record(self, name: str = "web") -> process_record.Record:
        record = process_record.load(self.directory / name / process_record.RECORD)
        assert record is not None
        return record

    def guard_pid(self, name: str = "web") -> int:
        pid = process_record.lock_holder(self.directory / name / process_record.LOCK)
        assert pid is not None
        return pid

    def console(self, name: str = "web") -> str:
        return (self.directory / name / process_record.CONSOLE).read_text()

    def inside(self, name: str = "web") -> list[int]:
        """The processes of the VM itself, zombies aside: they, and no others, work in its state
        directory."""
        directory, found = str(self.directory / name / name), []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str((process / "cwd").readlink()) == directory:
                    found.append(int(process.name))
        return found

    async def reaches(self, units: ProcessUnits, state: UnitState, name: str = "web") -> SeenUnit:
        await self.watch.until(lambda: units.seen()[name].state is state)
        return units.seen()[name]


async def started(
    place: Place, script: str, shutdown: str | None = None, lease_ms: int = LEASE_MS
) -> ProcessUnits:
    """Units in which `web` runs, and has said `up`."""
    units = place.units(kill_after_ms=1_000, lease_ms=lease_ms)
    await units.open()
    units.start("web", Run(3, 7, 1, place.runner(script, shutdown)))
    assert units.seen()["web"] == SeenUnit(3, 7, UnitState.STARTING)
    seen = await place.reaches(units, UnitState.ACTIVE)
    assert (seen.uid, seen.epoch) == (3, 7)
    await wait_until(lambda: "up\n" in place.console())
    return units


DAEMON = """
import asyncio, sys
from pathlib import Path
from blixard.drivers.host import SystemClock, boot_id
from blixard.drivers.process import ProcessUnits
from blixard.ports import Run, UnitState

async def main(directory, lease_ms, runner):
    woken = asyncio.Event()
    units = ProcessUnits(Path(directory), wake=woken.set, clock=SystemClock(), boot_id=boot_id())
    await units.open()
    units.renew(SystemClock().boot_ms() + int(lease_ms))
    units.start("web", Run(3, 7, 1, runner))
    while units.seen()["web"].state is not UnitState.EXITED:
        await woken.wait()
        woken.clear()
    print("EXITED", units.seen()["web"].detail)

asyncio.run(main(*sys.argv[1:]))
"""


def start_daemon(
    place: Place, prefix: list[str], script: str, lease_ms: int = LEASE_MS
) -> "subprocess.Popen[str]":
    """A process that starts `web`, as a daemon does, and waits for its end."""
    units = [str(place.directory), str(lease_ms), place.runner(script)]
    arguments = [sys.executable, "-c", DAEMON, *units]
    return subprocess.Popen([*prefix, *arguments], stdout=subprocess.PIPE, text=True)
