"""The law of placements: one holder at a time, and every way out of a host passes through its
report or the end of its incarnation."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from blixard.commands import AssignStandby, DeferVm, PlaceVm, ReportHealth, ReportStandby, ReportVm
from blixard.errors import Code
from blixard.machine.rules import free_capacity, misfits, on_its_own, related, takes_vms
from blixard.machine.transitions import pending, put, without_holder
from blixard.model import (
    Accepted,
    Cluster,
    Health,
    Holder,
    Outcome,
    Reason,
    Rejected,
    Standby,
    State,
    Vm,
)
from blixard.policy import OnQuorumLoss

Step = tuple[Cluster, Outcome]

REPORTABLE = frozenset({State.BUILDING, State.STARTING, State.RUNNING, State.STOPPED, State.FAILED})

STEADY_MS: Final = 60_000
"""A VM that had run for so long when it ended has not failed in a row."""

FENCED: Final = "fenced"
"""The reason of a VM that its host ended with its lease: no failure of the VM's own."""


def place(cluster: Cluster, index: int, at_ms: int, command: PlaceVm) -> Step:
    """Give a VM its holder, if it has none and the node is alive, a member, and has room."""
    vm = cluster.vms.get(command.name)
    node = cluster.nodes.get(command.node_id)
    if (
        vm is None
        or vm.uid != command.uid
        or vm.state is not State.PENDING
        or vm.holder is not None
    ):
        return cluster, Rejected(Code.STALE, f"{command.name} no longer waits for a node")
    if node is None or node.incarnation != command.incarnation:
        return cluster, Rejected(Code.STALE, f"that life of node-{command.node_id} is over")
    free = free_capacity(cluster, node.node_id, besides=vm.name)
    for refusal in (
        *on_its_own(vm, node),
        *misfits(vm, node, free),
        *related(cluster, vm, node),
    ):
        return cluster, Rejected(Code.STALE, f"{node.name} {refusal.text}")
    placed = replace(
        vm,
        state=State.STARTING,
        reason=Reason("placed", f"placed on {node.name}"),
        since_ms=at_ms,
        holder=Holder(node.node_id, node.incarnation, epoch=index),
        last_node=node.node_id,
        keeps=vm.policy.on_quorum_loss is OnQuorumLoss.KEEP,
        decision=command.why,
        health=None,
        move=vm.move if vm.moves_to == node.node_id else None,
        standby=None if vm.standby and vm.standby.node_id == node.node_id else vm.standby,
    )
    return put(cluster, placed), Accepted(index)


def defer(cluster: Cluster, index: int, command: DeferVm) -> Step:
    """Say why a VM waits. It has waited since it became pending, whatever the reason is now."""
    vm = cluster.vms.get(command.name)
    if vm is None or vm.uid != command.uid or vm.state is not State.PENDING:
        return cluster, Rejected(Code.STALE, f"{command.name} no longer waits for a node")
    return put(cluster, replace(vm, reason=Reason("no-room", command.why))), Accepted(index)


def report(cluster: Cluster, index: int, at_ms: int, command: ReportVm) -> Step:
    """Take a holder's word. Anyone else's, or word of an older placement or daemon, has no say."""
    vm = cluster.vms.get(command.name)
    node = cluster.nodes.get(command.node_id)
    holder = Holder(command.node_id, command.incarnation, command.epoch)
    if vm is None or vm.uid != command.uid or vm.holder != holder:
        return cluster, Rejected(Code.STALE, f"node-{command.node_id} does not hold {command.name}")
    if node is None or node.is_down:
        return cluster, Rejected(Code.STALE, f"that life of node-{command.node_id} is over")
    if node.session != command.session:
        return cluster, Rejected(Code.STALE, "that report is of an earlier daemon")
    if command.state not in REPORTABLE:
        return cluster, Rejected(Code.BAD_ARGUMENT, f'"{command.state}" is no state to report')
    if command.state in (State.STOPPED, State.FAILED):
        return _given_up(cluster, vm, at_ms, command), Accepted(index)
    if vm.release is not None:
        return cluster, Rejected(Code.STALE, f"{vm.name} is to be given up")
    arrived = command.state is State.RUNNING and vm.move and vm.move.to == command.node_id
    reported = replace(
        vm,
        state=command.state,
        reason=_arrival(vm, at_ms, command.reason) if arrived else command.reason,
        since_ms=at_ms if command.state is not vm.state else vm.since_ms,
        runner=command.runner or vm.runner,
        volumes=command.volumes if command.runner else vm.volumes,
        move=None if arrived else vm.move,
    )
    return put(cluster, reported), Accepted(index)


