"""Tests of drivers are coroutines: they run on a loop, as the daemon does."""

import asyncio
import inspect
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.place import Place
from drivers.processes import stop_leftovers

TEST_S = 60

_log = logging.getLogger(__name__)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine. A defect that a driver reports to the loop fails it."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    defects: list[dict[str, Any]] = []

    async def run() -> None:
        test = asyncio.current_task()
        assert test is not None

        def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            defects.append(context)
            test.cancel()

        asyncio.get_running_loop().set_exception_handler(note)
        async with asyncio.timeout(TEST_S):
            await pyfuncitem.obj(**arguments)

    try:
        asyncio.run(run())
    finally:
        for defect in defects:
            _log.error("%s", defect.get("message"), exc_info=defect.get("exception"))
    assert not defects, "a driver has reported a defect"
    return True


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place for VMs, of which nothing is left running whatever the test does."""
    yield Place(tmp_path)
    stop_leftovers(str(tmp_path))
