"""The choice of a host for a VM. Only the leader runs it, so it may differ between releases."""

from collections.abc import Mapping
from dataclasses import dataclass

from blixard.machine.vms import free_capacity
from blixard.model import Cluster, Membership, Node, Vm


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
    """First fit by free vCPUs and memory, in the order of node ids.

    The node that held the VM last comes first, because its volumes are there. Nodes in `silent` are
    passed over: the leader does not hear from them.
    """
    refusals: dict[int, str] = {}
    order = sorted(
        cluster.nodes.values(), key=lambda node: (node.node_id != vm.last_node, node.node_id)
    )
    for node in order:
        refusal = _refusal(cluster, node, vm, silent)
        if refusal is None:
            return Choice(node.node_id, refusals)
        refusals[node.node_id] = refusal
    return Choice(None, refusals)


def _refusal(cluster: Cluster, node: Node, vm: Vm, silent: frozenset[int]) -> str | None:
    if node.membership is not Membership.MEMBER:
        return f"is {node.membership.value}"
    if node.incarnation == 0:
        return "has not registered"
    if node.node_id in silent:
        return "does not answer"
    free = free_capacity(cluster, node.node_id)
    if free.vcpus < vm.spec.vcpus:
        return f"{max(free.vcpus, 0)} of {node.capacity.vcpus} vCPUs free"
    if free.memory_mib < vm.spec.memory_mib:
        return f"{max(free.memory_mib, 0)} of {node.capacity.memory_mib} MiB free"
    return None
