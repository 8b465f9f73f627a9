"""The state as clients see it: the log's word, and what the answering node knows beyond it."""

from collections import Counter
from typing import Final

from blixard.machine.placements import free_capacity
from blixard.model import (
    Cluster,
    FlakeSource,
    Membership,
    Node,
    PackedSource,
    Source,
    StoreSource,
    Vm,
)
from blixard.ports import LogStatus
from blixard.v1 import blixard_pb2 as pb

UNREACHABLE: Final = "unreachable"
SILENT: Final = "silent"
UNKNOWN: Final = "unknown"


def as_of(status: LogStatus, *, linearizable: bool) -> pb.AsOf:
    """What an answer is based on."""
    return pb.AsOf(
        index=status.applied_index,
        term=status.term,
        node=f"node-{status.node_id}",
        linearizable=linearizable,
    )


def vm(status: LogStatus, vm: Vm) -> pb.Vm:
    """One VM. The leader adds what the log cannot know: that its host no longer answers."""
    state, reason = vm.state.value, pb.Reason(code=vm.reason.code, text=vm.reason.text)
    holder = vm.holder
    if holder is not None and status.is_leader and not status.hears(holder.node_id):
        reason = pb.Reason(
            code="host-silent",
            text=f"node-{holder.node_id} does not answer; it was last known {state} there, "
            "and is started nowhere else while that host may run it",
        )
        state = UNREACHABLE
    return pb.Vm(
        name=vm.name,
        uid=vm.uid,
        wanted=vm.wanted.value,
        state=state,
        reason=reason,
        node=f"node-{holder.node_id}" if holder is not None else "",
        node_id=holder.node_id if holder is not None else 0,
        epoch=holder.epoch if holder is not None else 0,
        since_ms=vm.since_ms,
        created_ms=vm.created_ms,
        vcpus=vm.spec.vcpus,
        memory_mib=vm.spec.memory_mib,
        source=_source(vm.spec.source),
        store_path=vm.runner or "",
    )


def vms(cluster: Cluster, status: LogStatus) -> list[pb.Vm]:
    """All VMs, by name."""
    return [vm(status, cluster.vms[name]) for name in sorted(cluster.vms)]


def cluster_status(
    cluster: Cluster, status: LogStatus, *, linearizable: bool
) -> pb.GetClusterStatusResponse:
    """The cluster at a glance."""
    states = Counter(view.state for view in vms(cluster, status))
    return pb.GetClusterStatusResponse(
        cluster_id=status.cluster_id,
        leader_id=status.leader_id or 0,
        nodes=[_node(cluster, status, cluster.nodes[node_id]) for node_id in sorted(cluster.nodes)],
        term=status.term,
        commit_index=status.commit_index,
        vms=dict(sorted(states.items())),
        quorum=len(status.members) // 2 + 1,
        as_of=as_of(status, linearizable=linearizable),
    )


def _node(cluster: Cluster, status: LogStatus, node: Node) -> pb.Node:
    free = free_capacity(cluster, node.node_id)
    held = [
        vm
        for vm in cluster.vms.values()
        if vm.holder is not None and vm.holder.node_id == node.node_id
    ]
    heard_ms = 0 if node.node_id == status.node_id else status.heard_ms.get(node.node_id, -1)
    return pb.Node(
        node_id=node.node_id,
        name=node.name,
        address=node.address,
        state=_node_state(status, node),
        role=_role(status, node),
        vcpus=node.capacity.vcpus,
        memory_mib=node.capacity.memory_mib,
        vcpus_reserved=node.capacity.vcpus - free.vcpus,
        memory_reserved_mib=node.capacity.memory_mib - free.memory_mib,
        vms=len(held),
        version=node.version,
        incarnation=node.incarnation,
        heard_ms=heard_ms,
    )


def _node_state(status: LogStatus, node: Node) -> str:
    if node.membership is not Membership.MEMBER:
        return node.membership.value
    if not status.hears(node.node_id):
        return SILENT if status.is_leader else UNKNOWN
    return "ready" if node.incarnation > 0 else Membership.JOINING.value


def _role(status: LogStatus, node: Node) -> str:
    if node.node_id not in status.members:
        return ""
    return "leader" if node.node_id == status.leader_id else "follower"


def _source(source: Source) -> pb.Source:
    match source:
        case FlakeSource(url, attribute, nar_hash):
            flake = pb.FlakeSource(url=url, attribute=attribute, nar_hash=nar_hash)
            return pb.Source(flake=flake)
        case PackedSource(digest, attribute):
            return pb.Source(packed=pb.PackedSource(digest=digest, attribute=attribute))
        case StoreSource(path):
            return pb.Source(store=pb.StoreSource(path=path))
