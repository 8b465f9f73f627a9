"""Runs VMs without systemd, each under a guard of its own that outlives the daemon."""

import asyncio
import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from blixard.drivers import process_record
from blixard.drivers.console import end_of_file, plain, tail
from blixard.drivers.process_record import Order, Record, load, lock_holder, start_ticks
from blixard.drivers.tasks import Tasks
from blixard.errors import BlixardError, Code
from blixard.ports import Clock, Run, SeenUnit, UnitState

_PACKAGES = Path(__file__).parents[2]
_CONSOLE_LINES = 20
_CONSOLE_BYTES = 2048
_READ_BYTES = 16_384
_LAUNCH_S = 10


@dataclass(eq=False)
class _Unit:
    """A VM as far as it is known here."""

    uid: int
    epoch: int
    keep: bool = False
    state: UnitState = UnitState.STARTING
    active_since_ms: int = 0
    detail: str = ""
    stop: Mapping[str, int] | None = None
    """What its guard has been told, or is to be told once it is reached."""
    guard: asyncio.StreamWriter | None = None
    guard_fd: int | None = None
    """The guard's pidfd: never another process's."""
    last_resort: asyncio.TimerHandle | None = None
    answer_due: asyncio.TimerHandle | None = None
    """The same for a guard that was told a deadline, until it answers."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A VM as its directory tells of it. The pidfds are None for what is gone."""

    record: Record
    guard_fd: int | None
    anchor_fd: int | None

    @property
    def is_alive(self) -> bool:
        return self.guard_fd is not None or self.anchor_fd is not None

    def close(self) -> None:
        for pidfd in (self.guard_fd, self.anchor_fd):
            if pidfd is not None:
                os.close(pidfd)


