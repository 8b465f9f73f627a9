"""A hardware watchdog: it resets its computer some time after it was petted last, whatever runs."""

from typing import TYPE_CHECKING

from blixard.lease import LeaseTimes

if TYPE_CHECKING:
    from blixard.sim.computer import Computer

TIMEOUT_MS = LeaseTimes().watchdog_ms


class Watchdog:
    """Counts on while its computer is frozen or suspended, by the same clock."""

    def __init__(self, computer: "Computer") -> None:
        self._computer = computer
        self._petted_ms = 0
        self._boots = 0
        self._is_armed = False

    @property
    def bites_ms(self) -> int:
        """When it resets the computer (CLOCK_BOOTTIME), if it is not petted until then."""
        return self._petted_ms + TIMEOUT_MS

    def open(self) -> None:
        """To open it is to pet it."""
        self._boots += 1
        self._is_armed = False
        self.pet()

    def pet(self) -> None:
        self._petted_ms = self._computer.boot_ms()
        if not self._is_armed:
            self._is_armed = True
            self._arm(self._boots)

    def _arm(self, boot: int) -> None:
        when_us = self._computer.when_us(self.bites_ms)
        self._computer.world.at(when_us, lambda: self._due(boot))

    def _due(self, boot: int) -> None:
        computer = self._computer
        if boot != self._boots or not computer.is_on:
            return
        if computer.boot_ms() < self.bites_ms:
            self._arm(boot)
            return
        computer.world.bit("watchdog")
        computer.reset("its watchdog resets it")
