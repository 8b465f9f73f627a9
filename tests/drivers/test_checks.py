"""The checks of guests, against real servers and programs."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from blixard.drivers.checks import GuestChecks
from blixard.health import Tally
from blixard.policy import CheckKind, GuestCheck
from blixard.ports import Attached, Checked, OutputLine

POLL_S = 0.01


class FileConsoles:
    """A console that is a list."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.trouble: OSError | None = None

    async def lines(
        self, name: str, limit: int, epoch: int | None, follows: Callable[[], bool]
    ) -> AsyncGenerator[list[OutputLine], None]:
        told = 0
        while follows():
            if self.trouble is not None:
                raise self.trouble
            yield [OutputLine(0, text) for text in self.written[told:]]
            told = len(self.written)
            await asyncio.sleep(POLL_S)

    async def attach(self, name: str) -> Attached:
        raise AssertionError("nobody types here")


class Bench:
    """Checks of one guest."""

    def __init__(self) -> None:
        self.consoles = FileConsoles()
        self.woken = 0
        self.checks = GuestChecks(self.consoles, self.wake)

    def wake(self) -> None:
        self.woken += 1

    def check(self, kind: CheckKind, target: str, epoch: int = 7) -> None:
        check = GuestCheck(kind, target, 20, 500, failures=2, start_period_ms=0)
        self.checks.keep({"web": Checked(epoch, check, 0)})

    async def until(self, holds: Callable[[Tally], bool]) -> Tally:
        async with asyncio.timeout(20):
            while not holds(self.checks.seen()["web"][1]):
                await asyncio.sleep(POLL_S)
        return self.checks.seen()["web"][1]

    async def passes(self) -> str:
        return (await self.until(lambda tally: tally.has_passed)).text

    async def fails(self) -> str:
        return (await self.until(lambda tally: tally.failures >= 2)).text


