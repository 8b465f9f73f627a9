"""The law of nodes: who belongs to the cluster, and which life of a host is the present one."""

from dataclasses import replace
from typing import Final

from blixard.commands import (
    AddNode,
    CheckIn,
    Kept,
    RegisterNode,
    RemoveNode,
    SettleNode,
)
from blixard.errors import Code
from blixard.machine.agreement import refuse_level
from blixard.machine.moves import undrained
from blixard.machine.placements import end_incarnation
from blixard.machine.transitions import put
from blixard.model import (
    Accepted,
    Cluster,
    Fix,
    Membership,
    Node,
    Outcome,
    Reason,
    Rejected,
    State,
    Vm,
)

Step = tuple[Cluster, Outcome]

DEPARTED_KEPT: Final = 1_000
"""How many nodes that left are remembered."""


def add(cluster: Cluster, index: int, command: AddNode) -> Step:
    """Admit a node. The same data directory may ask again; another one may not take the id."""
    if not cluster.nodes:
        # Whoever is first becomes a member by registering: that must be the founder.
        return cluster, Rejected(
            Code.BUSY,
            "the node that founded the cluster has not registered yet",
            fixes=(Fix("try again in a moment"),),
        )
    known = cluster.nodes.get(command.node_id)
    if command.join_id in cluster.departed:
        return cluster, _departed(command.node_id)
    too_old = refuse_level(cluster, f"node-{command.node_id}", command.level)
    if too_old is not None:
        return cluster, too_old
    if known is None:
        node = Node(
            node_id=command.node_id,
            address=command.address,
            machine_id=command.machine_id,
            join_id=command.join_id,
            membership=Membership.JOINING,
            level=command.level,
        )
        return _address_taken(cluster, node) or (_put(cluster, node), Accepted(index))
    if known.join_id == command.join_id and known.membership is not Membership.LEAVING:
        return cluster, Accepted(index, f"{known.name} is already admitted")
    return cluster, Rejected(
        Code.NODE_TAKEN,
        f"node id {command.node_id} is already taken",
        why=f"it belongs to the node at {known.address}, whose data directory is another one",
        fixes=(
            Fix("give this node another --id"),
            Fix(
                "or, if that node is gone for good, remove it first",
                f"blixard cluster leave --node {command.node_id}",
            ),
        ),
    )


def remove(cluster: Cluster, index: int, command: RemoveNode) -> Step:
    """Let a node go, once it holds no VM. Consensus membership follows."""
    node = cluster.nodes.get(command.node_id)
    if node is None:
        return cluster, Rejected(
            Code.NO_SUCH_NODE,
            f"no node with id {command.node_id}",
            fixes=(Fix("all nodes:", "blixard cluster status"),),
        )
    others = [
        other
        for other in cluster.nodes.values()
        if other.node_id != node.node_id and other.membership is Membership.MEMBER
    ]
    if not others:
        return cluster, Rejected(
            Code.WOULD_BREAK_QUORUM,
            f"{node.name} is the last member of the cluster",
            why="without it there is no cluster left to leave",
        )
    held = sorted(
        vm.name
        for vm in cluster.vms.values()
        if vm.holder is not None and vm.holder.node_id == node.node_id
    )
    if held:
        return cluster, Rejected(
            Code.NODE_HOLDS_VMS,
            f"{node.name} still holds {_count(held)}: {', '.join(held[:5])}"
            + (" ..." if len(held) > 5 else ""),
            why="a VM is let go by the report of its host that it has stopped, or when the host's "
            "lease is surely over",
            fixes=_ways_to_let_go(node, held),
        )
    return _put(cluster, replace(node, membership=Membership.LEAVING)), Accepted(index)


def settle(cluster: Cluster, index: int, command: SettleNode) -> Step:
    """Record that consensus membership has caught up with what was asked."""
    node = cluster.nodes.get(command.node_id)
    if node is not None and node.join_id != command.join_id:
        node = None
    if node is not None and node.membership is Membership.JOINING and command.is_member:
        return _put(cluster, replace(node, membership=Membership.MEMBER)), Accepted(index)
    if node is not None and node.membership is Membership.LEAVING and not command.is_member:
        return _let_go(cluster, node, index), Accepted(index)
    return cluster, Rejected(Code.STALE, f"node-{command.node_id} has nothing to settle")


