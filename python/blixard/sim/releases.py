"""Two releases side by side: release 2 has a changed rule, which waits for the cluster's level.

Release 1 is what ships. Release 2 exists here alone: it stands for any later release, whose rules
may differ from level 2 on. In release 2 a VM that is stopped says so in other words.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from blixard import machine
from blixard.commands import Entry, StopVm
from blixard.machine.changes import Batch
from blixard.model import Accepted, Cluster, Outcome, Reason
from blixard.raft.replica import Law, ReplicatedCluster

if TYPE_CHECKING:
    from blixard.sim.host import Host


def apply_of_release_1(cluster: Cluster, index: int, entry: Entry) -> tuple[Cluster, Outcome]:
    """The law that ships; looked up now, so that a sabotage of it is seen."""
    return machine.apply(cluster, index, entry)


def apply_of_release_2(cluster: Cluster, index: int, entry: Entry) -> tuple[Cluster, Outcome]:
    """The law with a changed rule."""
    after, outcome = machine.apply(cluster, index, entry)
    if not may_change(cluster) or not isinstance(entry.command, StopVm):
        return after, outcome
    vm = after.vms.get(entry.command.name)
    if vm is None or vm is cluster.vms.get(vm.name) or not isinstance(outcome, Accepted):
        return after, outcome
    reworded = replace(vm, reason=Reason("requested", "an operator wants it stopped"))
    return replace(after, vms={**after.vms, vm.name: reworded}), outcome


def may_change(cluster: Cluster) -> bool:
    """Whether all members are known to follow the changed rule."""
    return cluster.level >= 2


LAWS: dict[int, Law] = {1: apply_of_release_1, 2: apply_of_release_2}


class State(ReplicatedCluster):
    """The state machine of one node, watched."""

    def __init__(self, host: "Host", told: Callable[[Batch], None]) -> None:
        super().__init__(told, LAWS[host.release], level=host.release)
        self._host = host

    def apply(self, index: int, entry: bytes) -> Outcome:
        outcome = super().apply(index, entry)
        self._host.world.checks.applied(self._host, index, entry, outcome)
        return outcome

    def snapshot(self) -> bytes:
        data = super().snapshot()
        node = self._host.node
        if node is not None:
            self._host.world.checks.snapshot_taken(self._host, node.engine.applied_index, data)
        return data

    def restore(self, data: bytes, index: int) -> None:
        super().restore(data, index)
        self._host.world.checks.snapshot_restored(self._host, data)