def _arrival(vm: Vm, at_ms: int, reason: Reason) -> Reason:
    """What became of a move: how long the VM was away, from the order to stop to the report."""
    if vm.move is None or not vm.move.handed_ms:
        return reason
    away_s = max(0, at_ms - vm.move.handed_ms) / 1000
    return Reason("moved", f"{reason.text}, moved there within {away_s:.1f} s")


def report_health(cluster: Cluster, index: int, at_ms: int, command: ReportHealth) -> Step:
    """Take a holder's word on whether a guest serves."""
    vm = cluster.vms.get(command.name)
    node = cluster.nodes.get(command.node_id)
    holder = Holder(command.node_id, command.incarnation, command.epoch)
    if vm is None or vm.uid != command.uid or vm.holder != holder or vm.policy.check is None:
        return cluster, Rejected(Code.STALE, f"nobody asks how {command.name} is")
    if node is None or node.is_down or node.session != command.session:
        return cluster, Rejected(Code.STALE, "that report is of an earlier daemon")
    known = vm.health
    same = known is not None and known.state is command.state
    since_ms = known.since_ms if known is not None and same else at_ms
    health = Health(command.state, command.text, since_ms)
    return put(cluster, replace(vm, health=health)), Accepted(index)


def assign_standby(cluster: Cluster, index: int, command: AssignStandby) -> Step:
    """Let a node build ahead for a VM, or none."""
    vm = cluster.vms.get(command.name)
    if vm is None or vm.uid != command.uid or vm.holder is None:
        return cluster, Rejected(Code.STALE, f"{command.name} needs no standby")
    if command.node_id is None:
        return put(cluster, replace(vm, standby=None)), Accepted(index)
    node = cluster.nodes.get(command.node_id)
    if node is None or not takes_vms(node, command.incarnation):
        return cluster, Rejected(Code.STALE, f"node-{command.node_id} takes no VMs")
    standby = Standby(node.node_id, node.incarnation)
    return put(cluster, replace(vm, standby=standby)), Accepted(index)


def report_standby(cluster: Cluster, index: int, command: ReportStandby) -> Step:
    """Take a standby's word on its build."""
    vm = cluster.vms.get(command.name)
    known = vm.standby if vm is not None and vm.uid == command.uid else None
    mine = known is not None and (known.node_id, known.incarnation) == (
        command.node_id,
        command.incarnation,
    )
    if vm is None or known is None or not mine:
        return cluster, Rejected(Code.STALE, f"{command.name} has another standby")
    standby = replace(known, readiness=command.readiness)
    return put(cluster, replace(vm, standby=standby)), Accepted(index)


def end_incarnation(
    cluster: Cluster, node_id: int, at_ms: int, reason: Reason, spare: Callable[[Vm], Vm | None]
) -> Cluster:
    """Clear a node's hold on its VMs: the life under which it held them is over. `spare` names
    those that stay held, as they are from now on."""
    for name in sorted(cluster.vms):
        vm = cluster.vms[name]
        if vm.holder is None or vm.holder.node_id != node_id:
            continue
        spared = spare(vm)
        if spared is not None:
            cluster = put(cluster, spared)
        else:
            cluster = without_holder(cluster, vm, at_ms, reason)
    return cluster


def _given_up(cluster: Cluster, vm: Vm, at_ms: int, command: ReportVm) -> Cluster:
    """The holder has nothing of the VM left: it failed by itself, or was released."""
    if command.state is State.FAILED and vm.release is None and command.reason.code != FENCED:
        return _failed(cluster, vm, at_ms, command)
    return without_holder(cluster, vm, at_ms, command.reason)


def _failed(cluster: Cluster, vm: Vm, at_ms: int, command: ReportVm) -> Cluster:
    """Restart it, unless it has failed too often in a row, or has never been built. A move to where
    it fails is over: any other node comes before that one."""
    failures = 1 if command.ran_ms >= STEADY_MS else vm.failures + 1
    failed = replace(
        vm,
        reason=command.reason,
        since_ms=at_ms,
        holder=None,
        failures=failures,
        failed_on=command.node_id,
        health=None,
        move=None if vm.moves_to == command.node_id else vm.move,
    )
    limit = vm.policy.restart_limit
    if failures > limit or vm.runner is None:
        return put(cluster, replace(failed, state=State.FAILED, move=None))
    text = f"is restarted ({failures} of {limit}): {command.reason.text}"
    return put(cluster, pending(failed, at_ms, Reason(command.reason.code, text)))
