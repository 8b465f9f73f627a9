"""The work that a driver has under way on the daemon's loop."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import WeakValueDictionary


class Tasks:
    """Runs a driver's work: for each key one piece at a time, in the order of its beginning."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def begin(self, key: str, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Run `work` once what was begun before under this key has ended.

        What escapes from it is a defect of ours, and goes to the loop's exception handler.
        """
        turn = self._turns.setdefault(key, asyncio.Lock())
        task = asyncio.get_running_loop().create_task(_in_turn(turn, work))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (defect := task.exception()) is not None:
            context = {"message": "defect in a driver", "exception": defect, "task": task}
            task.get_loop().call_exception_handler(context)

    async def close(self) -> None:
        """Cancel what is still under way, and wait until it has ended."""
        running = list(self._running)
        for task in running:
            # One that was cancelled before is ending something: not to be cut short.
            if not task.cancelling():
                task.cancel()
        if running:
            await asyncio.wait(running)


async def _in_turn(turn: asyncio.Lock, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with turn:
        await work()
