"""The nouns: what a cluster is made of, what may be asked of it, and how it answers.

Everything here is an immutable value. Indexes are positions in the replicated log; they never
repeat, so they serve as identities: a VM's `uid` is the index of its creation, a placement's
`epoch` the index of its `PlaceVm`, a node's `incarnation` the index of its registration.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from blixard.errors import Code
from blixard.policy import Failover, Policy
from blixard.source import Source

LEVEL: Final = 1
"""The cluster level that this release supports.

Two releases that run side by side must come to the same state. So a release that adds a kind of
command or changes a rule of `apply` counts this up by one, and follows what is new only while
`Cluster.level` has come to it. Until then it does exactly what the release before it did: to a kind
of command that is still to come, `apply` answers before anything is remembered of the request, as
where the entry cannot be read. A field may be added at any time, with a default (see `codec`), but
gets another value only from that level on. A log entry raises the cluster's level once all nodes
support the next one (`RaiseLevel`); nothing lowers it.
"""

LEASE_MS: Final = 9_000
"""The usual time that a host may run VMs after a renewal, see `lease`."""

DEFAULT_GRACE_MS: Final = 30_000
"""How long a guest may take to power off by itself before it is terminated."""


# --- what a VM is -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VmSpec:
    """What the operator asked for."""

    source: Source
    vcpus: int
    memory_mib: int
    disk_mib: int = 0
    """Set aside on its host's disk; 0 if nothing is."""


class Wanted(StrEnum):
    """What the operator wants of a VM. DELETED is a tombstone; it stays until no host holds it."""

    RUNNING = "running"
    STOPPED = "stopped"
    DELETED = "deleted"


class State(StrEnum):
    """Where a VM is, as the log knows it."""

    PENDING = "pending"
    """Wanted running; no host holds it."""
    BUILDING = "building"
    """Its host realises the runner."""
    STARTING = "starting"
    """Placed on a host, which has not yet reported it running."""
    RUNNING = "running"
    STOPPING = "stopping"
    """Its host was told to give it up and has not yet reported it gone."""
    STOPPED = "stopped"
    """No host holds it, and none shall."""
    FAILED = "failed"
    """Wanted running, but its last attempts ended; `reason` says how. It waits for the operator."""
    UNREACHABLE = "unreachable"
    """Its host is lost, and may still run it, for it is to be kept. It stays held until the host is
    back, or a person confirms that it is down."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a VM is in its state: a stable code for programs and a sentence for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Holder:
    """The only licence to run a VM: this node, in this life, for this placement."""

    node_id: int
    incarnation: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Release:
    """An order to the holder to stop the VM and report it gone."""

    grace_ms: int
    """Time for a graceful shutdown, before the guest is terminated."""
    kill: bool
    """Terminate at once."""


class Readiness(StrEnum):
    """How far a standby is."""

    BUILDING = "building"
    BUILT = "built"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Standby:
    """The node that builds a VM's runner ahead, so that a failover finds it."""

    node_id: int
    incarnation: int
    readiness: Readiness = Readiness.BUILDING


@dataclass(frozen=True, slots=True)
class Declaration:
    """That the configuration of a host names a VM. Only that host changes it."""

    node_id: int
    """The host, its owner."""
    generation: int
    """How often it was declared by now. Who declares it again names the next one."""
    digest: str
    """Of what the configuration says, before any reference is locked."""
    spec: VmSpec
    """What the VM is from the next time on that it is started by an order."""
    at_index: int
    """When it became so."""


class HealthState(StrEnum):
    STARTING = "starting"
    """It has not passed its check since it was started, and may take its time."""
    OK = "ok"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Health:
    """What its host has found out about a guest by its check."""

    state: HealthState
    text: str
    """What the last check said."""
    since_ms: int


@dataclass(frozen=True, slots=True)
class Move:
    """That a VM is to go on on another node. It builds there first; then its holder gives it up."""

    to: int
    by: str
    """Who asked for it."""
    since_ms: int
    release: Release
    """How it is stopped once the other node is ready."""
    failed: str = ""
    """Why it came to nothing; the VM stays where it is."""
    handed_ms: int = 0
    """When its holder was told to give it up; 0 before."""


