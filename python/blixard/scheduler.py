"""The choice of a host for a VM. Only the leader runs it, so it may differ between releases."""

from collections.abc import Mapping
from dataclasses import dataclass

from blixard.machine.rules import free_capacity
from blixard.model import Cluster, Membership, Node, Readiness, Standby, Vm


@dataclass(frozen=True, slots=True)
class Choice:
    """A host for a VM, or none; and for every node that was passed over, why."""

    node_id: int | None
    refusals: Mapping[int, str]

    @property
    def text(self) -> str:
        """Why the VM waits, in one line."""
        if not self.refusals:
            return "no node has registered"
        return "; ".join(f"node-{node_id}: {why}" for node_id, why in sorted(self.refusals.items()))


def place(cluster: Cluster, vm: Vm, silent: frozenset[int]) -> Choice:
    """First fit by free vCPUs and memory.

    The node that held the VM last comes first, then the one that built ahead for it, then the
    others by their ids; but the one on which it failed comes last. Nodes in `silent` are passed
    over: the leader does not hear from them.
    """
    refusals: dict[int, str] = {}
    for node in sorted(cluster.nodes.values(), key=lambda node: _rank(vm, node)):
        refusal = _refusal(cluster, node, vm, silent)
        if refusal is None:
            return Choice(node.node_id, refusals)
        refusals[node.node_id] = refusal
    return Choice(None, refusals)


def standby(cluster: Cluster, vm: Vm, silent: frozenset[int]) -> int | None:
    """The node that would start a VM if its holder were lost, as far as can be told now."""
    assert vm.holder is not None
    if vm.keeps or vm.tied_to is not None:
        return None
    return place(cluster, vm, silent | {vm.holder.node_id}).node_id


def _rank(vm: Vm, node: Node) -> tuple[bool, bool, bool, int]:
    ready = Standby(node.node_id, node.incarnation, Readiness.BUILT)
    return (
        node.node_id == vm.failed_on,
        node.node_id != vm.last_node,
        vm.standby != ready,
        node.node_id,
    )


def _refusal(cluster: Cluster, node: Node, vm: Vm, silent: frozenset[int]) -> str | None:
    if node.membership is not Membership.MEMBER:
        return f"is {node.membership.value}"
    if node.incarnation == 0:
        return "has not registered"
    if node.is_down:
        return "is down"
    if vm.tied_to not in (None, node.node_id):
        return f"{vm.name} is tied to node-{vm.tied_to} ({vm.tie})"
    if node.node_id in silent:
        return "does not answer"
    free = free_capacity(cluster, node.node_id)
    if free.vcpus < vm.spec.vcpus:
        return f"{max(free.vcpus, 0)} of {node.capacity.vcpus} vCPUs free"
    if free.memory_mib < vm.spec.memory_mib:
        return f"{max(free.memory_mib, 0)} of {node.capacity.memory_mib} MiB free"
    return None
