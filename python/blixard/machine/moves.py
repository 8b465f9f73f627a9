"""The law of moves and drains: a VM goes on on another node, after that one is ready for it."""

from dataclasses import replace

from blixard.commands import AbandonMove, DrainNode, HandOverVm, MoveVm, ResumeNode
from blixard.errors import Code
from blixard.machine.rules import free_capacity, misfits, on_its_own, related, takes_vms
from blixard.machine.transitions import give_up, put
from blixard.machine.vms import no_such_vm
from blixard.model import (
    Accepted,
    Cluster,
    Drain,
    Fix,
    Move,
    Node,
    Outcome,
    Readiness,
    Rejected,
    Release,
    State,
    Vm,
    Wanted,
)

Step = tuple[Cluster, Outcome]


def move(cluster: Cluster, index: int, at_ms: int, command: MoveVm) -> Step:
    """Let another node get ready for a VM. It goes on where it is until then."""
    vm = cluster.vms.get(command.name)
    if vm is None or vm.wanted is Wanted.DELETED:
        return cluster, no_such_vm(command.name)
    wrong = _immovable(vm)
    if wrong is not None:
        return cluster, wrong
    node = cluster.nodes.get(command.to)
    if node is None:
        return cluster, _no_such_node(command.to)
    if vm.holder is not None and vm.holder.node_id == node.node_id:
        if vm.move is not None and not vm.move.failed:
            return put(cluster, replace(vm, move=None)), Accepted(
                index, f"{vm.name} stays on {node.name}"
            )
        return cluster, Rejected(
            Code.RULE_REFUSES,
            f"{vm.name} is on {node.name} already",
            fixes=(Fix("name another node, or none", f"blixard vm move {vm.name}"),),
        )
    wrong = _refused(cluster, vm, node)
    if wrong is not None:
        return cluster, wrong
    release = Release(command.grace_ms, command.kill)
    known = vm.move
    if known is not None and not known.failed and known.to == node.node_id:
        return cluster, Accepted(index, f"{vm.name} is on its way to {node.name} already")
    standby = vm.standby
    if standby is not None and standby.readiness is Readiness.FAILED:
        standby = None
    moving = replace(vm, move=Move(node.node_id, command.by, at_ms, release), standby=standby)
    return put(cluster, moving), Accepted(index)


def _immovable(vm: Vm) -> Rejected | None:
    if vm.release is not None:
        return Rejected(
            Code.BUSY,
            f"{vm.name} is being stopped",
            why=vm.reason.text,
            fixes=(Fix("watch it, then move it", f"blixard vm status {vm.name}"),),
        )
    if vm.holder is None or vm.state is State.UNREACHABLE:
        return Rejected(
            Code.NOT_RUNNING,
            f"{vm.name} runs nowhere: it is {vm.state.value}",
            why=vm.reason.text,
            fixes=(Fix("see why", f"blixard vm why {vm.name}"),),
        )
    return None


def _refused(cluster: Cluster, vm: Vm, node: Node) -> Rejected | None:
    free = free_capacity(cluster, node.node_id, besides=vm.name)
    found = (*on_its_own(vm, node), *related(cluster, vm, node), *misfits(vm, node, free))
    for refusal in found:
        return Rejected(
            Code.RULE_REFUSES,
            f"{vm.name} cannot move to {node.name}: {refusal.text}",
            why=f"the rule is: {refusal.rule}",
            fixes=(Fix("see every node", f"blixard vm why {vm.name}"),),
        )
    return None


def hand_over(cluster: Cluster, index: int, at_ms: int, command: HandOverVm) -> Step:
    """The other node is ready: have the holder stop the VM. Checked once more, for that node may
    have been lost or filled meanwhile."""
    vm = _leaving(cluster, command.name, command.uid, command.epoch)
    node = cluster.nodes.get(command.to)
    if vm is None or vm.move is None or vm.move.to != command.to:
        return cluster, Rejected(Code.STALE, f"{command.name} no longer moves")
    if node is None or not takes_vms(node, command.incarnation):
        return cluster, Rejected(Code.STALE, f"node-{command.to} takes no VMs")
    wrong = _refused(cluster, vm, node)
    if wrong is not None:
        return cluster, replace(wrong, code=Code.STALE)
    why = f"moves to {node.name}, asked by {vm.move.by}"
    handed = replace(vm, move=replace(vm.move, handed_ms=at_ms))
    return put(cluster, give_up(handed, at_ms, vm.move.release, why)), Accepted(index)


