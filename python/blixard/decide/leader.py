"""What the leader proposes, given the state and what it sees beside it."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from blixard.commands import (
    AssignStandby,
    AttestState,
    Command,
    DeclareNodeDown,
    DeferVm,
    PlaceVm,
    RaiseLevel,
    SettleNode,
)
from blixard.decide import moves
from blixard.lease import down_after_ms
from blixard.model import Cluster, Holder, Membership, Node, State, Vm
from blixard.scheduler import Planner

BACK_OFF_MS: Final = 1_000
MAX_BACK_OFF_MS: Final = 60_000
"""The first and the longest pause before a VM that failed is started again."""


@dataclass(frozen=True, slots=True)
class ChangeMembership:
    """Bring consensus membership one step closer to the cluster's."""

    node_id: int
    address: str
    add: bool


@dataclass(frozen=True, slots=True)
class HandOver:
    """Let another member lead: the leader is leaving the cluster."""


Duty = Command | ChangeMembership | HandOver


@dataclass(frozen=True, slots=True)
class Sight:
    """What a leader sees beside the state."""

    me: int
    members: AbstractSet[int]
    """The consensus configuration."""
    silent: frozenset[int] = frozenset()
    """The nodes from which it does not hear."""
    unrenewed_ms: Mapping[int, int] = field(default_factory=dict)
    """For how long it has led without applying a renewal, by node."""
    pending_ms: Mapping[str, int] = field(default_factory=dict)
    """For how long it has seen a VM wait, by name."""
    state_digest: tuple[int, bytes] | None = None
    """As in `ports.LogStatus`."""


def duties(cluster: Cluster, sight: Sight) -> Iterator[Duty]:
    """What the leader proposes."""
    silent, state_digest = sight.silent, sight.state_digest
    yield from _membership(cluster, sight.me, sight.members, silent)
    yield from _lost(cluster, sight)
    if cluster.nodes and min(node.level for node in cluster.nodes.values()) > cluster.level:
        yield RaiseLevel(cluster.level + 1)
    if state_digest is not None and state_digest[0] > cluster.attested_index:
        yield AttestState(*state_digest)
    planner = Planner(cluster, silent)
    yield from moves.duties(cluster, planner)
    for name in sorted(cluster.vms):
        vm = cluster.vms[name]
        settled = vm.state is State.RUNNING and (vm.move is None or vm.move.failed)
        if settled and vm.holder is not None:
            yield from _standby(cluster, vm, vm.holder, planner)
    yield from _waiting(cluster, sight, planner)


def _waiting(cluster: Cluster, sight: Sight, planner: Planner) -> Iterator[Duty]:
    """Place the VMs that wait, those of the highest priority first; each reckons with the last."""
    due = [
        vm
        for vm in cluster.vms.values()
        if vm.state is State.PENDING and sight.pending_ms.get(vm.name, 0) >= back_off_ms(vm)
    ]
    for vm in sorted(due, key=lambda vm: (-vm.policy.priority, vm.name)):
        choice = planner.place(vm)
        if choice.node_id is not None:
            node = cluster.nodes[choice.node_id]
            yield PlaceVm(vm.name, vm.uid, node.node_id, node.incarnation, choice.why)
            planner.take(vm, choice.node_id)
        elif vm.reason.text != choice.why:
            yield DeferVm(vm.name, vm.uid, choice.why)


def back_off_ms(vm: Vm) -> int:
    """How long a VM that failed waits before it is started again: twice as long each time."""
    if vm.failures == 0:
        return 0
    return min(BACK_OFF_MS << min(vm.failures - 1, 16), MAX_BACK_OFF_MS)


def next_loss_ms(cluster: Cluster, sight: Sight) -> int | None:
    """In how many milliseconds the next lease can be over; None if none can."""
    left = [left_ms for _, left_ms in _leases(cluster, sight) if left_ms >= 0]
    return min(left) + 1 if left else None


def _lost(cluster: Cluster, sight: Sight) -> Iterator[Duty]:
    """The nodes whose lease is surely over. That can be the leader's own: its disk may have moved
    to another machine, which is not let in before."""
    for node, left_ms in _leases(cluster, sight):
        if left_ms < 0:
            yield DeclareNodeDown(node.node_id, node.incarnation, node.seq)


def _leases(cluster: Cluster, sight: Sight) -> Iterator[tuple[Node, int]]:
    """The nodes that may run VMs, and for how many milliseconds yet."""
    for node_id in sorted(cluster.nodes):
        node = cluster.nodes[node_id]
        if node.incarnation != 0 and not node.is_down:
            yield node, down_after_ms(node.lease_ms) - sight.unrenewed_ms.get(node_id, 0)


def _standby(cluster: Cluster, vm: Vm, holder: Holder, planner: Planner) -> Iterator[Duty]:
    """Let the next-best node build ahead; one that was chosen stays while it could take the VM."""
    known = vm.standby
    tied = vm.keeps or vm.tied_to is not None
    if known is not None and not tied:
        node = planner.open.get(known.node_id)
        if node is not None and node.incarnation == known.incarnation:
            return
    chosen = None if tied else planner.place(vm, frozenset({holder.node_id})).node_id
    incarnation = cluster.nodes[chosen].incarnation if chosen is not None else 0
    if (chosen, incarnation) != ((known.node_id, known.incarnation) if known else (None, 0)):
        yield AssignStandby(vm.name, vm.uid, chosen, incarnation)


def _membership(
    cluster: Cluster, me: int, members: AbstractSet[int], silent: frozenset[int]
) -> Iterator[Duty]:
    """At most one change at a time: the next is proposed when this one is settled.

    Consensus follows the cluster's nodes; whoever is in one and not in the other is a difference.
    """
    strangers = sorted(set(members) - set(cluster.nodes) - {me})
    if cluster.nodes and strangers:
        yield ChangeMembership(strangers[0], "", add=False)
        return
    for node_id in sorted(cluster.nodes):
        node = cluster.nodes[node_id]
        is_member = node_id in members
        match node.membership:
            case Membership.JOINING if is_member:
                yield SettleNode(node_id, node.join_id, is_member=True)
            case Membership.JOINING | Membership.MEMBER if not is_member:
                yield ChangeMembership(node_id, node.address, add=True)
            case Membership.LEAVING if not is_member:
                yield SettleNode(node_id, node.join_id, is_member=False)
            case Membership.LEAVING if node_id == me:
                yield HandOver()
            case Membership.LEAVING if _lasts(members - {node_id}, silent):
                yield ChangeMembership(node_id, node.address, add=False)
            case _:
                continue
        return


def _lasts(members: AbstractSet[int], silent: frozenset[int]) -> bool:
    """Whether a majority of these members answers: without one nothing is ever decided again."""
    return 2 * len(members - silent) > len(members)
