"""Runs the `nix` command: never on the loop's time, never through a shell, never without an end."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from blixard.errors import BlixardError, Code

# Terminated, Nix ends its builders first. Killed, it leaves their children behind.
_TERM_MS = 10_000
_TETHER = Path(__file__).with_name("tether.py")

# The store's daemon refuses whoever comes first to a new store beside another, and whoever is there
# while it is restarted by an upgrade.
_STORE_LOST = re.compile(
    rb"cannot open connection to remote store|cannot connect to socket at"
    rb"|Nix daemon disconnected unexpectedly|unexpected end-of-file"
    rb"|(writing to|reading from) file: .{0,12}(Broken pipe|Connection reset by peer)"
)
_PAUSES_S = (0.5, 1, 2, 4, 8)
_END_BYTES = 4096

OnOutput = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended. Of `stderr`, only the end if somebody asked for it as it came."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def lost_store(self) -> bool:
        """Whether it failed because the store's daemon refused it or went away."""
        return self.status != 0 and _STORE_LOST.search(self.stderr) is not None


class NixMissingError(BlixardError):
    """There is no `nix` on this host."""


class NixCommand:
    """How this host runs Nix. `options` are settings beyond its nix.conf (nix.conf(5))."""

    def __init__(self, binary: str = "nix", options: Mapping[str, str] | None = None) -> None:
        self.configure(binary, options or {})

    def configure(self, binary: str, options: Mapping[str, str]) -> None:
        """Run it so from the next command on."""
        self._binary = binary
        self._options = [
            word for key, value in sorted(options.items()) for word in ("--option", key, value)
        ]

    async def run(
        self,
        arguments: Sequence[str],
        *,
        timeout_ms: int,
        directory: Path | None = None,
        on_output: OnOutput | None = None,
    ) -> Finished:
        """Run `nix ARGUMENTS`, handing what it writes to stderr to `on_output` as it comes. If it
        loses the store's daemon it is run anew, for a quarter of a minute.

        Raises `TimeoutError` after `timeout_ms`, and `NixMissingError`. However this ends, also by
        cancelling the task, the command and the builders it started have ended before.
        """
        if shutil.which(self._binary) is None:
            raise NixMissingError(
                f"'{self._binary}' is not on the PATH of this host's daemon",
                remedy="install Nix on this host",
                code=Code.BUILD_FAILED,
            )
        async with asyncio.timeout(timeout_ms / 1000):
            for pause_s in _PAUSES_S:
                finished = await self._run_once(arguments, directory, on_output)
                if not finished.lost_store:
                    return finished
                await asyncio.sleep(pause_s)
            return await self._run_once(arguments, directory, on_output)

    async def _run_once(
        self, arguments: Sequence[str], directory: Path | None, on_output: OnOutput | None
    ) -> Finished:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), self._binary),
            *("--extra-experimental-features", "nix-command flakes"),
            *arguments,
            *self._options,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=directory,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            stdout, stderr, status = await asyncio.gather(
                process.stdout.read(), _drain(process.stderr, on_output), process.wait()
            )
        finally:
            await _end(process)
        return Finished(status, stdout, stderr)


async def _drain(stream: asyncio.StreamReader, on_output: OnOutput | None) -> bytes:
    if on_output is None:
        return await stream.read()
    end = b""
    while data := await stream.read(65_536):
        end = (end + data)[-_END_BYTES:]
        await on_output(data)
    return end


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the command's process group, if the command has not ended by itself."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    ended = asyncio.ensure_future(process.wait())
    await asyncio.wait([ended], timeout=_TERM_MS / 1000)
    if not ended.done():
        os.killpg(process.pid, signal.SIGKILL)
    await ended
