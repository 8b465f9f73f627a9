"""Runs inside a host, as the daemon's user: the systemd driver, moved by hand.

    python units_console.py FOLDER

Orders are lines of JSON in the pipe `FOLDER/orders`, such as `["stop", "web", 1000, false]`. Three
are the console's own: `["start", NAME, UID, EPOCH, RUNNER, KEEP]`; `["renew", MS]`, a deadline that
far from now; and `["hold", MS]`, such deadlines again and again, until it is 0. What is seen is
always in `FOLDER/seen`, with the longest pause of the loop in milliseconds.
"""

import asyncio
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blixard.drivers.systemd import SystemdUnits
from blixard.drivers.systemd_files import UnitFiles
from blixard.ports import Run

HOLD_S = 0.5


class Console:
    """Orders, as a test gives them, to the driver."""

    def __init__(self, units: SystemdUnits) -> None:
        self._units = units
        self._holding = 0
        self._held_s = 0.0

    def obey(self, method: str, *arguments: Any) -> None:
        match method:
            case "start":
                name, uid, epoch, runner, *keep = arguments
                self._units.start(name, Run(uid, epoch, 1, runner, *keep))
            case "renew":
                self._units.renew(
                    time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000 + arguments[0]
                )
            case "hold":
                [self._holding] = arguments
            case _:
                getattr(self._units, method)(*arguments)

    def hold(self) -> None:
        """Renew, if that is wanted, every now and then."""
        now_s = time.monotonic()
        if self._holding and now_s >= self._held_s + HOLD_S:
            self._held_s = now_s
            self.obey("renew", self._holding)


async def main(folder: Path) -> None:
    woken = asyncio.Event()
    files = UnitFiles(Path("/var/lib/microvms"), Path("/run/blixard/units"))
    units = SystemdUnits(files, wake=woken.set, kill_after_ms=1_000)
    await units.open()
    console = Console(units)
    orders = os.open(folder / "orders", os.O_RDWR | os.O_NONBLOCK)
    asyncio.get_running_loop().add_reader(orders, woken.set)
    pause_ms = 0
    while True:
        try:
            for line in os.read(orders, 65_536).splitlines():
                console.obey(*json.loads(line))
        except BlockingIOError:
            pass
        console.hold()
        seen = units.seen()
        told = None if seen is None else {name: asdict(unit) for name, unit in seen.items()}
        scratch = folder / "seen.new"
        scratch.write_text(
            json.dumps({"units": told, "pause_ms": pause_ms, "guaranteed": units.guaranteed})
        )
        scratch.replace(folder / "seen")
        before_s = time.monotonic()
        try:
            async with asyncio.timeout(0.02):
                await woken.wait()
        except TimeoutError:
            pause_ms = max(pause_ms, round((time.monotonic() - before_s - 0.02) * 1000))
        woken.clear()


asyncio.run(main(Path(sys.argv[1])))