def register(cluster: Cluster, index: int, at_ms: int, command: RegisterNode) -> Step:
    """Begin a node's new life. Compare-and-set on the previous one, so that it begins once."""
    node = cluster.nodes.get(command.node_id)
    if node is None and not cluster.nodes:
        node = Node(
            node_id=command.node_id,
            address=command.address,
            machine_id=command.machine_id,
            join_id=command.join_id,
            membership=Membership.MEMBER,
        )
    if command.lease_ms < 1:
        return cluster, Rejected(Code.BAD_ARGUMENT, f"node-{command.node_id} has no lease")
    if node is None or node.membership is Membership.LEAVING:
        return cluster, _not_a_member(command.node_id)
    if node.incarnation != command.previous_incarnation:
        return cluster, Rejected(Code.STALE, f"{node.name} has registered in the meantime")
    if node.join_id != command.join_id:
        return cluster, Rejected(
            Code.NODE_TAKEN,
            f"{node.name} is registered with another data directory",
            why="a wiped node has forgotten what it promised to its peers",
            fixes=(_remove_and_add(node),),
        )
    moved = node.machine_id != command.machine_id
    if moved and node.incarnation and not _is_surely_empty(cluster, node):
        return cluster, _on_another_machine(node)
    too_old = refuse_level(cluster, node.name, command.level)
    if too_old is not None:
        return cluster, too_old
    registered = replace(
        node,
        address=command.address,
        incarnation=index,
        session=index,
        capacity=command.capacity,
        version=command.version,
        level=command.level,
        machine_id=command.machine_id,
        lease_ms=command.lease_ms,
        guaranteed=command.guaranteed,
        labels=command.labels,
        seq=0,
        is_down=False,
        drain=None if node.drain is not None and node.drain.until_restart else node.drain,
    )

    def carried_over(vm: Vm) -> Vm | None:
        assert vm.holder is not None
        if not vm.keeps or Kept(vm.name, vm.uid, vm.holder.epoch) not in command.kept:
            return None
        holder = replace(vm.holder, incarnation=index)
        if vm.state is not State.UNREACHABLE:
            return replace(vm, holder=holder)
        reason = Reason("host-back", f"{node.name} is back with it")
        return replace(vm, holder=holder, state=State.STARTING, reason=reason, since_ms=at_ms)

    gone = Reason("host-restarted", f"{node.name} came back without it")
    freed = end_incarnation(_put(cluster, registered), node.node_id, at_ms, gone, carried_over)
    return undrained(freed, registered), Accepted(index)


def check_in(cluster: Cluster, index: int, command: CheckIn) -> Step:
    """Refresh what a node says of itself, if its life is still the present one."""
    node = cluster.nodes.get(command.node_id)
    if node is None:
        return cluster, _not_a_member(command.node_id)
    if node.is_down or node.incarnation == 0 or node.incarnation != command.incarnation:
        return cluster, Rejected(Code.STALE, f"that life of {node.name} is over")
    too_old = refuse_level(cluster, node.name, command.level)
    if too_old is not None:
        return cluster, too_old
    refreshed = replace(
        node,
        session=index,
        address=command.address,
        capacity=command.capacity,
        version=command.version,
        level=command.level,
        # What was granted for longer runs on until it is renewed.
        lease_ms=max(node.lease_ms, command.lease_ms),
        guaranteed=command.guaranteed,
        labels=command.labels,
    )
    return _put(cluster, refreshed), Accepted(index)


def _address_taken(cluster: Cluster, node: Node) -> Step | None:
    for other in cluster.nodes.values():
        if other.address == node.address:
            return cluster, Rejected(
                Code.NODE_TAKEN,
                f"address {node.address} already belongs to {other.name}",
                fixes=(Fix("give this node another --bind or --advertise address"),),
            )
    return None


def _count(names: list[str]) -> str:
    return "1 VM" if len(names) == 1 else f"{len(names)} VMs"


def _let_go(cluster: Cluster, node: Node, index: int) -> Cluster:
    nodes = {key: kept for key, kept in cluster.nodes.items() if key != node.node_id}
    departed = {**cluster.departed, node.join_id: index}
    while len(departed) > DEPARTED_KEPT:
        del departed[next(iter(departed))]
    left = replace(cluster, nodes=nodes, departed=departed)
    for vm in cluster.vms.values():
        if vm.declared is not None and vm.declared.node_id == node.node_id:
            left = put(left, replace(vm, declared=None))
    return left


def _departed(node_id: int) -> Rejected:
    return Rejected(
        Code.NOT_A_MEMBER,
        f"node-{node_id} was removed from this cluster",
        why="what its data directory promised as a member no longer holds",
        fixes=(Fix("to let it join anew, empty its data directory and start it with --peer"),),
    )


def _is_surely_empty(cluster: Cluster, node: Node) -> bool:
    """Whether nothing runs any more under its last life, wherever that was."""
    return node.is_down and not any(
        vm.holder is not None and vm.holder.node_id == node.node_id for vm in cluster.vms.values()
    )


def _on_another_machine(node: Node) -> Rejected:
    confirm = f"blixard node confirm-down {node.name}"
    return Rejected(
        Code.NODE_TAKEN,
        f"{node.name} is registered on another machine",
        why="that machine may still run its VMs",
        fixes=(
            Fix("switch that machine off; this one is let in once the lease of that one is over"),
            Fix("if VMs of it are unreachable then, confirm that it is off", confirm),
        ),
    )


def _ways_to_let_go(node: Node, held: list[str]) -> tuple[Fix, ...]:
    if node.is_down:
        confirm = f"blixard node confirm-down {node.name}"
        return (Fix("if it is switched off, confirm that", confirm),)
    stop = f"blixard vm stop {' '.join(held[:5])} --wait"
    return (Fix("stop them first", stop), Fix("or, if it is lost, try again when it is down"))


def _remove_and_add(node: Node) -> Fix:
    command = f"blixard cluster leave --node {node.node_id}"
    return Fix("stop it, remove the node and add it again", command)


def _not_a_member(node_id: int) -> Rejected:
    return Rejected(
        Code.NOT_A_MEMBER,
        f"node-{node_id} is no member of this cluster",
        fixes=(Fix("remove its data directory and let it join again with --peer"),),
    )


def _put(cluster: Cluster, node: Node) -> Cluster:
    return replace(cluster, nodes={**cluster.nodes, node.node_id: node})
