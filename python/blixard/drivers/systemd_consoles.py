"""The consoles of VMs that systemd runs: the journal, and the socket of `console_tee`."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Final

from blixard.drivers import console_socket
from blixard.drivers.console import plain
from blixard.drivers.console_lines import LineBuffer
from blixard.drivers.console_socket import ConsoleSocket
from blixard.drivers.systemd_facts import unit_name
from blixard.ports import OutputLine

SOCKETS: Final = Path("/run/blixard-console")
"""Holds a directory for each VM that runs, which is its unit's."""
_READ_BYTES = 65_536
_ENTRY_BYTES = 1024 * 1024
_LOOK_EVERY_S = 0.2
_LAST_WORDS_S = 0.5
"""Between the end of a process and its last words being in the journal."""


class SystemdConsoles:
    """Implements `ports.Consoles`. `records` is that of `UnitFiles`; `sockets` as in the unit."""

    def __init__(self, records: Path, sockets: Path = SOCKETS) -> None:
        self._records = records
        self._sockets = sockets

    async def attach(self, name: str) -> ConsoleSocket:
        return await console_socket.attach(self._sockets / name, "console.sock")

    async def lines(
        self, name: str, limit: int, epoch: int | None, follows: Callable[[], bool]
    ) -> AsyncGenerator[list[OutputLine], None]:
        begin = f"--lines={limit}" if epoch is None else f"--since=@{self._began_s(name, epoch)}"
        arguments = [f"_SYSTEMD_UNIT={unit_name(name)}", begin]
        if follows():
            arguments += ["--follow"] if epoch is None else ["--follow", "--no-tail"]
        async with _journalctl(*arguments) as output:
            buffer = LineBuffer(_ENTRY_BYTES)
            async for data in _pieces(output, follows if "--follow" in arguments else None):
                yield [line for entry in buffer.add(data) for line in _lines(entry)]

    def _began_s(self, name: str, epoch: int) -> float:
        """Before this no placement of that epoch has written anything: its record is older."""
        now_s = time.time()
        record = self._records / f"{name}.json"
        with contextlib.suppress(OSError, ValueError):
            if json.loads(record.read_bytes())["epoch"] == epoch:
                return record.stat().st_mtime
        return now_s


@contextlib.asynccontextmanager
async def _journalctl(*arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    """What `journalctl` prints, an entry a line (its option --output=json)."""
    process = await asyncio.create_subprocess_exec(
        "journalctl",
        *("--quiet", "--all", "--output=json", "--output-fields=MESSAGE", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _pieces(
    output: asyncio.StreamReader, follows: Callable[[], bool] | None
) -> AsyncGenerator[bytes, None]:
    """What comes, until the end, or until nothing comes any more that is to be followed."""
    patience_s = None if follows is None else _LOOK_EVERY_S
    while True:
        try:
            async with asyncio.timeout(patience_s):
                data = await output.read(_READ_BYTES)
        except TimeoutError:
            assert follows is not None
            if patience_s == _LAST_WORDS_S:
                return
            patience_s = _LOOK_EVERY_S if follows() else _LAST_WORDS_S
            continue
        if not data:
            return
        yield data


def _lines(line: bytes) -> list[OutputLine]:
    """An entry as lines. What is no text, such as escape codes, comes as a list of bytes."""
    try:
        entry = json.loads(line)
    except ValueError:  # it is too long, and was cut
        return []
    message = entry.get("MESSAGE") or ""
    data = bytes(message) if isinstance(message, list) else message.encode()
    at_ms = int(entry["__REALTIME_TIMESTAMP"]) // 1000
    return [OutputLine(at_ms, text) for text in plain(data).split("\n")]
