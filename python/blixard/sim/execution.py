"""Who can execute which VM, and who may: the oracle of leases.

It knows the renewals that the log has taken, and every process on every computer. A process can
execute on a computer that is on and neither frozen nor suspended. Of a host without a watchdog,
exactly what a freeze, a suspend or an unkillable process keeps alive is outside of the promise; it
is counted as `exempt`.
"""

from typing import TYPE_CHECKING, Final

from blixard.lease import LeaseTimes
from blixard.model import Node
from blixard.ports import UnitState
from blixard.sim.hypervisor import Unit

if TYPE_CHECKING:
    from blixard.sim.computer import Computer
    from blixard.sim.world import World

KILL_MS: Final = LeaseTimes().kill_ms


class Execution:
    """Watches all computers of a history."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._homes: dict[int, Computer] = {}
        """Where a life was begun."""
        self._valid_ms: dict[Computer, int] = {}
        """Until when the log lets a computer run VMs, by its own clock."""
        self._armed: set[Computer] = set()

    # --- what the log says ----------------------------------------------------------------------

    def registered(self, incarnation: int, computer: "Computer") -> None:
        """A daemon has written its life down."""
        self._homes[incarnation] = computer

    def renewed(self, node: Node) -> None:
        """The log has taken a renewal."""
        computer = self._homes.get(node.incarnation)
        if computer is None or computer.life != node.incarnation:
            return
        until_ms = node.seq + node.lease_ms
        self._valid_ms[computer] = max(self._valid_ms.get(computer, 0), until_ms)
        if computer not in self._armed:
            self._arm(computer)

    def lost_power(self, computer: "Computer") -> None:
        self._valid_ms.pop(computer, None)

    # --- what happens ---------------------------------------------------------------------------

    def passes(self, computer: "Computer", unit: Unit) -> None:
        """A unit was let through its gate."""
        fence_ms = self._valid_ms.get(computer, 0) - KILL_MS
        if not unit.run.keep and computer.boot_ms() >= fence_ms:
            what = f"{unit.name} is let start on node-{computer.node_id} after its fence"
            self._world.checks.violate("gate", what)

    def begins(self, computer: "Computer", unit: Unit) -> None:
        """The first process of a VM is there."""
        self._world.checks.started(computer.node_id, unit.name, unit.run)
        self._look(computer, unit)

    def thawed(self, computer: "Computer") -> None:
        """A computer goes on after a freeze, and its clock may have passed its deadline."""
        is_late = computer.boot_ms() >= computer.keeper.deadline_ms
        for unit in computer.hypervisor.units.values():
            if not (unit.is_there or unit.passes):
                continue
            if is_late and not unit.run.keep:
                self._world.bit(computer.kind_of_freeze)
                if computer.watchdog is None:
                    unit.excuse = computer.kind_of_freeze
            if unit.is_there:
                self._look(computer, unit)

    def outlives(self, computer: "Computer", unit: Unit) -> None:
        """A process goes on after SIGKILL."""
        self._world.bit("unkillable")
        if computer.watchdog is None:
            unit.excuse = "unkillable"

    def fences(self, computer: "Computer") -> None:
        """A keeper begins to fence."""
        if computer.hypervisor.slice():
            self._world.bit("fenced")
        units = computer.hypervisor.units.values()
        kept = [unit for unit in units if unit.run.keep and unit.is_there and not unit.is_killed]
        if kept:
            computer.later(KILL_MS * 1000, lambda: self._survived(computer, kept))

    def _survived(self, computer: "Computer", kept: list[Unit]) -> None:
        """The fence is done, and what is to be kept goes on, unless it was told to stop."""
        for unit in kept:
            if not unit.is_killed:
                self._world.bit("kept")
            elif unit.state is not UnitState.STOPPING:
                what = f"{unit.name} is to be kept, and was killed on {computer.machine_id}"
                self._world.checks.violate("kept", what)

    # --- what must hold -------------------------------------------------------------------------

    def _look(self, computer: "Computer", unit: Unit) -> None:
        """A process of a VM has become able to execute."""
        for other in self._world.computers:
            found = other.hypervisor.executing(unit.name)
            if other is not computer and found is not None and other.executes:
                where = f"{computer.machine_id} and {other.machine_id}"
                self._break("at-most-one", f"{unit.name} runs on {where}", unit, found)
        if computer.boot_ms() >= self._valid_ms.get(computer, 0):
            self._outlived(computer, unit)

    def _arm(self, computer: "Computer") -> None:
        self._armed.add(computer)
        when_us = computer.when_us(self._valid_ms[computer])
        self._world.at(when_us, lambda: self._due(computer))

    def _due(self, computer: "Computer") -> None:
        """A lease may have ended. What is frozen is looked at when it goes on."""
        self._armed.discard(computer)
        if computer not in self._valid_ms:
            return
        if computer.boot_ms() < self._valid_ms[computer]:
            self._arm(computer)
        elif computer.executes:
            for unit in computer.hypervisor.slice():
                self._outlived(computer, unit)

    def _outlived(self, computer: "Computer", unit: Unit) -> None:
        if not unit.run.keep:
            what = f"{unit.name} executes on {computer.machine_id} after its lease"
            self._break("fence-in-time", what, unit)

    def _break(self, invariant: str, what: str, *units: Unit) -> None:
        if any(unit.excuse for unit in units):
            self._world.bit("exempt")
        else:
            self._world.checks.violate(invariant, what)
