"""What may be asked and told of VMs."""

from dataclasses import dataclass, field

from blixard.model import DEFAULT_GRACE_MS, HealthState, Readiness, Reason, State, VmSpec, Wanted
from blixard.policy import Policy


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
    why: str = ""
    """As in `Vm.decision`."""


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
class MoveVm:
    """Let another node run a VM, once it is ready for it."""

    name: str
    to: int
    by: str
    grace_ms: int = DEFAULT_GRACE_MS
    kill: bool = False


@dataclass(frozen=True, slots=True)
class HandOverVm:
    """The leader's word that the node to which a VM is to move is ready: its holder gives it up."""

    name: str
    uid: int
    epoch: int
    to: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class AbandonMove:
    """The leader's word that a move comes to nothing."""

    name: str
    uid: int
    epoch: int
    why: str


@dataclass(frozen=True, slots=True)
class ReportHealth:
    """A holder's word on whether a guest serves."""

    name: str
    uid: int
    node_id: int
    incarnation: int
    epoch: int
    session: int
    state: HealthState
    text: str
