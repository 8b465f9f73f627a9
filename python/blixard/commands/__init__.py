"""What may be asked of a cluster: the commands, and the log entry that carries one.

A command brings every choice with it; applying it makes none.
"""

from dataclasses import dataclass

from blixard.commands.nodes import (
    AddNode,
    AttestState,
    CheckIn,
    ConfirmDown,
    DeclareNodeDown,
    DrainNode,
    Kept,
    RaiseLevel,
    RegisterNode,
    RemoveNode,
    Renewal,
    RenewLeases,
    ResumeNode,
    SettleNode,
)
from blixard.commands.vms import (
    AbandonMove,
    AssignStandby,
    CreateVm,
    DeclareVm,
    DeferVm,
    DeleteVm,
    DisownVm,
    HandOverVm,
    MoveVm,
    PlaceVm,
    ReportHealth,
    ReportStandby,
    ReportVm,
    RestartVm,
    SetPolicy,
    StartVm,
    StopVm,
)
from blixard.model import RequestId

__all__ = [
    "AbandonMove",
    "AddNode",
    "AssignStandby",
    "AttestState",
    "CheckIn",
    "ClusterCommand",
    "Command",
    "ConfirmDown",
    "CreateVm",
    "DeclareNodeDown",
    "DeclareVm",
    "DeferVm",
    "DeleteVm",
    "DisownVm",
    "DrainNode",
    "Entry",
    "HandOverVm",
    "Kept",
    "MoveVm",
    "NodeCommand",
    "PlaceVm",
    "RaiseLevel",
    "RegisterNode",
    "RemoveNode",
    "RenewLeases",
    "Renewal",
    "ReportHealth",
    "ReportStandby",
    "ReportVm",
    "RestartVm",
    "ResumeNode",
    "SetPolicy",
    "SettleNode",
    "StartVm",
    "StopVm",
    "VmCommand",
    "speaker",
]

VmCommand = (
    CreateVm
    | DeclareVm
    | DisownVm
    | StartVm
    | StopVm
    | RestartVm
    | DeleteVm
    | SetPolicy
    | PlaceVm
    | DeferVm
    | ReportVm
    | AssignStandby
    | ReportStandby
    | MoveVm
    | HandOverVm
    | AbandonMove
    | ReportHealth
)

ClusterCommand = (
    AddNode
    | RemoveNode
    | SettleNode
    | RegisterNode
    | CheckIn
    | DrainNode
    | ResumeNode
    | RenewLeases
    | DeclareNodeDown
    | ConfirmDown
    | RaiseLevel
    | AttestState
)

Command = VmCommand | ClusterCommand


NodeCommand = (
    ReportVm | ReportHealth | ReportStandby | RegisterNode | CheckIn | RenewLeases | DrainNode
)
"""What a node has its leader propose, each about itself alone."""


def speaker(command: NodeCommand) -> int:
    """The node that says so; 0 if it is not one alone."""
    if isinstance(command, RenewLeases):
        speakers = {renewal.node_id for renewal in command.renewals}
        return speakers.pop() if len(command.renewals) == 1 else 0
    return command.node_id


@dataclass(frozen=True, slots=True)
class Entry:
    """What one position of the log holds."""

    command: Command
    at_ms: int
    """Wall-clock time at the proposer, in milliseconds since the epoch; shown, never compared."""
    request: RequestId | None = None
    by: str = ""
    """Who asked for it, as the caller says: user@host. Empty for what nodes and leaders do."""
