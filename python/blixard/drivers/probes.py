"""The ways to ask a guest whether it serves. Each returns what was found, or raises `OSError` or
`ValueError`, which says what was wrong. They are cancelled when their time is over."""

import asyncio
import contextlib
import os
import re
import shlex
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Self
from urllib.parse import urlsplit

from blixard.policy import CheckKind

LONGEST_TEXT: Final = 200
"""How much is told of what a guest or a program says, in characters."""
_GOOD: Final = range(200, 400)
_HEARD: Final = 4_096
"""How much of what a program says is kept, in bytes."""


async def tcp(target: str) -> str:
    """`HOST:PORT` takes a connection."""
    host, _, port = target.rpartition(":")
    _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.close()
    return f"{target} takes connections"


async def http(target: str) -> str:
    """One request of HTTP/1.1 (RFC 9112), of whose answer the first line counts. A redirection is
    an answer, and is not followed."""
    url = urlsplit(target)
    host, is_tls = url.netloc.rpartition("@")[2], url.scheme == "https"
    port = url.port or (443 if is_tls else 80)
    reader, writer = await asyncio.open_connection(url.hostname, port, ssl=is_tls or None)
    try:
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: blixard\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        await writer.drain()
        status = re.fullmatch(rb"HTTP/1\.[01] (\d{3})[^\r\n]*\r?\n", await reader.readline())
    finally:
        writer.close()
    if status is None:
        raise ValueError(f"{target} does not speak HTTP")
    if int(status[1]) not in _GOOD:
        raise ValueError(f"{target} answers with status {int(status[1])}")
    return f"{target} answers with status {int(status[1])}"


async def command(target: str) -> str:
    """A program of the host, as the daemon's user. When its time is over it is killed, and with it
    what it has started."""
    with _Ear() as ear:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(target),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=ear.mouth,
            stderr=ear.mouth,
            start_new_session=True,
        )
        try:
            await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        words = ear.heard()
    if process.returncode != 0:
        raise ValueError(f"exited with status {process.returncode}: {words}".rstrip(": "))
    return words or "exited with status 0"


class _Ear:
    """Listens to a program. Not by a stream of asyncio: `wait` would then wait for its end, and so
    for whatever the program has left behind."""

    def __enter__(self) -> Self:
        self._ear, self.mouth = os.pipe()
        os.set_blocking(self._ear, False)
        self._said = b""
        asyncio.get_running_loop().add_reader(self._ear, self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._ear)
        os.close(self._ear)
        os.close(self.mouth)

    def _listen(self) -> None:
        """Hear all, so that the program can go on; keep the beginning."""
        with contextlib.suppress(BlockingIOError):
            self._said = (self._said + os.read(self._ear, 65_536))[:_HEARD]

    def heard(self) -> str:
        """The first line."""
        self._listen()
        return self._said.decode(errors="replace").strip().partition("\n")[0][:LONGEST_TEXT]


PROBES: Final[Mapping[CheckKind, Callable[[str], Awaitable[str]]]] = {
    CheckKind.TCP: tcp,
    CheckKind.HTTP: http,
    CheckKind.COMMAND: command,
}
