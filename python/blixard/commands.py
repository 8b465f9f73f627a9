"""What may be asked of a cluster: the commands, and the log entry that carries one.

A command brings every choice with it; applying it makes none.
"""

from dataclasses import dataclass, field

from blixard.model import (
    DEFAULT_GRACE_MS,
    LEASE_MS,
    Capacity,
    Policy,
    Readiness,
    Reason,
    RequestId,
    State,
    VmSpec,
    Wanted,
)


@dataclass(frozen=True, slots=True)
class CreateVm:
    """Declare a VM. `content` brings the archive of a packed source."""

    name: str
    spec: VmSpec
    wanted: Wanted = Wanted.RUNNING
    content: bytes = b""
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class DeclareVm:
    """The configuration of a host names a VM: create it, or change what this host has declared
    before. Compare-and-set on the generation."""

    name: str
    node_id: int
    generation: int
    """One more than that of its present declaration, if it has one."""
    spec: VmSpec
    digest: str
    """Of what the configuration says."""
    policy: Policy = field(default_factory=Policy)
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class DisownVm:
    """The configuration of a host names a VM no more. It goes on, and belongs to everybody."""

    name: str
    node_id: int
    generation: int


@dataclass(frozen=True, slots=True)
class StartVm:
    name: str


@dataclass(frozen=True, slots=True)
class StopVm:
    name: str
    grace_ms: int = DEFAULT_GRACE_MS
    kill: bool = False


@dataclass(frozen=True, slots=True)
class RestartVm:
    """Stop the VM and send it through the create path again."""

    name: str
    grace_ms: int = DEFAULT_GRACE_MS
    kill: bool = False


@dataclass(frozen=True, slots=True)
class DeleteVm:
    name: str
    grace_ms: int = DEFAULT_GRACE_MS
    kill: bool = False


@dataclass(frozen=True, slots=True)
class SetPolicy:
    """Replace a VM's policy."""

    name: str
    policy: Policy


@dataclass(frozen=True, slots=True)
class PlaceVm:
    """The leader's choice of a host; its log index becomes the epoch."""

    name: str
    uid: int
    node_id: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class DeferVm:
    """The leader's word why a pending VM has no host."""

    name: str
    uid: int
    why: str


@dataclass(frozen=True, slots=True)
class ReportVm:
    """A holder's word on its VM. STOPPED and FAILED say that nothing of it runs there any more."""

    name: str
    uid: int
    node_id: int
    incarnation: int
    epoch: int
    session: int
    state: State
    reason: Reason
    runner: str | None = None
    volumes: tuple[str, ...] | None = None
    """As of `runner`."""
    ran_ms: int = 0
    """For how long it had run when it ended by itself."""


@dataclass(frozen=True, slots=True)
class AssignStandby:
    """The leader's choice of the node that builds ahead; None if there is none."""

    name: str
    uid: int
    node_id: int | None
    incarnation: int = 0


@dataclass(frozen=True, slots=True)
class ReportStandby:
    """A standby's word on its build."""

    name: str
    uid: int
    node_id: int
    incarnation: int
    readiness: Readiness


@dataclass(frozen=True, slots=True)
class AddNode:
    """Admit a node; the leader then changes the consensus membership."""

    node_id: int
    address: str
    machine_id: str
    join_id: str
    level: int = 1
    """The highest cluster level that the node supports; so in the commands below."""


@dataclass(frozen=True, slots=True)
class RemoveNode:
    node_id: int


@dataclass(frozen=True, slots=True)
class SettleNode:
    """The leader's word that consensus membership agrees: JOINING -> MEMBER, LEAVING -> gone.

    It speaks of the node that was admitted with `join_id`, and of no later one of the same id.
    """

    node_id: int
    join_id: str
    is_member: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """A VM that runs on without a lease, under the placement it was started for."""

    name: str
    uid: int
    epoch: int


@dataclass(frozen=True, slots=True)
class RegisterNode:
    """A node begins a new life, after making sure that nothing runs on it but what is to be kept.
    Compare-and-set."""

    node_id: int
    machine_id: str
    join_id: str
    address: str
    previous_incarnation: int
    capacity: Capacity
    version: str
    level: int = 1
    lease_ms: int = LEASE_MS
    guaranteed: bool = False
    kept: tuple[Kept, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckIn:
    """A node's daemon is back in the same life. The index of the outcome tells it how far the log
    must be applied before what it sees may be acted upon."""

    node_id: int
    incarnation: int
    address: str
    capacity: Capacity
    version: str
    level: int = 1
    lease_ms: int = LEASE_MS
    guaranteed: bool = False


@dataclass(frozen=True, slots=True)
class Renewal:
    """One node's wish to go on."""

    node_id: int
    incarnation: int
    seq: int
    """When it was sent, by the node's CLOCK_BOOTTIME in milliseconds: grows with every attempt."""


@dataclass(frozen=True, slots=True)
class RenewLeases:
    """The renewals that reached the leader together. A node's lease counts from `Renewal.seq`, and
    only if this entry was applied and took its renewal."""

    renewals: tuple[Renewal, ...]


@dataclass(frozen=True, slots=True)
class DeclareNodeDown:
    """The leader's word that a node's lease is over. Compare-and-set: not if it has renewed."""

    node_id: int
    incarnation: int
    seq: int


@dataclass(frozen=True, slots=True)
class ConfirmDown:
    """An operator's word that a node runs nothing any more. It speaks of the life that the operator
    saw, and of no later one."""

    node_id: int
    incarnation: int
    by: str
    """Who says so."""


@dataclass(frozen=True, slots=True)
class RaiseLevel:
    """The leader's word that all nodes support the next cluster level."""

    level: int


@dataclass(frozen=True, slots=True)
class AttestState:
    """The leader's digest of its state as of an index. A node that has come to another state
    stops (`raft.replica`)."""

    at_index: int
    digest: bytes


Command = (
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
    | AddNode
    | RemoveNode
    | SettleNode
    | RegisterNode
    | CheckIn
    | RenewLeases
    | DeclareNodeDown
    | ConfirmDown
    | RaiseLevel
    | AttestState
)


NodeCommand = ReportVm | ReportStandby | RegisterNode | CheckIn | RenewLeases
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
