"""What may be asked and told of nodes, their leases, and the cluster as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from blixard.model import (
    LEASE_MS,
    Capacity,
)


@dataclass(frozen=True, slots=True)
class DrainNode:
    """Take no more VMs on a node, and move away those that it holds."""

    node_id: int
    by: str
    reason: str = ""
    until_restart: bool = False


@dataclass(frozen=True, slots=True)
class ResumeNode:
    """The end of a drain, also of one that is under way."""

    node_id: int
    by: str


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
    labels: Mapping[str, str] = field(default_factory=dict)
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
    labels: Mapping[str, str] = field(default_factory=dict)


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