def abandon(cluster: Cluster, index: int, command: AbandonMove) -> Step:
    """Note why a move came to nothing. The VM stays where it is."""
    vm = _leaving(cluster, command.name, command.uid, command.epoch)
    if vm is None or vm.move is None:
        return cluster, Rejected(Code.STALE, f"{command.name} no longer moves")
    failed = replace(vm.move, failed=command.why)
    return put(cluster, replace(vm, move=failed)), Accepted(index)


def is_leaving(vm: Vm) -> bool:
    """Whether a node still holds a VM that is to move to another."""
    if vm.moves_to is None or vm.holder is None or vm.release is not None:
        return False
    return vm.holder.node_id != vm.moves_to


def _leaving(cluster: Cluster, name: str, uid: int, epoch: int) -> Vm | None:
    """The VM of a leader's word on a move, if that word is not overtaken."""
    vm = cluster.vms.get(name)
    if vm is None or vm.uid != uid or vm.holder is None or vm.holder.epoch != epoch:
        return None
    return vm if is_leaving(vm) else None


def drain(cluster: Cluster, index: int, at_ms: int, command: DrainNode) -> Step:
    """Let a node take no more VMs. The leader moves away those it holds. Asked again, moves that
    came to nothing are tried anew."""
    node = cluster.nodes.get(command.node_id)
    if node is None:
        return cluster, _no_such_node(command.node_id)
    known = node.drain
    note = f"{node.name} is drained already, since {known.by} asked" if known is not None else ""
    if known is None or (known.until_restart and not command.until_restart):
        drained = Drain(command.by, command.reason, at_ms, command.until_restart)
        node = replace(node, drain=drained)
    cluster = replace(cluster, nodes={**cluster.nodes, node.node_id: node})
    for vm in cluster.vms.values():
        held = vm.holder is not None and vm.holder.node_id == node.node_id
        if held and vm.move is not None and vm.move.failed:
            cluster = put(cluster, replace(vm, move=None))
    return cluster, Accepted(index, note)


def resume(cluster: Cluster, index: int, command: ResumeNode) -> Step:
    """Let a node take VMs again."""
    node = cluster.nodes.get(command.node_id)
    if node is None:
        return cluster, _no_such_node(command.node_id)
    if node.drain is None:
        return cluster, Accepted(index, f"{node.name} takes VMs already")
    resumed = replace(node, drain=None)
    cluster = replace(cluster, nodes={**cluster.nodes, node.node_id: resumed})
    return undrained(cluster, resumed), Accepted(index)


def undrained(cluster: Cluster, node: Node) -> Cluster:
    """If no drain goes on, what is on its way for one, and still runs there, stays."""
    if node.drain is not None:
        return cluster
    for vm in cluster.vms.values():
        held = vm.holder is not None and vm.holder.node_id == node.node_id
        if held and vm.release is None and vm.move is not None and is_of_drain(vm.move, node):
            cluster = put(cluster, replace(vm, move=None))
    return cluster


def of_drain(node: Node) -> str:
    """How who asked for a move is named, if it was the drain of this node."""
    return f"the drain of {node.name} by "


def is_of_drain(move: Move, node: Node) -> bool:
    """Whether a move is for the drain of this node, whoever asked for that."""
    return move.by.startswith(of_drain(node))


def _no_such_node(node_id: int) -> Rejected:
    return Rejected(
        Code.NO_SUCH_NODE,
        f"no node with id {node_id}",
        fixes=(Fix("all nodes:", "blixard node list"),),
    )
