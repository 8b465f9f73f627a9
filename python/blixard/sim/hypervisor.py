"""The VMs of one computer: units, the jobs that start them, and their processes.

It outlives the daemon, so it is the oracle of what truly runs. It follows the contracts of `ports`,
not the drivers behind them: a start is a job, which runs when its turn comes and asks the gate
then; from there to the first process it takes a moment; what ends may restart itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from blixard.health import Tally
from blixard.ports import Checked, Run, SeenUnit, UnitState

if TYPE_CHECKING:
    from blixard.sim.computer import Computer

JOB_US: Final = (500, 30_000)
"""From `StartUnit` until the job runs."""
FORK_US: Final = (0, 60_000)
"""From the gate to the first process."""
START_US: Final = (50_000, 2_000_000)
STOP_US: Final = (50_000, 5_000_000)
KILL_US: Final = 50_000
GIVE_UP_US: Final = 60_000_000
"""A start that comes to nothing ends within a minute (`ports.Units.start`)."""
AGAIN_US: Final = 100_000
"""A unit that restarts itself does so after this."""


@dataclass(slots=True)
class Unit:
    """A VM on its computer."""

    name: str
    run: Run
    since_us: int
    state: UnitState = UnitState.STARTING
    detail: str = ""
    has_job: bool = True
    """A start is queued."""
    passes: bool = False
    """It was let through, and its first process comes in a moment."""
    is_there: bool = False
    """A process exists."""
    births: int = 0
    """How often it began."""
    is_killed: bool = False
    is_unkillable: bool = False
    serves: bool = True
    """Its guest passes its check."""
    excuse: str = ""
    """What keeps it beyond the lease of a best-effort host, outside of the promise."""

    @property
    def is_gone(self) -> bool:
        """Nothing of it is left but its gate."""
        return not (self.has_job or self.passes or self.is_there)


class Hypervisor:
    """All VMs of one computer."""

    def __init__(self, computer: "Computer") -> None:
        self._computer = computer
        self._world = computer.world
        self.units: dict[str, Unit] = {}
        self.changed: Callable[[], None] = lambda: None
        """Told when something here moved by itself."""
        self.blind_until_us = 0
        """Until then systemd does not answer."""
        self.failing_starts = 0
        self.hanging_starts = 0
        self.queued_starts: list[tuple[str, float]] = []
        """For how many seconds the next jobs wait in the queue, and what fault that is."""
        self.queued: Callable[[], None] = lambda: None
        """Told when such a job was queued."""
        self.restarts = False
        """Somebody's drop-in says `Restart=always`."""

    def heal(self) -> None:
        """Nothing further goes wrong here."""
        self.failing_starts = self.hanging_starts = 0
        self.queued_starts.clear()
        self.blind_until_us = 0
        self.restarts = False
        for unit in self.units.values():
            unit.is_unkillable = False

    def lose_power(self) -> None:
        self.units.clear()

    # --- what the oracle asks -------------------------------------------------------------------

    def slice(self) -> list[Unit]:
        """What the fence has to end: the VMs that have a process and are not to be kept."""
        return [unit for unit in self.units.values() if unit.is_there and not unit.run.keep]

    def executing(self, name: str) -> Unit | None:
        """The unit of a VM, if a process of it exists."""
        unit = self.units.get(name)
        return unit if unit is not None and unit.is_there else None

    def may_run(self, name: str, uid: int) -> bool:
        """Whether a VM runs here, or could begin to without being told to."""
        unit = self.units.get(name)
        if unit is None or unit.run.uid != uid or not self._computer.executes:
            return False
        if unit.is_there or unit.passes:
            return not unit.excuse
        return unit.has_job and self._computer.keeper.lets_through(name)

    # --- ports.Units ----------------------------------------------------------------------------

    def start(self, name: str, run: Run) -> None:
        """Open the gate, then queue the job."""
        assert run.runner
        assert name not in self.units, "a VM is started where nothing of it is seen"
        self.units[name] = unit = Unit(name, run, self._world.now_us)
        if not self._computer.keeper.permit(name, run):
            unit.has_job, unit.detail = False, "its gate stayed shut"
            self._computer.later(0, self._moved)
            return
        delay_us: float = self._world.delay_us(JOB_US)
        kind = ""
        if self.queued_starts:
            kind, seconds = self.queued_starts.pop()
            delay_us = seconds * 1e6
            self.queued()
        self._computer.later(delay_us, lambda: self._run_job(unit, kind))

    def stop(self, name: str, grace_ms: int, kill: bool) -> None:
        unit = self.units[name]
        run = unit.run
        self._world.checks.stopped(self._computer.node_id, name, run.uid, run.epoch)
        self._computer.keeper.revoke(name)
        if unit.is_gone:
            return
        unit.has_job = unit.passes = False
        if not unit.is_there:
            self._computer.later(0, self._moved)
        elif kill:
            unit.state = UnitState.STOPPING
            self.sigkill(unit, self._world.random.randrange(KILL_US))
        elif unit.state is not UnitState.STOPPING:
            unit.state, unit.since_us = UnitState.STOPPING, self._world.now_us
            after_us = min(self._world.delay_us(STOP_US), grace_ms * 1000)
            self._end_later(unit, after_us, "it was stopped")

    def discard(self, name: str) -> None:
        unit = self.units.pop(name)
        assert unit.is_gone
        assert name not in self._computer.keeper.gates

    def seen(self) -> Mapping[str, SeenUnit] | None:
        now_us = self._world.now_us
        if now_us < self.blind_until_us:
            self._world.bit("driver-hang")
            return None
        seen = {}
        for name, unit in self.units.items():
            state, run = self._state(unit), unit.run
            active_ms = (now_us - unit.since_us) // 1000
            seen[name] = SeenUnit(run.uid, run.epoch, state, active_ms, unit.detail, run.keep)
        return seen

    def _state(self, unit: Unit) -> UnitState:
        """A unit has exited when nothing of it is left, its gate removed."""
        if not unit.is_gone:
            return unit.state
        is_shut = self._computer.keeper.revoke(unit.name)
        return UnitState.EXITED if is_shut else UnitState.STOPPING

    # --- what happens ---------------------------------------------------------------------------

    def _run_job(self, unit: Unit, kind: str = "") -> None:
        """The job's turn has come: PID 1 asks the gate."""
        if not unit.has_job:
            return
        unit.has_job = False
        if not self._computer.keeper.lets_through(unit.name):
            if kind:
                self._world.bit(kind)
            unit.detail = unit.detail or "its gate was shut"
            self._moved()
            return
        self._world.execution.passes(self._computer, unit)
        unit.passes = True
        self._computer.later(self._world.delay_us(FORK_US), lambda: self._appear(unit))

    def _appear(self, unit: Unit) -> None:
        """Its first process is there."""
        if not unit.passes:
            return
        unit.passes, unit.is_there, unit.is_killed = False, True, False
        unit.state, unit.since_us = UnitState.STARTING, self._world.now_us
        unit.births += 1
        self._world.execution.begins(self._computer, unit)
        self._computer.keeper.appeared()
        if self.hanging_starts:
            self.hanging_starts -= 1
            self._world.bit("driver-hang")
            self._end_later(unit, GIVE_UP_US, "it did not start")
        elif self.failing_starts:
            self.failing_starts -= 1
            self._world.bit("start-failure")
            self._end_later(unit, self._world.delay_us(START_US), "exit status 1")
        else:
            self._computer.later(self._world.delay_us(START_US), lambda: self._active(unit))

    def _active(self, unit: Unit) -> None:
        if unit.is_there and unit.state is UnitState.STARTING:
            unit.state, unit.since_us = UnitState.ACTIVE, self._world.now_us
            self._moved()

    def sigkill(self, unit: Unit, after_us: int) -> None:
        """It ends after a while, unless it is stuck in the kernel."""
        if unit.is_unkillable:
            self._world.execution.outlives(self._computer, unit)
        if not unit.is_killed:
            unit.is_killed = True
            self._end_later(unit, after_us, "it was killed")

    def unstick(self, unit: Unit) -> None:
        """What it waited for in the kernel is there; a signal that was sent ends it now."""
        unit.is_unkillable = False
        if unit.is_killed:
            self._end(unit, "it was killed")

    def stall_guest(self, name: str) -> None:
        """It goes on, and serves no more until it is started anew."""
        self.units[name].serves = False

    def crash_guest(self, name: str) -> None:
        self._end(self.units[name], "the guest died")

    def _end_later(self, unit: Unit, after_us: int, detail: str) -> None:
        birth = unit.births

        def end() -> None:
            if birth == unit.births:
                self._end(unit, detail)

        self._computer.later(after_us, end)

    def _end(self, unit: Unit, detail: str) -> None:
        """Its last process is gone; what restarts itself will ask the gate again."""
        if not unit.is_there or self.units.get(unit.name) is not unit:
            return
        if unit.is_unkillable:
            unit.is_killed = True
            return
        unit.is_there, unit.detail, unit.excuse = False, detail, ""
        if self.restarts and unit.state is not UnitState.STOPPING:
            unit.has_job, unit.state = True, UnitState.STARTING
            self._computer.later(AGAIN_US, lambda: self._run_job(unit, "self-restart"))
        self._moved()

    def _moved(self) -> None:
        self.changed()


