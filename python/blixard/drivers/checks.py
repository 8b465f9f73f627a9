"""Asks guests whether they serve: over TCP or HTTP, by a program of the host, by their console."""

import asyncio
import contextlib
import os
import re
import shlex
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from blixard.health import Tally
from blixard.policy import CheckKind
from blixard.ports import Checked, Consoles

_TOLD: Final = 200
"""How much of what a program says is told, in characters."""
_GOOD: Final = range(200, 400)


@dataclass(eq=False)
class _Guest:
    """A guest that is checked."""

    checked: Checked
    began_s: float
    """When it became active, on the monotonic clock."""
    tally: Tally = field(default_factory=Tally)
    task: asyncio.Task[None] | None = None

    @property
    def active_ms(self) -> int:
        return round((time.monotonic() - self.began_s) * 1_000)


class GuestChecks:
    """Implements `ports.Checks`. `wake` is called when something has changed."""

    def __init__(self, consoles: Consoles, wake: Callable[[], None]) -> None:
        self._consoles = consoles
        self._wake = wake
        self._guests: dict[str, _Guest] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def keep(self, wanted: Mapping[str, Checked]) -> None:
        for name in [*self._guests]:
            known, now = self._guests[name].checked, wanted.get(name)
            if now is None or (now.epoch, now.check) != (known.epoch, known.check):
                self._end(self._guests.pop(name))
        for name, checked in wanted.items():
            if name not in self._guests:
                began_s = time.monotonic() - checked.active_ms / 1_000
                guest = self._guests[name] = _Guest(checked, began_s)
                guest.task = asyncio.create_task(self._check(name, guest))

    def seen(self) -> Mapping[str, tuple[int, Tally]]:
        return {name: (one.checked.epoch, one.tally) for name, one in self._guests.items()}

    async def close(self) -> None:
        """Ask no more."""
        self.keep({})
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _end(self, guest: _Guest) -> None:
        if guest.task is not None:
            guest.task.cancel()
            self._ending.add(guest.task)
            guest.task.add_done_callback(self._ending.discard)

    async def _check(self, name: str, guest: _Guest) -> None:
        check = guest.checked.check
        if check.kind is CheckKind.CONSOLE:
            await self._watch_console(name, guest)
            return
        probe = _PROBES[check.kind]
        while True:
            passed, text = await _within(probe(check.target), check.timeout_ms)
            self._note(guest, passed, text)
            await asyncio.sleep(check.interval_ms / 1_000)

    async def _watch_console(self, name: str, guest: _Guest) -> None:
        """A guest passes once a line has the text, and from then on. As long as none has, that is
        a failure every so often."""
        check = guest.checked.check
        reading = asyncio.create_task(self._until_said(name, guest))
        try:
            while not reading.done():
                await asyncio.wait([reading], timeout=check.interval_ms / 1_000)
                if not reading.done():
                    self._note(guest, False, f'no line has "{check.target}" yet')
            self._note(guest, True, reading.result())
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading

    async def _until_said(self, name: str, guest: _Guest) -> str:
        wanted = guest.checked.check.target
        while True:
            lines = self._consoles.lines(name, 0, guest.checked.epoch, lambda: True)
            async with contextlib.aclosing(lines):
                async for some in lines:
                    for line in some:
                        if wanted in line.text:
                            return line.text[:_TOLD]

    def _note(self, guest: _Guest, passed: bool, text: str) -> None:
        check = guest.checked.check
        before = guest.tally.state(check)
        guest.tally = guest.tally.after(check, guest.active_ms, passed, text)
        if guest.tally.state(check) is not before:
            self._wake()


async def _within(probe: Awaitable[str], timeout_ms: int) -> tuple[bool, str]:
    """What a probe found, and whether the guest passed."""
    try:
        async with asyncio.timeout(timeout_ms / 1_000):
            return True, await probe
    except TimeoutError:
        return False, f"no answer within {timeout_ms} ms"
    except OSError as failed:
        number = failed.errno or 0
        return False, os.strerror(number) if number > 0 else str(failed)[:_TOLD]
    except ValueError as failed:
        return False, str(failed)[:_TOLD]


async def _tcp(target: str) -> str:
    host, _, port = target.rpartition(":")
    _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.close()
    return f"{target} takes connections"


async def _http(target: str) -> str:
    """One request of HTTP/1.1 (RFC 9112), of whose answer the first line counts. A redirection is
    an answer, and is not followed."""
    url = urlsplit(target)
    is_tls = url.scheme == "https"
    port = url.port or (443 if is_tls else 80)
    reader, writer = await asyncio.open_connection(url.hostname, port, ssl=is_tls or None)
    try:
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {url.netloc}\r\nUser-Agent: blixard\r\n"
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


async def _command(target: str) -> str:
    """A program of the host, as the daemon's user. When its time is over it is killed, and with it
    what it has started."""
    process = await asyncio.create_subprocess_exec(
        *shlex.split(target),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        said = await process.stdout.read(4_096)
        await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    words = said.decode(errors="replace").strip().partition("\n")[0][:_TOLD]
    if process.returncode != 0:
        raise ValueError(f"exited with status {process.returncode}: {words}".rstrip(": "))
    return words or "exited with status 0"


_PROBES: Final[Mapping[CheckKind, Callable[[str], Awaitable[str]]]] = {
    CheckKind.TCP: _tcp,
    CheckKind.HTTP: _http,
    CheckKind.COMMAND: _command,
}