@contextlib.asynccontextmanager
async def server(answer: bytes | None) -> AsyncGenerator[str, None]:
    """Something that listens, and answers a request; with None it never does."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if answer is None:
                await reader.read()
            else:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield f"127.0.0.1:{port}"
    finally:
        listening.close()


async def test_tcp() -> None:
    bench = Bench()
    async with server(None) as address:
        bench.check(CheckKind.TCP, address)
        assert await bench.passes() == f"{address} takes connections"
    assert await bench.fails() == "Connection refused"
    assert bench.woken == 2, "once for each change of state"
    bench.check(CheckKind.TCP, "no-such-host.invalid:80", epoch=8)
    assert await bench.fails()
    await bench.checks.close()


@pytest.mark.parametrize(
    ("answer", "passes", "text"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True, "answers with status 200"),
        (b"HTTP/1.0 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n", True, "status 302"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", False, "answers with status 503"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", False, "does not speak HTTP"),
        (b"x" * 200_000, False, ""),
        (b"", False, "does not speak HTTP"),
        (None, False, "no answer within 500 ms"),
    ],
)
async def test_http(answer: bytes | None, passes: bool, text: str) -> None:
    bench = Bench()
    async with server(answer) as address:
        bench.check(CheckKind.HTTP, f"http://{address}/health?deep=1")
        assert text in (await bench.passes() if passes else await bench.fails())
    await bench.checks.close()


async def test_a_command_passes_with_status_0(tmp_path: Path) -> None:
    bench = Bench()
    bench.check(CheckKind.COMMAND, "/bin/echo 'all is well' $HOME")
    assert await bench.passes() == "all is well $HOME", "no shell saw it"
    bench.check(CheckKind.COMMAND, "/bin/sh -c 'echo no disk >&2; exit 3'", epoch=8)
    assert await bench.fails() == "exited with status 3: no disk"
    bench.check(CheckKind.COMMAND, "/no/such/program", epoch=9)
    assert await bench.fails() == "No such file or directory"
    await bench.checks.close()


async def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    bench = Bench()
    pids = tmp_path / "pids"
    script = f"echo $$ >>{pids}; sleep 600 & echo $! >>{pids}; wait"
    bench.check(CheckKind.COMMAND, f"/bin/sh -c '{script}'")
    assert await bench.fails() == "no answer within 500 ms"
    await bench.checks.close()
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) >= 4
    async with asyncio.timeout(20):
        while any(is_alive(pid) for pid in started):
            await asyncio.sleep(POLL_S)


async def test_a_command_may_say_much_and_leave_something_behind(tmp_path: Path) -> None:
    bench = Bench()
    bench.check(
        CheckKind.COMMAND, "/bin/sh -c 'head -c 400000 /dev/zero | tr \\\\0 x; echo; exit 1'"
    )
    assert (await bench.fails()).startswith("exited with status 1: xxx")
    left = tmp_path / "left"
    bench.check(CheckKind.COMMAND, f"/bin/sh -c 'sleep 2 & echo $! >>{left}; echo ok'", epoch=8)
    assert await bench.passes() == "ok"
    bench.check(CheckKind.COMMAND, "/bin/sh -c 'while :; do echo on and on; done'", epoch=9)
    assert await bench.fails() == "no answer within 500 ms"
    async with asyncio.timeout(5):
        await bench.checks.close()


async def test_what_another_daemon_has_found_out_is_known() -> None:
    bench = Bench()
    check = GuestCheck(CheckKind.CONSOLE, "ready", 20, 500, failures=2, start_period_ms=0)
    bench.checks.keep({"web": Checked(7, check, 5_000, has_passed=True)})
    epoch, tally = bench.checks.seen()["web"]
    assert (epoch, tally.has_passed, tally.is_known) == (7, True, False), "nothing new to tell"
    await bench.checks.close()


async def test_a_console_that_cannot_be_read_is_a_failure() -> None:
    bench = Bench()

    bench.consoles.trouble = OSError("no journal")
    bench.check(CheckKind.CONSOLE, "ready")
    assert await bench.fails() == "its console cannot be read: no journal"
    await bench.checks.close()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def test_a_console_passes_with_a_line_that_has_the_text() -> None:
    bench = Bench()
    bench.check(CheckKind.CONSOLE, "ready to serve")
    assert await bench.fails() == 'no line has "ready to serve" yet'
    bench.consoles.written += ["booting", "web is ready to serve on 80"]
    assert await bench.passes() == "web is ready to serve on 80"
    await bench.checks.close()


async def test_only_what_is_kept_is_checked() -> None:
    bench = Bench()
    async with server(None) as address:
        bench.check(CheckKind.TCP, address, epoch=7)
        await bench.passes()
        bench.check(CheckKind.TCP, address, epoch=8)
        assert bench.checks.seen() == {"web": (8, Tally())}, "another placement begins anew"
        await bench.passes()
        await bench.checks.close()
        known = bench.checks.seen()
        check = replace(GuestCheck(CheckKind.TCP, address, 20, 500, 2, 0))
        bench.checks.keep({"web": Checked(8, check, 9_999)})
        assert bench.checks.seen() == known
        bench.checks.keep({})
        assert bench.checks.seen() == {}
    await bench.checks.close()


async def test_a_check_that_hangs_does_not_hold_up_the_loop() -> None:
    bench = Bench()
    async with server(None) as address:
        bench.check(CheckKind.HTTP, f"http://{address}/")
        longest_s = 0.0
        for _ in range(50):
            began_s = time.monotonic()
            await asyncio.sleep(POLL_S)
            longest_s = max(longest_s, time.monotonic() - began_s - POLL_S)
        assert longest_s < 0.2
    await bench.checks.close()


async def test_what_counts_is_asked_no_faster_than_it_is_to_be() -> None:
    """A guest that is slower to start would have had three seconds left, not three intervals."""
    bench = Bench()
    slow = GuestCheck(CheckKind.COMMAND, "/bin/sh -c 'exit 1'", 60_000, 5_000, start_period_ms=0)
    bench.checks.keep({"web": Checked(7, slow, 0)})
    await bench.until(lambda tally: tally.failures == 1)
    # That it is not asked again can only be seen by waiting for longer than that would take.
    await asyncio.sleep(1.5)
    assert bench.checks.seen()["web"][1].failures == 1
    await bench.checks.close()


async def test_a_handshake_that_fails_is_told_as_such() -> None:
    def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    bench = Bench()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        bench.check(CheckKind.HTTP, f"https://127.0.0.1:{port}/")
        assert "SSL" in await bench.fails()
    await bench.checks.close()
