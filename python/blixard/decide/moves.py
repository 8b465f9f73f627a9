"""What a leader does for VMs that are to go on on another node, and for nodes that are drained."""

from collections.abc import Iterator
from typing import Final

from blixard.commands import AbandonMove, AssignStandby, HandOverVm, MoveVm
from blixard.machine.moves import is_leaving, is_of_drain, of_drain
from blixard.machine.rules import takes_vms
from blixard.model import Cluster, Node, Readiness, State, Vm
from blixard.scheduler import Planner, held_by_node

Duty = MoveVm | HandOverVm | AbandonMove | AssignStandby

_GIVES_UP: Final = frozenset({State.BUILDING, State.STARTING, State.RUNNING})


def duties(cluster: Cluster, planner: Planner) -> Iterator[Duty]:
    """The next step of every move that is under way, and the next move of every drain."""
    moving = [vm for vm in cluster.vms.values() if is_leaving(vm)]
    for vm in sorted(moving, key=lambda vm: vm.name):
        yield from _onward(cluster, planner, vm)
    drained = [node for node in cluster.nodes.values() if node.drain is not None]
    if drained:
        held = held_by_node(cluster)
        for node in sorted(drained, key=lambda node: node.node_id):
            yield from _next_of(cluster, planner, node, held.get(node.node_id, []))


def _onward(cluster: Cluster, planner: Planner, vm: Vm) -> Iterator[Duty]:
    """The other node builds first, while the VM runs; then its holder gives it up."""
    move, holder = vm.move, vm.holder
    assert move is not None
    assert holder is not None
    node = cluster.nodes.get(move.to)
    if node is not None and move.to in planner.silent and takes_vms(node, node.incarnation):
        # A new leader has not heard from everyone yet. It answers again, or is down before long.
        return
    refusals = planner.refusals(vm, node) if node is not None else ()
    if node is None or refusals:
        why = refusals[0].text if refusals else "has left the cluster"
        yield AbandonMove(vm.name, vm.uid, holder.epoch, f"node-{move.to} {why}")
        return
    ready = vm.standby if vm.standby is not None and vm.standby.node_id == move.to else None
    if vm.state is not State.RUNNING or (ready and ready.readiness is Readiness.BUILT):
        yield HandOverVm(vm.name, vm.uid, holder.epoch, move.to, node.incarnation)
    elif ready is None or ready.incarnation != node.incarnation:
        yield AssignStandby(vm.name, vm.uid, node.node_id, node.incarnation)
    elif ready.readiness is Readiness.FAILED:
        why = f"it does not build on {node.name}"
        yield AbandonMove(vm.name, vm.uid, holder.epoch, why)


def _next_of(cluster: Cluster, planner: Planner, node: Node, held: list[Vm]) -> Iterator[Duty]:
    """One VM at a time leaves a node, and runs elsewhere before the next one goes."""
    assert node.drain is not None
    moves = [vm.move for vm in cluster.vms.values() if vm.move is not None]
    if any(is_of_drain(move, node) and not move.failed for move in moves):
        return
    for vm in held:
        if vm.move is not None or vm.release is not None or vm.state not in _GIVES_UP:
            continue
        choice = planner.place(vm)
        if choice.node_id is not None:
            yield MoveVm(vm.name, choice.node_id, of_drain(node) + node.drain.by)
            return
