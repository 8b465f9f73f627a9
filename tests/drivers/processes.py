"""Looking at processes from outside, through /proc."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path


def alive_with(argument: str) -> list[int]:
    """The processes, zombies aside, whose command line holds `argument`."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (directory / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if argument.encode() in arguments:
            found.append(int(directory.name))
    return found


async def wait_until(holds: Callable[[], object], timeout_s: float = 15) -> None:
    """Look again and again, for what no one can tell us about."""
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.02)


async def wait_until_gone(argument: str) -> None:
    await wait_until(lambda: not alive_with(argument))


def stop_leftovers(argument: str) -> None:
    """Kill what a test that failed has left running under a path of its own."""
    for pid in alive_with(argument):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
