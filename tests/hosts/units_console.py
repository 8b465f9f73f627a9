"""Runs inside a host, as the daemon's user: the systemd driver, moved by hand.

    python units_console.py FOLDER

Orders are lines of JSON in the pipe `FOLDER/orders`, such as `["stop", "web", 1000, false]`. What
is seen is always in `FOLDER/seen`, with the longest pause of the loop in milliseconds.
"""

import asyncio
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from blixard.drivers.systemd import SystemdUnits
from blixard.drivers.systemd_files import UnitFiles


async def main(folder: Path) -> None:
    woken = asyncio.Event()
    files = UnitFiles(Path("/var/lib/microvms"), Path("/run/blixard/units"))
    units = SystemdUnits(files, wake=woken.set, kill_after_ms=1_000)
    await units.open()
    orders = os.open(folder / "orders", os.O_RDWR | os.O_NONBLOCK)
    asyncio.get_running_loop().add_reader(orders, woken.set)
    pause_ms = 0
    while True:
        try:
            for line in os.read(orders, 65_536).splitlines():
                method, *arguments = json.loads(line)
                getattr(units, method)(*arguments)
        except BlockingIOError:
            pass
        seen = units.seen()
        told = None if seen is None else {name: asdict(unit) for name, unit in seen.items()}
        scratch = folder / "seen.new"
        scratch.write_text(json.dumps({"units": told, "pause_ms": pause_ms}))
        scratch.replace(folder / "seen")
        before_s = time.monotonic()
        try:
            async with asyncio.timeout(0.02):
                await woken.wait()
        except TimeoutError:
            pause_ms = max(pause_ms, round((time.monotonic() - before_s - 0.02) * 1000))
        woken.clear()


asyncio.run(main(Path(sys.argv[1])))
