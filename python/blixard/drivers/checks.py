"""Asks guests, again and again, whether they serve."""

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from blixard.drivers.probes import LONGEST_TEXT, PROBES
from blixard.drivers.tasks import Tasks
from blixard.errors import BlixardError
from blixard.health import Tally
from blixard.policy import CheckKind
from blixard.ports import Checked, Consoles

AT_ONCE: Final = 32
"""How many guests of a host are asked at the same time."""
EAGER_MS: Final = 1_000
"""The longest pause until a guest has passed once, as long as its failures do not count: somebody
may wait for it."""


@dataclass(eq=False)
class _Guest:
    """A guest that is checked."""

    checked: Checked
    began_s: float
    """When it became active, on the monotonic clock."""
    tally: Tally
    task: asyncio.Task[None] | None = None

    @property
    def active_ms(self) -> int:
        return round((time.monotonic() - self.began_s) * 1_000)

    @property
    def pause_s(self) -> float:
        check = self.checked.check
        is_eager = not self.tally.has_passed and self.active_ms < check.start_period_ms
        return (min(check.interval_ms, EAGER_MS) if is_eager else check.interval_ms) / 1_000


class GuestChecks:
    """Implements `ports.Checks`. `wake` is called when something has changed."""

    def __init__(self, consoles: Consoles, wake: Callable[[], None]) -> None:
        self._consoles = consoles
        self._wake = wake
        self._tasks = Tasks()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._guests: dict[str, _Guest] = {}

    def keep(self, wanted: Mapping[str, Checked]) -> None:
        for name in [*self._guests]:
            known, now = self._guests[name].checked, wanted.get(name)
            if now is None or (now.epoch, now.check) != (known.epoch, known.check):
                gone = self._guests.pop(name)
                if gone.task is not None:
                    gone.task.cancel()
        for name, checked in wanted.items():
            if name not in self._guests:
                self._begin(name, checked)

    def _begin(self, name: str, checked: Checked) -> None:
        began_s = time.monotonic() - checked.active_ms / 1_000
        tally = Tally(has_passed=checked.has_passed)
        guest = self._guests[name] = _Guest(checked, began_s, tally)
        if checked.check.kind is not CheckKind.CONSOLE:
            guest.task = self._tasks.begin(name, lambda: self._ask(guest))
        elif not checked.has_passed:
            # What a guest has said once, it has said; its console may have begun anew since.
            guest.task = self._tasks.begin(name, lambda: self._listen(name, guest))

    def seen(self) -> Mapping[str, tuple[int, Tally]]:
        return {name: (one.checked.epoch, one.tally) for name, one in self._guests.items()}

    async def close(self) -> None:
        """Ask no more."""
        await self._tasks.close()

    async def _ask(self, guest: _Guest) -> None:
        check = guest.checked.check
        while True:
            async with self._slots:
                passed, text = await _within(PROBES[check.kind](check.target), check.timeout_ms)
            self._note(guest, passed, text)
            await asyncio.sleep(guest.pause_s)

    async def _listen(self, name: str, guest: _Guest) -> None:
        """A guest passes once a line has the text, and from then on. As long as none has, that is
        a failure every so often."""
        wanted = guest.checked.check.target
        while not guest.tally.has_passed:
            reading = asyncio.ensure_future(self._said(name, guest.checked.epoch, wanted))
            try:
                while not reading.done():
                    await asyncio.wait([reading], timeout=guest.pause_s)
                    if not reading.done():
                        self._note(guest, False, f'no line has "{wanted}" yet')
                said = reading.result()
                self._note(guest, bool(said), said or "its console has ended")
            except (BlixardError, OSError) as trouble:
                self._note(guest, False, f"its console cannot be read: {trouble}"[:LONGEST_TEXT])
            finally:
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError, BlixardError, OSError):
                    await reading
            await asyncio.sleep(guest.pause_s)

    async def _said(self, name: str, epoch: int, wanted: str) -> str:
        """The first line of a placement that has a text; empty if its console ends before."""
        lines = self._consoles.lines(name, 0, epoch, lambda: True)
        async with contextlib.aclosing(lines):
            async for some in lines:
                for line in some:
                    if wanted in line.text:
                        return line.text[:LONGEST_TEXT]
        return ""

    def _note(self, guest: _Guest, passed: bool, text: str) -> None:
        check, before = guest.checked.check, guest.tally
        guest.tally = before.after(check, guest.active_ms, passed, text)
        if not before.is_known or guest.tally.state(check) is not before.state(check):
            self._wake()


async def _within(probe: Awaitable[str], timeout_ms: int) -> tuple[bool, str]:
    """What a probe found, and whether the guest passed."""
    try:
        async with asyncio.timeout(timeout_ms / 1_000):
            return True, await probe
    except TimeoutError:
        return False, f"no answer within {timeout_ms} ms"
    except OSError as failed:
        # The number of a failed handshake is one of OpenSSL's.
        number = 0 if isinstance(failed, ssl.SSLError) else failed.errno or 0
        return False, os.strerror(number) if number > 0 else str(failed)[:LONGEST_TEXT]
    except ValueError as failed:
        return False, str(failed)[:LONGEST_TEXT]
