"""A machine: its power, its clock, and what runs on it whether its daemon does or not.

A host is a node's data directory; the computer is what that happens to be in. When the disk is
moved to another computer, the old one goes on for as long as it has power.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from blixard.sim.builds import Builds
from blixard.sim.hypervisor import Hypervisor
from blixard.sim.keeper import Keeper
from blixard.sim.watchdog import Watchdog

if TYPE_CHECKING:
    from blixard.sim.world import World

THAW_US: Final = 5_000
"""Within this, all that was frozen runs again, in any order."""


class Computer:
    """One machine. What happens on it waits while it is frozen, and never happens without power."""

    def __init__(
        self, world: "World", node_id: int, number: int, *, rate: float, guaranteed: bool
    ) -> None:
        self.world = world
        self.node_id = node_id
        self.machine_id = f"machine-{node_id}.{number}"
        self.rate = rate
        """How fast its clock runs."""
        self.is_on = True
        self.life: int | None = None
        """The incarnation that was written down since it was switched on."""
        self.frozen_until_us = 0
        self.kind_of_freeze = ""
        self._boot_us = world.now_us
        self._suspended_us = 0
        self._power = 0
        """How often it has lost its power."""
        self.watchdog = Watchdog(self) if guaranteed else None
        self.builds = Builds(self)
        self.hypervisor = Hypervisor(self)
        self.keeper = Keeper(self)
        self.reset: Callable[[str], None] = self.lose_power
        """Told by what resets it."""
        self.keeper.boot()

    @property
    def is_frozen(self) -> bool:
        return self.frozen_until_us > self.world.now_us

    @property
    def executes(self) -> bool:
        """Whether any process of it can execute."""
        return self.is_on and not self.is_frozen

    # --- time -----------------------------------------------------------------------------------

    def boot_ms(self) -> int:
        """CLOCK_BOOTTIME."""
        return int((self.world.now_us - self._boot_us) * self.rate / 1000)

    def monotonic_s(self) -> float:
        """CLOCK_MONOTONIC: does not count suspend."""
        return (self.world.now_us - self._boot_us - self._suspended_us) * self.rate / 1e6

    def when_us(self, boot_ms: int) -> int:
        """When its CLOCK_BOOTTIME has come to a time, in the world's."""
        return self._boot_us + int(boot_ms * 1000 / self.rate) + 1

    def later(self, delay_us: float, act: Callable[[], None]) -> None:
        """Do something here after a while."""
        self.at(self.world.now_us + int(delay_us), act)

    def at(self, when_us: int, act: Callable[[], None]) -> None:
        """Do something here at a time of the world's, or once this computer can."""
        world, power = self.world, self._power

        def due() -> None:
            if power != self._power:
                return
            if self.frozen_until_us > world.now_us:
                world.at(self.frozen_until_us + world.random.randrange(THAW_US), due)
            else:
                act()

        world.at(max(when_us, world.now_us), due)

    # --- what happens to it ---------------------------------------------------------------------

    def freeze(self, seconds: float, kind: str) -> None:
        """Nothing executes for a while. In suspend, CLOCK_MONOTONIC stands still as well."""
        if not self.executes:
            return
        self.kind_of_freeze = kind
        self.frozen_until_us = until_us = self.world.now_us + int(seconds * 1e6)
        power = self._power

        def thaw() -> None:
            if power != self._power:
                return
            if kind == "suspend":
                self._suspended_us += int(seconds * 1e6)
            self.world.execution.thawed(self)

        self.world.at(until_us, thaw)

    def lose_power(self, _why: str = "") -> None:
        """Everything that ran is gone; what was built stays."""
        self._power += 1
        self.is_on = False
        self.life = None
        self.frozen_until_us = 0
        self.hypervisor.lose_power()
        self.keeper.lose_power()
        self.builds.forget()
        self.world.execution.lost_power(self)

    def switch_on(self) -> None:
        self.is_on = True
        self._boot_us = self.world.now_us
        self._suspended_us = 0
        self.keeper.boot()
