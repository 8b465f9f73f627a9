"""The fence of one computer: the keeper, the gates it owns, and what acts when the keeper cannot.

A model of `drivers/keeper.py` and of the units around it. What has a file there outlives the
process here: the deadline and the gates. The times are those measured on real hosts, rounded up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from blixard.lease import LeaseTimes
from blixard.ports import Run

if TYPE_CHECKING:
    from blixard.sim.computer import Computer

TIMES: Final = LeaseTimes()
AGAIN_US: Final = 100_000
"""While it is fenced, whatever appears is killed within this."""
TIMER_US: Final = (0, 13_000)
RESTART_US: Final = (20_000, 350_000)
"""From the death of a keeper to the next one."""
NOTICED_US: Final = (300_000, 550_000)
"""From the stop of a keeper until PID 1 has seen that it is silent, and kills it."""
REPLACED_US: Final = (20_000, 200_000)
"""From then to the next one."""
QUICK_US: Final = 130_000
"""What a kill usually takes, at most."""
SLOWEST_US: Final = 900_000
"""After so long from the deadline, nothing is left that SIGKILL can end."""
UNKILLABLE_US: Final = 600_000
REBOOT_US: Final = (300_000, 800_000)
STUCK_US: Final = (2_000_000, 20_000_000)
PET_US: Final = 250_000


@dataclass(frozen=True, slots=True)
class Gate:
    """What lets a VM start."""

    epoch: int
    incarnation: int
    keep: bool


class Keeper:
    """Holds the lease of its computer, and fences when that ends."""

    def __init__(self, computer: "Computer") -> None:
        self._computer = computer
        self._world = computer.world
        self.deadline_ms = 0
        """0 while fenced."""
        self.gates: dict[str, Gate] = {}
        self.is_up = False
        self.is_fenced = True
        self._lives = 0
        self._is_armed = False
        self._was_away = ""
        self.came_back: Callable[[], None] = lambda: None
        """Told when it listens again."""

    # --- its own life ---------------------------------------------------------------------------

    def boot(self) -> None:
        """The host was switched on: nothing runs, and nothing may."""
        if self._computer.watchdog is not None:
            self._computer.watchdog.open()
        self._begin()

    def lose_power(self) -> None:
        self._lives += 1
        self.is_up = self._is_armed = False
        self.is_fenced = True
        self.deadline_ms = 0
        self.gates.clear()

    def kill(self) -> None:
        """Its process is gone; PID 1 starts another."""
        if self._leaves("keeper-dead"):
            self._computer.later(self._world.delay_us(RESTART_US), self._begin)

    def stop(self) -> None:
        """Its process stands still, until PID 1 misses its signs of life and replaces it."""
        if self._leaves("keeper-stopped"):
            noticed_us = self._world.delay_us(NOTICED_US) + self._world.delay_us(REPLACED_US)
            self._computer.later(noticed_us, self._begin)

    def _leaves(self, kind: str) -> bool:
        if not self.is_up or not self._computer.executes:
            return False
        self._lives += 1
        self.is_up = self._is_armed = False
        self._was_away = kind
        return True

    def _begin(self) -> None:
        """Go on where the keeper before has ended, or fence."""
        self.is_up = True
        self._pet_and_later(self._lives)
        if self._computer.boot_ms() < self.deadline_ms:
            self._arm()
        else:
            if self._was_away and not self.is_fenced and self._computer.hypervisor.slice():
                self._world.bit(self._was_away)
            self._fence()
        self._was_away = ""
        self.came_back()

    # --- what the daemon asks; answers whether it was done --------------------------------------

    def renew(self, deadline_ms: int) -> bool:
        if not self.is_up or deadline_ms <= self._computer.boot_ms():
            return False
        if self.is_fenced and self._computer.hypervisor.slice():
            return False
        if deadline_ms > self.deadline_ms:
            self.deadline_ms = deadline_ms
            self.is_fenced = False
            self._arm()
        return True

    def permit(self, name: str, run: Run) -> bool:
        """Open a VM's gate, if the lease still runs, and will not end before the watchdog bites."""
        if not self.is_up or not self._lease_runs() or not self._is_watched():
            return False
        self.gates[name] = Gate(run.epoch, run.incarnation, run.keep)
        return True

    def revoke(self, name: str) -> bool:
        if not self.is_up:
            return False
        self.gates.pop(name, None)
        return True

    def lets_through(self, name: str) -> bool:
        """What is asked before each start of a VM, by PID 1: `keeper.py gate`."""
        gate = self.gates.get(name)
        return gate is not None and (gate.keep or self._lease_runs())

    def _lease_runs(self) -> bool:
        return self._computer.boot_ms() < self.deadline_ms

    def _is_watched(self) -> bool:
        watchdog = self._computer.watchdog
        return watchdog is None or watchdog.bites_ms < self.deadline_ms + TIMES.kill_ms

    # --- the fence ------------------------------------------------------------------------------

    def _arm(self) -> None:
        if not self._is_armed:
            self._is_armed = True
            life = self._lives
            late_us = self._world.delay_us(TIMER_US)
            when_us = self._computer.when_us(self.deadline_ms) + late_us
            self._computer.at(when_us, lambda: self._due(life))

    def _due(self, life: int) -> None:
        if life != self._lives:
            return
        self._is_armed = False
        if self._lease_runs():
            self._arm()
        else:
            self._fence()

    def _fence(self) -> None:
        """Shut the gates, kill, and kill again whatever appears."""
        if not self.is_fenced:
            self.is_fenced = True
            self._world.execution.fences(self._computer)
        late_ms = self._computer.boot_ms() - self.deadline_ms if self.deadline_ms else 0
        self.deadline_ms = 0
        self.gates = {name: gate for name, gate in self.gates.items() if gate.keep}
        self._kill(late_ms * 1000)

    def appeared(self) -> None:
        """A process has come into the slice."""
        if self.is_up and self.is_fenced:
            life = self._lives
            self._computer.later(AGAIN_US, lambda: self._kill_again(life))

    def _kill_again(self, life: int) -> None:
        if life == self._lives and self.is_fenced:
            self._kill(SLOWEST_US)

    def _kill(self, late_us: int) -> None:
        """`late_us` is how much of the budget is used up already."""
        units = self._computer.hypervisor.slice()
        for unit in units:
            longest_us = QUICK_US
            if self._world.random.random() < 0.2:
                longest_us = max(QUICK_US, SLOWEST_US - late_us)
            self._computer.hypervisor.sigkill(unit, self._world.random.randrange(longest_us))
        life = self._lives
        if units:
            self._computer.later(AGAIN_US, lambda: self._pet_when_clear(life))
        if any(unit.is_unkillable for unit in units):
            self._computer.later(UNKILLABLE_US, lambda: self._outlived(life))

    def _outlived(self, life: int) -> None:
        """A process has outlived SIGKILL: only a reboot ends it, and that may take its time."""
        if life != self._lives or not self.is_fenced:
            return
        if any(unit.is_unkillable for unit in self._computer.hypervisor.slice()):
            self._leaves("unkillable")
            after_us = self._world.delay_us(self._world.random.choice((REBOOT_US, STUCK_US)))
            self._computer.later(after_us, lambda: self._computer.reset("nothing else helps"))

    # --- the watchdog ---------------------------------------------------------------------------

    def _pet_and_later(self, life: int) -> None:
        if life == self._lives and self._computer.watchdog is not None:
            self._pet()
            self._computer.later(PET_US, lambda: self._pet_and_later(life))

    def _pet_when_clear(self, life: int) -> None:
        if life != self._lives or self._computer.watchdog is None or not self.is_fenced:
            return
        if self._computer.hypervisor.slice():
            self._computer.later(AGAIN_US, lambda: self._pet_when_clear(life))
        else:
            self._pet()

    def _pet(self) -> None:
        watchdog = self._computer.watchdog
        if watchdog is not None and self._may_pet():
            watchdog.pet()

    def _may_pet(self) -> bool:
        """Only if the watchdog would then bite before the lease ends, or nothing is there that it
        would have to end: no process, and no gate through which one may still come."""
        ends_ms = self._computer.boot_ms() + TIMES.watchdog_ms
        if ends_ms < self.deadline_ms + TIMES.kill_ms:
            return True
        return not self._computer.hypervisor.slice() and all(g.keep for g in self.gates.values())
