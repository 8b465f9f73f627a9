"""The daemon's end of a console: a connection to a `console_hub`."""

import asyncio
import os
from pathlib import Path

from blixard.errors import BlixardError, Code

_READ_BYTES = 16_384


class ConsoleSocket:
    """Implements `ports.Attached`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        try:
            return await self._reader.read(_READ_BYTES)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            return  # that it has ended is read

    def close(self) -> None:
        # What a guest does not read would keep the connection open.
        self._writer.transport.abort()


async def attach(directory: Path, name: str) -> ConsoleSocket:
    """Connect to the console whose socket is `name` in `directory`. Raises `BlixardError`
    (NOT_RUNNING) if nobody listens there."""
    try:
        # By way of an open directory: the address of a Unix socket has room for 108 bytes.
        folder = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        try:
            path = f"/proc/self/fd/{folder}/{name}"
            return ConsoleSocket(*await asyncio.open_unix_connection(path))
        finally:
            os.close(folder)
    except OSError as trouble:
        raise BlixardError(
            f"there is no console to attach to: {os.strerror(trouble.errno or 0)}",
            remedy="a VM that was started by an older release gets one when it is restarted",
            code=Code.NOT_RUNNING,
        ) from trouble