@dataclass(frozen=True, slots=True)
class Vm:
    """One virtual machine, as the cluster remembers it."""

    name: str
    uid: int
    spec: VmSpec
    wanted: Wanted
    state: State
    reason: Reason
    since_ms: int
    """Wall-clock time of the last change of state, as stamped by the proposer; for display only."""
    created_ms: int
    holder: Holder | None = None
    release: Release | None = None
    runner: str | None = None
    """Store path of the runner that the last placement built."""
    last_node: int | None = None
    """The node that held it last; its volumes are there."""
    policy: Policy = field(default_factory=Policy)
    keeps: bool = False
    """Whether the present placement goes on without a lease: `OnQuorumLoss.KEEP`, as of then."""
    volumes: tuple[str, ...] | None = None
    """The images on its host's disk that its runner writes to; None if that is not known."""
    failures: int = 0
    """How often in a row it ended by itself soon after it was started."""
    failed_on: int | None = None
    """The node on which it did so last."""
    standby: Standby | None = None
    declared: Declaration | None = None
    """None if no host's configuration names it."""
    spec_index: int = 0
    """When `spec` became what it is; 0 if it has been so since the VM was created."""
    has_left: bool = False
    """Whether a runner of an earlier `spec` has run on `last_node`."""
    health: Health | None = None
    """None if nothing checks it, or nothing runs."""
    move: Move | None = None
    """None if it is not on its way to another node."""
    decision: str = ""
    """Why it was placed where it was placed last: the choice, then a line for every other node."""

    @property
    def moves_to(self) -> int | None:
        """The node to which it is on its way; None if to none, or if that came to nothing."""
        return self.move.to if self.move is not None and not self.move.failed else None

    @property
    def build(self) -> int:
        """Identifies what a host builds ahead for it: another `spec` is another build."""
        return self.spec_index or self.uid

    @property
    def tied_to(self) -> int | None:
        """The only node that may start it; None if others may, or if it has left nothing yet."""
        has_run = self.runner is not None or self.has_left
        return self.last_node if self.tie and has_run else None

    @property
    def tie(self) -> str:
        """Why no other host than `last_node` may start it; empty if others may."""
        if self.policy.failover is Failover.NEVER:
            return "failover is never"
        if self.policy.failover is Failover.ALWAYS or self.volumes == ():
            return ""
        if self.volumes is None:
            return "it may have volumes there"
        return f"its volumes are there: {', '.join(self.volumes)}"


# --- what a node is -----------------------------------------------------------------------------


class Membership(StrEnum):
    """A node's way through the cluster. Consensus membership follows it, one change at a time."""

    JOINING = "joining"
    MEMBER = "member"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a host offers to VMs."""

    vcpus: int
    memory_mib: int
    disk_mib: int = 0


@dataclass(frozen=True, slots=True)
class Drain:
    """That a node takes no VMs, and those it holds are moved away."""

    by: str
    """Who asked for it."""
    reason: str
    since_ms: int
    until_restart: bool = False
    """It ends with the present life of the node: its host is shut down, and may come back."""


@dataclass(frozen=True, slots=True)
class Node:
    """One host of the cluster."""

    node_id: int
    address: str
    """Where its peers reach it, `host:port`."""
    machine_id: str
    """Identity of the machine behind it; another machine may not take over the id."""
    join_id: str
    """Identity of its data directory; a wiped one may not rejoin under the same id."""
    membership: Membership
    incarnation: int = 0
    """Index of its last registration; 0 before the first."""
    capacity: Capacity = Capacity(0, 0)
    version: str = ""
    session: int = 0
    """Index at which its present daemon registered or checked in; an earlier daemon's report that
    comes late has no say."""
    level: int = 1
    """The highest cluster level that its daemon supports."""
    lease_ms: int = LEASE_MS
    """How long it runs VMs after a renewal that was accepted."""
    seq: int = 0
    """Its last accepted renewal in this incarnation, as it was stamped: `Renewal.seq`."""
    is_down: bool = False
    """Its incarnation is over, and no other has begun."""
    guaranteed: bool = False
    """Whether a watchdog resets it if it cannot end its VMs in time."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What its operator says of it, and what it found itself; always with `node`, its name."""
    drain: Drain | None = None

    @property
    def name(self) -> str:
        """The name people see."""
        return f"node-{self.node_id}"


# --- how requests are recognised ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestId:
    """Names a request of a client, so that a retry gets the first outcome and never acts twice."""

    session: str
    number: int
    base_index: int
    """An index the client saw applied before it sent the request for the first time. If the memory
    of outcomes has been pruned beyond it, the outcome is unknown and the request is refused."""

    @property
    def key(self) -> str:
        """Under what its outcome is remembered."""
        return f"{self.session}/{self.number}"


@dataclass(frozen=True, slots=True)
class Fix:
    """A way out of an error: words, and a command to paste if there is one."""

    text: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The command took effect at `index`; `note` says what a person should know."""

    index: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The command changed nothing, and this is why. Also the shape of every error on the wire."""

    code: Code
    message: str
    why: str = ""
    fixes: tuple[Fix, ...] = ()


Outcome = Accepted | Rejected


@dataclass(frozen=True, slots=True)
class Remembered:
    """The outcome of a request, kept for a retry, and the index at which it was decided."""

    index: int
    outcome: Outcome
    asked: str = ""
    """The kind of the command and what it was about; empty if that was not remembered."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The replicated state: the one truth about what should be where."""

    vms: Mapping[str, Vm] = field(default_factory=dict)
    nodes: Mapping[int, Node] = field(default_factory=dict)
    sources: Mapping[str, bytes] = field(default_factory=dict)
    """Packed sources by digest, for as long as a VM refers to them."""
    outcomes: Mapping[str, Remembered] = field(default_factory=dict)
    """Outcomes of recent requests by `RequestId.key`, oldest first."""
    forgotten_index: int = 0
    """Outcomes up to this index may have been pruned."""
    departed: Mapping[str, int] = field(default_factory=dict)
    """Data directories (`Node.join_id`) of nodes that left, and when; they are not let in again."""
    level: int = 1
    """Which rules hold, see `LEVEL`."""
    attested_index: int = 0
    """The last index of which a leader has told the digest of its state."""
