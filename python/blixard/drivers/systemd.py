"""Runs VMs as units of systemd: `microvm@NAME.service`, as microvm.nix has it.

The keeper of the host lets them start, and ends them with its lease: a VM's gate is opened before
its unit is started, and shut before the VM is said to have exited.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from blixard.drivers import host, keeper_client
from blixard.drivers.console import tail
from blixard.drivers.keeper_client import KeeperClient
from blixard.drivers.systemd_facts import UnitFacts, unit_name
from blixard.drivers.systemd_files import UnitFiles, UnitRecord
from blixard.drivers.tasks import Tasks
from blixard.errors import BlixardError, Code
from blixard.ports import Run, SeenUnit, UnitState

if TYPE_CHECKING:
    from blixard.drivers.systemd_bus import SystemdBus

_CONSOLE_LINES = 20
_CONSOLE_BYTES = 2048
# Between the end of a process and its last words being in the journal.
_JOURNAL_S = 0.3
_RETRY_S = 1.0
_ASKING_S = 1.0

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Unit:
    """A VM as far as it is known here."""

    record: UnitRecord
    facts: UnitFacts = field(default_factory=UnitFacts)
    is_starting: bool = False
    """It was ordered to start, and systemd has not finished with that."""
    is_permitted: bool = True
    """Its gate may be open: the keeper has said so, or a life of the daemon before."""
    failure: str = ""
    """Why it could not be started."""
    invocation: str = ""
    ended: UnitFacts = field(default_factory=UnitFacts)
    """What was last known that says how it ended."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while nothing of it is left."""
    detail: str | None = None
    """How it ended, once that is known."""
    is_killed: bool = False
    stopping: asyncio.Task[None] | None = None

    @property
    def is_stopping(self) -> bool:
        return self.stopping is not None and not self.stopping.done()

    @property
    def state(self) -> UnitState:
        state = self.facts.state
        if state is UnitState.EXITED and self.is_starting:
            state = UnitState.STARTING
        if state is UnitState.EXITED and self.detail is None:
            return UnitState.STOPPING
        if state is not UnitState.EXITED and self.is_stopping:
            return UnitState.STOPPING
        return state


