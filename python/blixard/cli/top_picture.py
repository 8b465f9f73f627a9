"""What `top` shows, computed from what a cluster has answered: no clock, no thread, no terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from blixard.cli.cluster_view import health, is_well, lease_left
from blixard.cli.cluster_view import note as node_note
from blixard.cli.terminal import harmless
from blixard.cli.units import age, memory
from blixard.cli.vm_view import STATE_COLORS, first_line
from blixard.cli.vm_view import note as vm_note

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb

SORTS: Final = ("name", "state", "node", "since", "memory")
LATE_MS: Final = 1_000
"""A picture that is two intervals and this old is an old one."""
_NODE_COLORS: Final = {"up": "green", "down": "red", "silent": "red"}


@dataclass(frozen=True, slots=True)
class Answers:
    """What the cluster told of itself at one moment."""

    status: "pb.GetClusterStatusResponse"
    vms: Sequence["pb.Vm"]
    at_ms: int
    """When it was received, in milliseconds since 1970."""
    rate: float | None = None
    """Log entries a second since the answers before; None if there are none to compare with."""


@dataclass(frozen=True, slots=True)
class Known:
    """All that has been heard so far."""

    answers: Answers | None = None
    trouble: str = ""
    """Why there are no newer answers; empty if the last question was answered."""
    events: Sequence["pb.Event"] = ()
    """The oldest first."""
    deaf: str = ""
    """Why no events are heard; empty if they are."""


@dataclass(frozen=True, slots=True)
class Host:
    """One node. Memory in MiB."""

    name: str
    state: str
    role: str
    lease: str
    vcpus: int
    vcpus_reserved: int
    memory_mib: int
    memory_reserved_mib: int
    vms: int
    note: str
    color: str


@dataclass(frozen=True, slots=True)
class Guest:
    """One VM."""

    name: str
    state: str
    node: str
    vcpus: int
    memory_mib: int
    since_ms: int
    since: str
    note: str
    as_wanted: bool
    color: str

    @property
    def memory(self) -> str:
        return memory(self.memory_mib)


@dataclass(frozen=True, slots=True)
class Happening:
    """One event."""

    at_ms: int
    subject: str
    node: str
    text: str
    grave: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """One state of the cluster, and how far it can be relied on."""

    now_ms: int
    cluster: str
    health: str
    up: int
    spare: int
    """How many more nodes may be lost without losing the majority; negative if it is lost."""
    leader: str
    term: int
    index: int
    rate: float | None
    age_ms: int
    stale: bool
    """It is old, or no leader stands for it."""
    source: str
    """The node whose word this is, if no leader stands for it."""
    trouble: str
    hosts: tuple[Host, ...]
    guests: tuple[Guest, ...]
    happenings: tuple[Happening, ...]
    """The newest last."""
    deaf: str


def picture(known: Known, now_ms: int, interval_ms: int) -> Picture:
    """What is known at `now_ms` (since 1970), if it is asked for every `interval_ms`."""
    happenings = tuple(_happening(event) for event in known.events)
    answers = known.answers
    if answers is None:
        trouble = known.trouble or "nothing has answered yet"
        return Picture(
            now_ms,
            cluster="",
            health="unknown",
            up=0,
            spare=0,
            leader="",
            term=0,
            index=0,
            rate=None,
            age_ms=0,
            stale=True,
            source="",
            trouble=trouble,
            hosts=(),
            guests=(),
            happenings=happenings,
            deaf=known.deaf,
        )
    seen = answers.status
    age_ms = max(0, now_ms - answers.at_ms)
    confirmed = seen.as_of.linearizable
    late = age_ms > 2 * interval_ms + LATE_MS
    return Picture(
        now_ms,
        cluster=seen.cluster_id,
        health=health(seen),
        up=sum(is_well(node) for node in seen.nodes),
        spare=sum(bool(node.role) and not node.silent for node in seen.nodes) - seen.quorum,
        leader=f"node-{seen.leader_id}" if seen.leader_id else "",
        term=seen.term,
        index=seen.commit_index,
        rate=answers.rate,
        age_ms=age_ms,
        stale=bool(known.trouble) or late or not confirmed,
        source="" if confirmed else seen.as_of.node,
        trouble=known.trouble,
        hosts=tuple(_host(node) for node in seen.nodes),
        guests=tuple(_guest(vm, answers.at_ms) for vm in answers.vms),
        happenings=happenings,
        deaf=known.deaf,
    )


def entries_per_s(before: Answers | None, after: Answers) -> float | None:
    """How fast the log grew between two answers. None if the later one begins anew."""
    if before is None or before.status.cluster_id != after.status.cluster_id:
        return None
    grown = after.status.commit_index - before.status.commit_index
    elapsed_ms = after.at_ms - before.at_ms
    return grown * 1000 / elapsed_ms if grown >= 0 and elapsed_ms > 0 else None


def is_as_wanted(vm: "pb.Vm") -> bool:
    """Whether nobody needs to look at it: it is what it is to be, and its guest does not fail."""
    return vm.state == vm.wanted and not vm.remark and vm.health.state != "failing"


def ordered(guests: Sequence[Guest], sort: str) -> list[Guest]:
    """Those that are not as wanted first, the failed among them before the others."""

    def rank(guest: Guest) -> tuple[int, int | str, str]:
        urgency = 2 if guest.as_wanted else 0 if guest.color == "red" else 1
        by: dict[str, int | str] = {
            "name": guest.name,
            "state": guest.state,
            "node": guest.node,
            "since": -guest.since_ms,
            "memory": -guest.memory_mib,
        }
        return urgency, by[sort], guest.name

    return sorted(guests, key=rank)


def _host(node: "pb.Node") -> Host:
    state = "silent" if node.silent and node.state == "up" else node.state
    note = node_note(node) or harmless(node.drain.reason).replace("\n", " ")
    return Host(
        name=node.name,
        state=state,
        role=node.role or "-",
        lease=lease_left(node),
        vcpus=node.vcpus,
        vcpus_reserved=node.vcpus_reserved,
        memory_mib=node.memory_mib,
        memory_reserved_mib=node.memory_reserved_mib,
        vms=node.vms,
        note=note,
        color=_NODE_COLORS.get(state, "yellow"),
    )


def _guest(vm: "pb.Vm", at_ms: int) -> Guest:
    failing = vm.health.state == "failing"
    note = f"guest fails: {first_line(vm.health.text)}" if failing else vm_note(vm)
    color = STATE_COLORS.get(vm.state, "yellow")
    return Guest(
        name=vm.name,
        state=vm.state,
        node=vm.node or "-",
        vcpus=vm.vcpus,
        memory_mib=vm.memory_mib,
        since_ms=vm.since_ms,
        since=age(vm.since_ms, at_ms),
        note=note,
        as_wanted=is_as_wanted(vm),
        color="yellow" if failing and color == "green" else color,
    )


def _happening(event: "pb.Event") -> Happening:
    by = f" ({harmless(event.actor)})" if event.actor else ""
    text = harmless(event.text).replace("\n", " ") + by
    return Happening(event.at_ms, event.subject, event.node, text, event.grave)
