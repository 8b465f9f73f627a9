"""The law: how one log entry turns one cluster state into the next.

`apply` is total and deterministic. It never raises, reads no clock and makes no choice: the leader
chooses and carries its choice in the command; `apply` accepts or rejects it against the state of
now. A rejected command changes nothing but the memory of outcomes.
"""

from dataclasses import replace
from typing import Final

from blixard.commands import (
    AbandonMove,
    AddNode,
    AssignStandby,
    AttestState,
    CheckIn,
    ClusterCommand,
    Command,
    ConfirmDown,
    CreateVm,
    DeclareNodeDown,
    DeclareVm,
    DeferVm,
    DeleteVm,
    DisownVm,
    DrainNode,
    Entry,
    HandOverVm,
    MoveVm,
    PlaceVm,
    RaiseLevel,
    RegisterNode,
    RemoveNode,
    RenewLeases,
    ReportHealth,
    ReportStandby,
    ReportVm,
    RestartVm,
    ResumeNode,
    SetPolicy,
    SettleNode,
    StartVm,
    StopVm,
)
from blixard.errors import Code
from blixard.machine import agreement, declarations, leases, moves, nodes, placements, vms
from blixard.model import (
    Cluster,
    Fix,
    Outcome,
    Rejected,
    Remembered,
    RequestId,
)

OUTCOMES_KEPT: Final = 4096
"""How many outcomes are remembered, so that a retried request gets the first one."""


def apply(cluster: Cluster, index: int, entry: Entry) -> tuple[Cluster, Outcome]:
    """The state after `entry` took effect at `index`, and what to tell its proposer."""
    request = entry.request
    if request is None:
        return _execute(cluster, index, entry.at_ms, entry.command)
    known = cluster.outcomes.get(request.key)
    if known is not None:
        return cluster, _repeated(request, entry.command, known)
    if request.base_index < cluster.forgotten_index:
        return cluster, _forgotten(request)
    changed, outcome = _execute(cluster, index, entry.at_ms, entry.command)
    return _remember(changed, index, request, entry.command, outcome), outcome


def _execute(  # noqa: C901, PLR0912 - one case a command
    cluster: Cluster, index: int, at_ms: int, command: Command
) -> tuple[Cluster, Outcome]:
    match command:
        case CreateVm():
            return vms.create(cluster, index, at_ms, command)
        case DeclareVm():
            return declarations.declare(cluster, index, at_ms, command)
        case DisownVm():
            return declarations.disown(cluster, index, command)
        case StartVm():
            return vms.start(cluster, index, at_ms, command)
        case StopVm():
            return vms.stop(cluster, index, at_ms, command)
        case RestartVm():
            return vms.restart(cluster, index, at_ms, command)
        case DeleteVm():
            return vms.delete(cluster, index, at_ms, command)
        case PlaceVm():
            return placements.place(cluster, index, at_ms, command)
        case DeferVm():
            return placements.defer(cluster, index, command)
        case ReportVm():
            return placements.report(cluster, index, at_ms, command)
        case SetPolicy():
            return vms.set_policy(cluster, index, command)
        case ReportHealth():
            return placements.report_health(cluster, index, at_ms, command)
        case MoveVm():
            return moves.move(cluster, index, at_ms, command)
        case HandOverVm():
            return moves.hand_over(cluster, index, at_ms, command)
        case AbandonMove():
            return moves.abandon(cluster, index, command)
        case AssignStandby():
            return placements.assign_standby(cluster, index, command)
        case ReportStandby():
            return placements.report_standby(cluster, index, command)
        case _:
            return _execute_on_cluster(cluster, index, at_ms, command)


def _execute_on_cluster(  # noqa: C901 - one case a command
    cluster: Cluster, index: int, at_ms: int, command: ClusterCommand
) -> tuple[Cluster, Outcome]:
    match command:
        case DrainNode():
            return moves.drain(cluster, index, at_ms, command)
        case ResumeNode():
            return moves.resume(cluster, index, command)
        case AddNode():
            return nodes.add(cluster, index, command)
        case RemoveNode():
            return nodes.remove(cluster, index, command)
        case SettleNode():
            return nodes.settle(cluster, index, command)
        case RegisterNode():
            return nodes.register(cluster, index, at_ms, command)
        case CheckIn():
            return nodes.check_in(cluster, index, command)
        case RenewLeases():
            return leases.renew(cluster, index, command)
        case DeclareNodeDown():
            return leases.declare_down(cluster, index, at_ms, command)
        case ConfirmDown():
            return leases.confirm_down(cluster, index, at_ms, command)
        case RaiseLevel():
            return agreement.raise_level(cluster, index, command)
        case AttestState():
            return agreement.attest(cluster, index, command)


def _repeated(request: RequestId, command: Command, known: Remembered) -> Outcome:
    """The first outcome, if the same is asked. The rest of a command may differ: a flake reference
    is locked anew for each attempt."""
    if known.asked in ("", _asked(command)):
        return known.outcome
    return Rejected(
        Code.BAD_ARGUMENT,
        f"request {request.key} was {known.asked}, and not {_asked(command)}",
        why="a request id names one command; repeated, it gets the first outcome",
        fixes=(Fix("leave out --request-id, so that the command gets an id of its own"),),
    )


def _asked(command: Command) -> str:
    """A command in short: its kind, and what it is about."""
    about = getattr(command, "name", getattr(command, "node_id", ""))
    return f"{type(command).__name__} {about}"


def _forgotten(request: RequestId) -> Rejected:
    return Rejected(
        Code.REQUEST_FORGOTTEN,
        f"the outcome of request {request.key} is no longer known",
        why="it may have taken effect long ago; it was not carried out again",
        fixes=(Fix("look at the present state, then decide", "blixard vm list"),),
    )


def _remember(
    cluster: Cluster, index: int, request: RequestId, command: Command, outcome: Outcome
) -> Cluster:
    """Keep the outcome for a retry; beyond `OUTCOMES_KEPT` the oldest is forgotten, marked so."""
    outcomes = {**cluster.outcomes, request.key: Remembered(index, outcome, _asked(command))}
    forgotten_index = cluster.forgotten_index
    while len(outcomes) > OUTCOMES_KEPT:
        forgotten_index = outcomes.pop(next(iter(outcomes))).index
    return replace(cluster, outcomes=outcomes, forgotten_index=forgotten_index)