class Units:
    """`ports.Units` of one daemon. The keeper is told the newest deadline whenever it listens."""

    def __init__(self, computer: "Computer") -> None:
        self._keeper = computer.keeper
        self._newest_ms = 0
        self.guaranteed = computer.watchdog is not None
        self.start = computer.hypervisor.start
        self.stop = computer.hypervisor.stop
        self.discard = computer.hypervisor.discard
        self.seen = computer.hypervisor.seen

    def renew(self, deadline_ms: int) -> None:
        self._newest_ms = max(self._newest_ms, deadline_ms)
        self.tell_again()

    def tell_again(self) -> None:
        self._keeper.renew(self._newest_ms)


class GuestChecks:
    """`ports.Checks` of one daemon: what a guest would answer is known at once."""

    def __init__(self, computer: "Computer") -> None:
        self._hypervisor = computer.hypervisor
        self._wanted: Mapping[str, Checked] = {}

    def keep(self, wanted: Mapping[str, Checked]) -> None:
        self._wanted = wanted

    def seen(self) -> Mapping[str, tuple[int, Tally]]:
        return {name: (one.epoch, self._tally(name, one)) for name, one in self._wanted.items()}

    def _tally(self, name: str, checked: Checked) -> Tally:
        unit = self._hypervisor.units.get(name)
        if unit is None or unit.serves:
            return Tally(is_known=True, has_passed=True, text="it answers")
        return Tally(True, True, checked.check.failures, "it does not answer")