class ProcessUnits:
    """Implements `ports.Units`. `directory/NAME` holds what `process_record` names.

    A VM that is stopped is asked to power off, terminated after its grace, and killed
    `kill_after_ms` later. A guard that does not react then is killed, and takes its VM along.

    The fence is the guards and the anchors: each keeps the deadline that it was told last. A guard
    that answers no more is killed `kill_after_ms` after its VM has ended for want of a renewal.
    """

    guaranteed = False
    """Nothing here outlasts a host that is frozen."""

    def __init__(
        self,
        directory: Path,
        *,
        wake: Callable[[], None],
        clock: Clock,
        boot_id: str,
        kill_after_ms: int = 5_000,
    ) -> None:
        self._directory = directory
        self._wake = wake
        self._clock = clock
        self._boot_id = boot_id
        self._kill_after_ms = kill_after_ms
        self._tasks = Tasks()
        self._launching = -1
        self._deadline_ms = 0
        self._units: dict[str, _Unit] = {}

    async def open(self) -> None:
        """Find the VMs that run, and those that ended meanwhile.

        Raises `BlixardError` (DATA_CORRUPT) if the record of a VM cannot be read.
        """
        self._launching = await asyncio.to_thread(_launches_done, self._directory)
        for path in sorted(self._directory.glob(f"*/{process_record.RECORD}")):
            await self._recover(path.parent.name)

    async def _recover(self, name: str) -> None:
        found = await asyncio.to_thread(self._find, name)
        assert found is not None
        unit = self._units[name] = _Unit(found.record.uid, found.record.epoch)
        if found.is_alive:
            self._note(unit, found.record)
            self._tasks.begin(name, lambda: self._follow(name, unit, found))
        else:
            self._exited(unit, await asyncio.to_thread(self._ending, name))

    async def close(self) -> None:
        """Let go of the guards; they and their VMs live on."""
        await self._tasks.close()
        os.close(self._launching)

    def renew(self, deadline_ms: int) -> None:
        if deadline_ms > self._deadline_ms:
            self._deadline_ms = deadline_ms
            for unit in self._units.values():
                self._tell_deadline(unit)

    def start(self, name: str, run: Run) -> None:
        assert name not in self._units, "a VM is discarded before it is started again"
        unit = self._units[name] = _Unit(run.uid, run.epoch)
        self._tasks.begin(name, lambda: self._launch(name, unit, run))
        self._wake()

    def stop(self, name: str, grace_ms: int, kill: bool) -> None:
        unit = self._units.get(name)
        if unit is None or unit.state is UnitState.EXITED:
            return
        if unit.stop is None or (kill and not unit.stop["kill"]):
            unit.stop = {"grace_ms": grace_ms, "kill": kill}
            unit.state = UnitState.STOPPING
            self._tell(unit)
            self._wake()

    def discard(self, name: str) -> None:
        unit = self._units.pop(name, None)
        assert unit is None or unit.state is UnitState.EXITED, "a VM that lives is not forgotten"
        self._tasks.begin(name, lambda: asyncio.to_thread(self._forget, name))
        self._wake()

    def seen(self) -> Mapping[str, SeenUnit]:
        now_ms = self._clock.boot_ms()
        return {
            name: SeenUnit(
                unit.uid,
                unit.epoch,
                unit.state,
                now_ms - unit.active_since_ms if unit.state is UnitState.ACTIVE else 0,
                unit.detail,
            )
            for name, unit in self._units.items()
        }

    # --- the life of a VM -----------------------------------------------------------------------

    async def _launch(self, name: str, unit: _Unit, run: Run) -> None:
        """Start a guard, then follow it."""
        order = Order(
            directory=str(self._directory / name),
            uid=run.uid,
            epoch=run.epoch,
            runner=run.runner,
            boot_id=self._boot_id,
            kill_after_ms=self._kill_after_ms,
            deadline_ms=self._deadline_ms,
            keep=run.keep,
        )
        try:
            launcher = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-S", "-m", "blixard.drivers.process_guard"),
                *(json.dumps(asdict(order)), str(self._launching)),
                env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(_PACKAGES)},
                pass_fds=[self._launching],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            refusal = plain((await launcher.communicate())[1]).strip()
        except OSError as trouble:
            refusal = str(trouble)
        found = await asyncio.to_thread(self._find, name)
        if found is not None and found.is_alive:
            # Even after a refusal: whatever lives here is seen.
            unit.uid, unit.epoch = found.record.uid, found.record.epoch
            await self._follow(name, unit, found)
        elif found is not None:
            self._exited(unit, await asyncio.to_thread(self._ending, name))
        else:
            self._exited(unit, f"could not be started: {refusal}")

    async def _follow(self, name: str, unit: _Unit, found: _Found) -> None:
        """Stay with a VM until no process of it is left."""
        self._note(unit, found.record)
        unit.keep, unit.guard_fd = found.record.keep, found.guard_fd
        try:
            if found.guard_fd is not None:
                await self._converse(name, unit)
                await _gone(found.guard_fd)
            if found.anchor_fd is not None:
                with contextlib.suppress(ProcessLookupError):
                    # An heir that was stopped has work to do.
                    signal.pidfd_send_signal(found.anchor_fd, signal.SIGCONT)
                await _gone(found.anchor_fd)
        finally:
            unit.guard_fd = None
            for timer in (unit.last_resort, unit.answer_due):
                if timer is not None:
                    timer.cancel()
            found.close()
        self._exited(unit, await asyncio.to_thread(self._ending, name))

    async def _converse(self, name: str, unit: _Unit) -> None:
        """Tell the guard what it is to do, and note what it tells, until it goes away."""
        try:
            reader, unit.guard = await self._connect(name)
        except OSError:
            return  # it is going away; if it is not, the last resort still reaches it
        self._tell_deadline(unit)
        self._tell(unit)
        try:
            while line := await reader.readline():
                self._note(unit, Record(**json.loads(line)))
                if unit.answer_due is not None:
                    unit.answer_due.cancel()
                    unit.answer_due = None
        except ConnectionError:
            return
        finally:
            unit.guard.close()
            unit.guard = None

    async def _connect(self, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # By way of an open directory: the address of a Unix socket has room for 108 bytes.
        directory = os.open(self._directory / name, os.O_PATH | os.O_DIRECTORY)
        try:
            path = f"/proc/self/fd/{directory}/{process_record.SOCKET}"
            return await asyncio.open_unix_connection(path)
        finally:
            os.close(directory)

    def _tell_deadline(self, unit: _Unit) -> None:
        if unit.guard is None or unit.keep or self._deadline_ms == 0:
            return
        unit.guard.write(json.dumps({"deadline_ms": self._deadline_ms}).encode() + b"\n")
        if unit.answer_due is None:
            left_ms = max(0, self._deadline_ms - self._clock.boot_ms())
            unit.answer_due = _kill_later(unit, left_ms + self._kill_after_ms)

    def _tell(self, unit: _Unit) -> None:
        """Pass an order to stop on, once the guard is found, and see to it that it is obeyed."""
        if unit.stop is None or unit.guard_fd is None:
            return
        if unit.guard is not None:
            unit.guard.write(json.dumps(unit.stop).encode() + b"\n")
        if unit.last_resort is not None:
            unit.last_resort.cancel()
        grace_ms = 0 if unit.stop["kill"] else unit.stop["grace_ms"] + self._kill_after_ms
        unit.last_resort = _kill_later(unit, grace_ms + self._kill_after_ms)

    def _note(self, unit: _Unit, record: Record) -> None:
        """A guard's word that its VM has exited counts when the guard and the anchor are gone."""
        state = UnitState(record.state)
        if state is UnitState.EXITED or unit.stop is not None:
            state = UnitState.STOPPING
        unit.state, unit.active_since_ms = state, record.active_since_ms
        self._wake()

    def _exited(self, unit: _Unit, detail: str) -> None:
        unit.state, unit.detail = UnitState.EXITED, detail
        self._wake()

    # --- what lies on the disk ------------------------------------------------------------------

    def _find(self, name: str) -> _Found | None:
        directory = self._directory / name
        record = self._load(name)
        if record is None:
            return None
        if record.boot_id != self._boot_id:
            return _Found(record, None, None)
        return _Found(
            record,
            _guard_fd(directory / process_record.LOCK),
            _pidfd(record.anchor_pid, record.anchor_ticks),
        )

    def _load(self, name: str) -> Record | None:
        path = self._directory / name / process_record.RECORD
        try:
            return load(path)
        except ValueError as damage:
            raise BlixardError(
                f"{path} is damaged: {damage}",
                remedy="make sure that no process of the VM is left, then remove the file",
                code=Code.DATA_CORRUPT,
            ) from damage

    def _ending(self, name: str) -> str:
        """How a VM of which nothing is left has ended, in words, and the last of its console."""
        record = self._load(name)
        assert record is not None
        if record.state == UnitState.EXITED:
            ending = record.ending
        elif record.boot_id != self._boot_id:
            ending = "its host was restarted"
        else:
            ending = "its guard was killed"
        console = end_of_file(self._directory / name / process_record.CONSOLE, _READ_BYTES)
        shown = tail(plain(console).splitlines(), _CONSOLE_LINES, _CONSOLE_BYTES)
        return f"{ending}\n{shown}" if shown else ending

    def _forget(self, name: str) -> None:
        directory = self._directory / name
        with contextlib.suppress(OSError):  # a later daemon finds it again, and forgets it then
            (directory / process_record.RECORD).replace(directory / process_record.DISCARDED)


def _launches_done(directory: Path) -> int:
    """Wait until no launcher of an earlier daemon is at work: what is found then is all there is.
    Returns a lock that every launcher inherits, and holds until its guard can be found."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    launching = os.open(directory / "launching", os.O_RDWR | os.O_CREAT, 0o600)
    deadline_s = time.monotonic() + _LAUNCH_S
    while True:
        try:
            fcntl.flock(launching, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            if time.monotonic() > deadline_s:
                os.close(launching)
                raise BlixardError(
                    f"another daemon runs VMs in {directory}",
                    remedy="stop it, or give this one a data directory of its own",
                    code=Code.DATA_UNUSABLE,
                ) from taken
            time.sleep(0.02)
        else:
            return launching


def _kill_later(unit: _Unit, patience_ms: int) -> asyncio.TimerHandle:
    """Kill the guard of a VM, unless its end is seen earlier or the timer is cancelled."""
    assert unit.guard_fd is not None
    return asyncio.get_running_loop().call_later(
        patience_ms / 1000, signal.pidfd_send_signal, unit.guard_fd, signal.SIGKILL
    )


async def _gone(pidfd: int) -> None:
    """Wait for the end of a process."""
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(pidfd, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(pidfd)


def _guard_fd(lock: Path) -> int | None:
    """The pidfd of the process that holds a lock."""
    pid = lock_holder(lock)
    if pid is None:
        return None
    pidfd = os.pidfd_open(pid)
    # Still the holder, so the pidfd is of no other process that was given the same pid.
    if lock_holder(lock) == pid:
        return pidfd
    os.close(pidfd)
    return None


def _pidfd(pid: int, ticks: int) -> int | None:
    """The pidfd of a process known by its pid and start, if it has not ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        same = start_ticks(Path(f"/proc/{pid}/stat").read_bytes()) == ticks
        # A process that has ended, but that its parent has not waited for, is readable.
        if same and not select.select([pidfd], [], [], 0)[0]:
            return pidfd
    os.close(pidfd)
    return None
