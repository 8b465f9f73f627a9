"""The law of leases: which host may go on, which one is down, and what that frees."""

from dataclasses import replace

from blixard.commands import ConfirmDown, DeclareNodeDown, Renewal, RenewLeases
from blixard.errors import Code
from blixard.lease import down_after_ms
from blixard.machine.placements import end_incarnation
from blixard.model import Accepted, Cluster, Fix, Node, Outcome, Reason, Rejected, State, Vm

Step = tuple[Cluster, Outcome]


def has_renewed(cluster: Cluster, renewal: Renewal) -> bool:
    """Whether the log took this renewal, or a later one of the same life."""
    node = cluster.nodes.get(renewal.node_id)
    return node is not None and _is_alive(node, renewal.incarnation) and node.seq >= renewal.seq


def is_over(cluster: Cluster, renewal: Renewal) -> bool:
    """Whether the life that wants to go on has ended: it will never be renewed again."""
    node = cluster.nodes.get(renewal.node_id)
    return node is None or not _is_alive(node, renewal.incarnation)


def renew(cluster: Cluster, index: int, command: RenewLeases) -> Step:
    """Take the renewals of lives that have not ended; a delayed one is no renewal."""
    nodes = dict(cluster.nodes)
    for renewal in command.renewals:
        node = nodes.get(renewal.node_id)
        if node is not None and _is_alive(node, renewal.incarnation) and renewal.seq > node.seq:
            nodes[node.node_id] = replace(node, seq=renewal.seq)
    if nodes == cluster.nodes:
        return cluster, Rejected(Code.STALE, "none of these lives can be renewed")
    return replace(cluster, nodes=nodes), Accepted(index)


def declare_down(cluster: Cluster, index: int, at_ms: int, command: DeclareNodeDown) -> Step:
    """End a node's incarnation, unless it has renewed since. Its VMs take the create path, but for
    those that may still run."""
    node = cluster.nodes.get(command.node_id)
    if node is None or not _is_alive(node, command.incarnation) or node.seq != command.seq:
        return cluster, Rejected(Code.STALE, f"node-{command.node_id} has renewed its lease")

    def may_run_on(vm: Vm) -> Vm | None:
        if not vm.keeps:
            return None
        reason = Reason("host-lost", f"{node.name} is lost, and may still run it")
        if vm.state is State.STOPPING:
            return replace(vm, reason=reason)
        # Nobody could stop it there: a move would end it once its host is back, unprepared.
        return replace(vm, state=State.UNREACHABLE, reason=reason, since_ms=at_ms, move=None)

    down = replace(cluster, nodes={**cluster.nodes, node.node_id: replace(node, is_down=True)})
    lost = Reason("host-lost", f"{node.name} is lost, and its lease is over")
    return end_incarnation(down, node.node_id, at_ms, lost, may_run_on), Accepted(index)


def confirm_down(cluster: Cluster, index: int, at_ms: int, command: ConfirmDown) -> Step:
    """Free what a lost node may still run, because a person says that it does not."""
    node = cluster.nodes.get(command.node_id)
    if node is None:
        return cluster, Rejected(
            Code.NO_SUCH_NODE,
            f"no node with id {command.node_id}",
            fixes=(Fix("all nodes:", "blixard node list"),),
        )
    if not node.is_down:
        return cluster, _may_still_run(node)
    if node.incarnation != command.incarnation:
        return cluster, Rejected(
            Code.STALE,
            f"{node.name} was back in the meantime, and is down again",
            why="whether it is switched off now was not said",
            fixes=(Fix("make sure, then confirm it again"),),
        )
    freed = sorted(
        vm.name
        for vm in cluster.vms.values()
        if vm.holder is not None and vm.holder.node_id == node.node_id
    )
    reason = Reason("host-confirmed-down", f"{command.by} says that {node.name} is down")
    note = f"freed: {', '.join(freed)}" if freed else f"{node.name} held no VM any more"
    after = end_incarnation(cluster, node.node_id, at_ms, reason, lambda _vm: None)
    return after, Accepted(index, note)


def _is_alive(node: Node, incarnation: int) -> bool:
    return node.incarnation == incarnation and incarnation > 0 and not node.is_down


def _may_still_run(node: Node) -> Rejected:
    seconds = down_after_ms(node.lease_ms) / 1000
    return Rejected(
        Code.LEASE_RUNS,
        f"the lease of {node.name} may still run",
        why="what anyone says does not shorten it: until it is over, its VMs may run",
        fixes=(
            Fix(
                f"a host that does not answer is declared down after about {seconds:.0f} s; "
                "try again then",
                "blixard node list",
            ),
        ),
    )
