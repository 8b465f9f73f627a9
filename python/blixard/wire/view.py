"""The state as clients see it: the log's word, and what the answering node knows beyond it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from blixard.machine.rules import Room
from blixard.model import (
    Capacity,
    Cluster,
    Membership,
    Node,
    Readiness,
    Vm,
)
from blixard.ports import LogStatus
from blixard.source import FlakeSource, PackedSource, Source, StoreSource
from blixard.v1 import blixard_pb2 as pb
from blixard.wire import policies

MODES: Final = {True: "guaranteed", False: "best-effort"}
"""By `Node.guaranteed`."""


def as_of(status: LogStatus, *, linearizable: bool) -> pb.AsOf:
    """What an answer is based on."""
    return pb.AsOf(
        index=status.applied_index,
        term=status.term,
        node=f"node-{status.node_id}",
        linearizable=linearizable,
    )


def vm(cluster: Cluster, status: LogStatus, vm: Vm) -> pb.Vm:
    """One VM, as the log has it, and what the leader sees beyond that in its remark."""
    holder, standby = vm.holder, vm.standby
    return pb.Vm(
        name=vm.name,
        uid=vm.uid,
        wanted=vm.wanted.value,
        state=vm.state.value,
        reason=pb.Reason(code=vm.reason.code, text=vm.reason.text),
        node=f"node-{holder.node_id}" if holder is not None else "",
        node_id=holder.node_id if holder is not None else 0,
        epoch=holder.epoch if holder is not None else 0,
        since_ms=vm.since_ms,
        created_ms=vm.created_ms,
        vcpus=vm.spec.vcpus,
        memory_mib=vm.spec.memory_mib,
        source=_source(vm.spec.source),
        store_path=vm.runner or "",
        policy=policies.shown(vm.policy),
        keeps=vm.keeps and holder is not None,
        restarts=vm.failures,
        standby=f"node-{standby.node_id}" if standby is not None else "",
        standby_readiness=standby.readiness.value if standby is not None else "",
        mode=MODES[cluster.nodes[holder.node_id].guaranteed] if holder is not None else "",
        tie=vm.tie,
        tied_to=f"node-{vm.tied_to}" if vm.tied_to is not None else "",
        remark=_remark(cluster, status, vm),
        declared=_declaration(vm),
        disk_mib=vm.spec.disk_mib,
        move=move(vm),
        health=_health(vm),
        decision=vm.decision,
    )


def _health(vm: Vm) -> pb.GuestHealth | None:
    if vm.health is None:
        return None
    health = vm.health
    return pb.GuestHealth(state=health.state.value, text=health.text, since_ms=health.since_ms)


def move(vm: Vm) -> pb.Move | None:
    """Where a VM is on its way to, and how far it has come."""
    moving, holder = vm.move, vm.holder
    if moving is None:
        return None
    to = f"node-{moving.to}"
    standby = vm.standby if vm.standby is not None and vm.standby.node_id == moving.to else None
    if moving.failed:
        state, text = "given-up", moving.failed
    elif vm.release is not None:
        state, text = "stopping", f"stops, then starts on {to}"
    elif holder is not None and holder.node_id != moving.to:
        builds = standby is not None and standby.readiness is Readiness.BUILDING
        state, text = "preparing", f"{to} builds it" if builds else f"{to} gets ready"
    else:
        state, text = "starting", f"starts on {to}"
    return pb.Move(to=to, state=state, text=text, by=moving.by, since_ms=moving.since_ms)


def _declaration(vm: Vm) -> pb.Declaration | None:
    declared = vm.declared
    if declared is None:
        return None
    return pb.Declaration(
        node_id=declared.node_id,
        node=f"node-{declared.node_id}",
        generation=declared.generation,
        digest=declared.digest,
        needs_restart=declared.spec != vm.spec,
    )


def _remark(cluster: Cluster, status: LogStatus, vm: Vm) -> str:
    """A host that is silent may be well, or lost: for the log it is lost when its lease is over."""
    holder = vm.holder
    if holder is None or not status.is_leader or status.hears(holder.node_id):
        return ""
    node = cluster.nodes[holder.node_id]
    if node.is_down:
        return ""
    return f"{node.name} does not answer; it is down if its lease ends"


def vms(cluster: Cluster, status: LogStatus) -> list[pb.Vm]:
    """All VMs, by name."""
    return [vm(cluster, status, cluster.vms[name]) for name in sorted(cluster.vms)]


def cluster_status(
    cluster: Cluster, status: LogStatus, renewed_ms_ago: Mapping[int, int], *, linearizable: bool
) -> pb.GetClusterStatusResponse:
    """The cluster at a glance. `renewed_ms_ago` is for the nodes that have a lease."""
    states = Counter(vm.state.value for vm in cluster.vms.values())
    return pb.GetClusterStatusResponse(
        cluster_id=status.cluster_id,
        leader_id=status.leader_id or 0,
        nodes=nodes(cluster, status, sorted(cluster.nodes), renewed_ms_ago),
        term=status.term,
        commit_index=status.commit_index,
        vms=dict(sorted(states.items())),
        quorum=len(status.members) // 2 + 1,
        as_of=as_of(status, linearizable=linearizable),
    )


def nodes(
    cluster: Cluster,
    status: LogStatus,
    node_ids: Iterable[int],
    renewed_ms_ago: Mapping[int, int],
) -> Iterator[pb.Node]:
    """Nodes, as the log has them, and what the answering node sees beyond that."""
    room = Room(cluster)
    held = Counter(vm.holder.node_id for vm in cluster.vms.values() if vm.holder is not None)
    for node_id in node_ids:
        free, renewed = room.free(node_id), renewed_ms_ago.get(node_id)
        yield _node(status, cluster.nodes[node_id], free, held[node_id], renewed)


def _node(
    status: LogStatus, node: Node, free: Capacity, held: int, renewed_ms_ago: int | None
) -> pb.Node:
    heard_ms = 0 if node.node_id == status.node_id else status.heard_ms.get(node.node_id, -1)
    return pb.Node(
        node_id=node.node_id,
        name=node.name,
        address=node.address,
        state=_node_state(node),
        role=_role(status, node),
        vcpus=node.capacity.vcpus,
        memory_mib=node.capacity.memory_mib,
        vcpus_reserved=node.capacity.vcpus - free.vcpus,
        memory_reserved_mib=node.capacity.memory_mib - free.memory_mib,
        vms=held,
        version=node.version,
        incarnation=node.incarnation,
        heard_ms=heard_ms,
        silent=status.is_leader and not status.hears(node.node_id),
        mode=MODES[node.guaranteed],
        lease_ms=node.lease_ms,
        renewed_ms_ago=renewed_ms_ago,
        labels=node.labels,
        disk_mib=node.capacity.disk_mib,
        disk_reserved_mib=node.capacity.disk_mib - free.disk_mib,
        drain=_drain(node),
    )


def _drain(node: Node) -> pb.Drain | None:
    drain = node.drain
    if drain is None:
        return None
    return pb.Drain(
        by=drain.by,
        reason=drain.reason,
        since_ms=drain.since_ms,
        until_restart=drain.until_restart,
    )


def _node_state(node: Node) -> str:
    """What the log says of it, whether it answers or not."""
    if node.membership is not Membership.MEMBER:
        return node.membership.value
    if node.incarnation == 0:
        return Membership.JOINING.value
    if node.is_down:
        return "down"
    return "draining" if node.drain is not None else "up"


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
