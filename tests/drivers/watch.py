"""Waiting for what a driver sees, woken by the driver itself."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Watch:
    """Passed to a driver as `wake`. A driver that does not wake makes its test fail by timeout."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self.times = 0

    def __call__(self) -> None:
        self.times += 1
        self._woken.set()

    async def until(self, look: Callable[[], T], timeout_s: float = 15) -> T:
        """What `look` returns once it is true; it looks after each call only."""
        async with asyncio.timeout(timeout_s):
            while not (found := look()):
                self._woken.clear()
                await self._woken.wait()
            return found
