"""What would follow, before it happens: the loss of a node, or its drain."""

from collections.abc import Iterator
from dataclasses import dataclass

from blixard.model import Cluster, State, Vm, Wanted
from blixard.scheduler.planner import NOBODY, Planner


@dataclass(frozen=True, slots=True)
class Step:
    """Where a VM of a drained node would go; to no node if every other refuses it."""

    vm: Vm
    to: int | None
    why: str


def held_by_node(cluster: Cluster) -> dict[int, list[Vm]]:
    """The VMs that each node holds, those of the highest priority first."""
    held: dict[int, list[Vm]] = {}
    for vm in sorted(cluster.vms.values(), key=lambda vm: (-vm.policy.priority, vm.name)):
        if vm.holder is not None:
            held.setdefault(vm.holder.node_id, []).append(vm)
    return held


def drain(cluster: Cluster, node_id: int, silent: frozenset[int] = NOBODY) -> Iterator[Step]:
    """Where each VM of a node would go, one after the other."""
    planner = Planner(cluster, silent)
    for vm in held_by_node(cluster).get(node_id, []):
        choice = planner.place(vm, frozenset({node_id}))
        if choice.node_id is not None:
            planner.take(vm, choice.node_id)
        yield Step(vm, choice.node_id, choice.why)


def exposures(cluster: Cluster, silent: frozenset[int] = NOBODY) -> dict[int, tuple[str, ...]]:
    """For each node, the VMs that no other could take if it were lost; those that would not be
    started elsewhere anyway are none of them."""
    planner = Planner(cluster, silent)
    held = held_by_node(cluster)
    found = {}
    for node_id in planner.open:
        left = tuple(_left_over(planner, held.get(node_id, []), node_id))
        if left:
            found[node_id] = left
    return found


def _left_over(planner: Planner, lost: list[Vm], node_id: int) -> Iterator[str]:
    for vm in lost:
        planner.lift(vm)
    for vm in lost:
        if _fails_over(vm):
            choice = planner.place(vm, frozenset({node_id}))
            if choice.node_id is None:
                yield vm.name
            else:
                planner.take(vm, choice.node_id)
    for vm in lost:
        planner.take(vm, node_id)


def _fails_over(vm: Vm) -> bool:
    wanted = vm.wanted is Wanted.RUNNING and vm.state is not State.UNREACHABLE
    return wanted and not vm.keeps and vm.tied_to is None