class SystemdUnits:
    """Implements `ports.Units`. `files` says where the VMs' directories and the records lie, and
    the keeper listens at `keeper`.

    A VM that is stopped is asked by its unit's own `ExecStop=`, terminated after its grace, and
    killed every `kill_after_ms` after that.
    """

    def __init__(
        self,
        files: UnitFiles,
        *,
        wake: Callable[[], None],
        kill_after_ms: int = 5_000,
        keeper: Path = keeper_client.SOCKET,
    ) -> None:
        self._files = files
        self._keeper = KeeperClient(keeper, host.boot_id())
        self._wake = wake
        self._kill_after_ms = kill_after_ms
        self._tasks = Tasks()
        self._units: dict[str, _Unit] = {}
        self._is_known = False
        self._bus: SystemdBus
        self._last_lines: Callable[[str, str, int], Iterable[str]]

    async def open(self) -> None:
        """Begin to look for systemd; until it is found, `seen` knows nothing. Raises `BlixardError`
        if this host lacks what it takes."""
        try:
            from blixard.drivers.systemd_bus import SystemdBus
            from blixard.drivers.systemd_journal import last_lines
        except ImportError as missing:
            raise BlixardError(
                f"the systemd driver cannot be used here: {missing}",
                remedy="install python3-gi, python3-pydbus and python3-systemd, "
                'or set driver = "process"',
                code=Code.CONFIG_VALUE,
            ) from missing
        self._last_lines = last_lines
        for name, record in (await asyncio.to_thread(self._files.records)).items():
            self._units[name] = _Unit(record)
        self._bus = SystemdBus(self, self._files.ours)
        self._keeper.open()
        self._bus.open()

    async def close(self) -> None:
        """Let go of systemd and the keeper; the VMs live on."""
        await self._tasks.close()
        await self._keeper.close()
        await self._bus.close()

    async def is_shutting_down(self) -> bool:
        """Whether systemd is stopping the whole host, and with it the VMs; False if that cannot be
        told."""
        try:
            # A bus that hangs must not keep a daemon from ending.
            async with asyncio.timeout(_ASKING_S):
                return await self._bus.is_shutting_down()
        except (BlixardError, TimeoutError):
            return False

    @property
    def guaranteed(self) -> bool:
        return self._keeper.guaranteed

    def renew(self, deadline_ms: int) -> None:
        self._keeper.renew(deadline_ms)

    def start(self, name: str, run: Run) -> None:
        assert name not in self._units, "a VM is discarded before it is started again"
        record = UnitRecord(run.uid, run.epoch, run.runner)
        unit = self._units[name] = _Unit(record, is_starting=True, is_permitted=False)
        self._tasks.begin(name, lambda: self._start(name, unit, run))
        self._wake()

    def stop(self, name: str, grace_ms: int, kill: bool) -> None:
        unit = self._units.get(name)
        if unit is None or unit.state is UnitState.EXITED:
            return
        if not unit.is_stopping or (kill and not unit.is_killed):
            if unit.stopping is not None:
                unit.stopping.cancel()
            unit.is_killed = kill
            steps = self._kill if kill else self._stop
            unit.stopping = self._tasks.begin(f"stop {name}", lambda: steps(name, unit, grace_ms))
            self._wake()

    def discard(self, name: str) -> None:
        unit = self._units.pop(name, None)
        assert unit is None or unit.state is UnitState.EXITED, "a VM that lives is not forgotten"
        self._tasks.begin(name, lambda: self._forget(name))
        self._wake()

    def seen(self) -> Mapping[str, SeenUnit] | None:
        if not self._is_known:
            return None
        now_us = time.monotonic_ns() // 1000
        return {
            name: SeenUnit(
                unit.record.uid,
                unit.record.epoch,
                unit.state,
                (now_us - unit.facts.active_since_us) // 1000
                if unit.state is UnitState.ACTIVE
                else 0,
                unit.detail or "",
            )
            for name, unit in self._units.items()
        }

    # --- told by the bus ------------------------------------------------------------------------

    def connected(self, facts: Mapping[str, UnitFacts]) -> None:
        self._is_known = True
        for name in sorted(facts):
            if name not in self._units and facts[name].state is not UnitState.EXITED:
                # Blixard started it, but what for is forgotten: no placement has such numbers.
                self._units[name] = _Unit(UnitRecord(0, 0, ""))
        for name in sorted(self._units):
            # A unit that is not even loaded is down.
            self.changed(name, facts.get(name, UnitFacts()))
        self._wake()

    def lost(self) -> None:
        self._is_known = False
        self._wake()

    def changed(self, vm: str, facts: UnitFacts) -> None:
        unit = self._units.get(vm)
        if unit is None:
            return
        unit.facts = facts
        unit.invocation = facts.invocation or unit.invocation
        if facts.tells_an_ending:
            unit.ended = facts
        self._look(vm, unit)

    def _look(self, name: str, unit: _Unit) -> None:
        """Note whether anything of a VM is left, and if not, make sure of it."""
        if unit.facts.state is UnitState.ACTIVE:
            unit.failure, unit.ended = "", UnitFacts()
        if unit.facts.state is not UnitState.EXITED or unit.is_starting:
            unit.gone.clear()
            unit.detail = None
        elif not unit.gone.is_set():
            unit.gone.set()
            self._tasks.begin(f"end {name}", lambda: self._end(name, unit))
        self._wake()

    async def _end(self, name: str, unit: _Unit) -> None:
        """Shut the gate, look whether anything came through it at the last moment, and tell how the
        VM ended."""
        was_open = await self._shut(name, unit)
        await self._look_again(name, unit)
        ending = unit.failure or unit.ended.ending
        if unit.ended.was_killed and not was_open:
            ending = f"{ending}: the lease of its host ended"
        await asyncio.sleep(_JOURNAL_S)
        lines: Iterable[str] = []
        with contextlib.suppress(OSError):  # what cannot be read is not shown
            lines = await asyncio.to_thread(
                self._last_lines, unit_name(name), unit.invocation, _CONSOLE_LINES
            )
        console = tail(lines, _CONSOLE_LINES, _CONSOLE_BYTES)
        if unit.gone.is_set():
            unit.detail = f"{ending}\n{console}" if console else ending
            self._wake()

    async def _shut(self, name: str, unit: _Unit) -> bool:
        """Shut the gate of a VM, and return whether it was open. While the keeper is out of reach,
        a VM that was let in could come in again."""
        while True:
            try:
                return await self._keeper.revoke(name)
            except BlixardError as trouble:
                if not unit.is_permitted:
                    return False
                _log.warning("the gate of %s is not shut yet: %s", name, trouble)
                await asyncio.sleep(_RETRY_S)

    async def _look_again(self, name: str, unit: _Unit) -> None:
        """Return once the unit has been seen after this call, if it still seems to be down."""
        while unit.gone.is_set():
            try:
                await self._bus.watch(name)
            except BlixardError:
                await asyncio.sleep(_RETRY_S)
            else:
                return

    # --- orders ---------------------------------------------------------------------------------

    async def _start(self, name: str, unit: _Unit, run: Run) -> None:
        try:
            await asyncio.to_thread(self._files.prepare, name, unit.record)
            await self._bus.watch(name)
            result = await self._run(name, unit, run)
            # "failed": it ran, and ended before the job did; the unit says how.
            if result not in ("done", "failed"):
                unit.failure = f"could not be started: the job of systemd ended with '{result}'"
        except (BlixardError, OSError) as error:
            unit.failure = f"could not be started: {error}"
        unit.is_starting = False
        self._look(name, unit)

    async def _run(self, name: str, unit: _Unit, run: Run) -> str:
        """Open the gate of a VM, let it start, and return the result of systemd's job."""
        try:
            await self._keeper.permit(name, run.epoch, run.incarnation, run.keep)
        except BlixardError as trouble:
            unit.is_permitted = isinstance(trouble, keeper_client.UnansweredError)
            raise
        unit.is_permitted = True
        # An order to stop may have overtaken this one.
        return "canceled" if unit.stopping else await self._bus.run_job("StartUnit", name)

    async def _stop(self, name: str, unit: _Unit, grace_ms: int) -> None:
        await self._insist(name, unit, "StopUnit", "replace")
        if not await self._ended_within(unit, grace_ms):
            await self._insist(name, unit, "KillUnit", "main", 15)
            if not await self._ended_within(unit, self._kill_after_ms):
                await self._kill(name, unit, grace_ms)

    async def _kill(self, name: str, unit: _Unit, _: int) -> None:
        """Kill until nothing is left: what starts meanwhile, too."""
        while not unit.gone.is_set():
            await self._insist(name, unit, "StopUnit", "replace")
            await self._insist(name, unit, "KillUnit", "all", 9)
            await self._ended_within(unit, self._kill_after_ms)

    async def _insist(self, name: str, unit: _Unit, method: str, *arguments: object) -> None:
        """Give an order as soon as systemd can be reached. Some are refused to a unit that is about
        to end, and that is no trouble."""
        while not unit.gone.is_set():
            try:
                await self._bus.call(method, unit_name(name), *arguments)
            except BlixardError:
                await self._ended_within(unit, int(_RETRY_S * 1000))
                if self._is_known:
                    return
            else:
                return

    async def _ended_within(self, unit: _Unit, limit_ms: int) -> bool:
        waiting = asyncio.ensure_future(unit.gone.wait())
        try:
            await asyncio.wait([waiting], timeout=limit_ms / 1000)
        finally:
            waiting.cancel()
        return unit.gone.is_set()

    async def _forget(self, name: str) -> None:
        """A unit that ended by itself leaves units behind that are part of it, such as
        `microvm-set-booted@`, and its failure: the next start must find neither."""
        with contextlib.suppress(OSError):  # a later daemon finds it again, and forgets it then
            await asyncio.to_thread(self._files.forget, name)
        with contextlib.suppress(BlixardError):  # out of reach, or it has not failed
            await self._bus.forget(name)
            await self._bus.call("StopUnit", unit_name(name), "replace")
            await self._bus.call("ResetFailedUnit", unit_name(name))
