"""The rules that say which node can run a VM.

Each has a name, and says in words why it refuses. They are law: the leader heeds them when it
chooses, and a choice that the state has overtaken is rejected by them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from blixard.model import Capacity, Cluster, Membership, Node, Vm
from blixard.policy import NODE_LABEL, Policy, Relation


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a VM cannot run on a node, and the rule that says so."""

    rule: str
    text: str


def takes_vms(node: Node, incarnation: int) -> bool:
    """Whether this life of a node is alive, and a member's."""
    return (
        node.membership is Membership.MEMBER
        and node.incarnation == incarnation
        and incarnation > 0
        and not node.is_down
    )


def places(vm: Vm) -> tuple[int, ...]:
    """From which nodes a VM takes: the one that holds it, and the one it is about to move to."""
    held = () if vm.holder is None else (vm.holder.node_id,)
    to = vm.moves_to
    return held if to is None or to in held else (*held, to)


def value_of(node: Node, label: str) -> str | None:
    """What a label of a node says; None if it has none of that name."""
    return node.name if label == NODE_LABEL else node.labels.get(label)


def groups_of(vm: Vm) -> tuple[str, ...]:
    """By which names others can be near it, or apart from it."""
    return (vm.name, vm.policy.group) if vm.policy.group else (vm.name,)


@dataclass(slots=True)
class _Neighbours:
    """Who is on the nodes that have a label, by what it says there."""

    present: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many VMs of a group: by the label's value and the group."""
    objections: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many VMs that are to be apart from a group."""


class Room:
    """What the VMs of a state take of each node, and who is beside whom."""

    def __init__(self, cluster: Cluster) -> None:
        self._nodes = cluster.nodes
        self._at: dict[str, tuple[Vm, tuple[int, ...]]] = {}
        self._taken = {node_id: [0, 0, 0] for node_id in cluster.nodes}
        self._neighbours: dict[str, _Neighbours] = {}
        self.apart_by: Counter[str] = Counter()
        """By which labels VMs here are to be apart from others."""
        self.apart_from: Counter[str] = Counter()
        """From whom: names of groups and VMs."""
        for vm in cluster.vms.values():
            at = places(vm)
            if at:
                self.take(vm, at)

    def free(self, node_id: int) -> Capacity:
        """What is left on a node."""
        total = self._nodes[node_id].capacity
        vcpus, memory_mib, disk_mib = self._taken[node_id]
        return Capacity(
            total.vcpus - vcpus, total.memory_mib - memory_mib, total.disk_mib - disk_mib
        )

    def fits(self, vm: Vm, node_id: int) -> bool:
        """Whether what is left on a node is enough."""
        total, spec = self._nodes[node_id].capacity, vm.spec
        vcpus, memory_mib, disk_mib = self._taken[node_id]
        return (
            spec.memory_mib <= total.memory_mib - memory_mib
            and spec.vcpus <= total.vcpus - vcpus
            and (not spec.disk_mib or spec.disk_mib <= total.disk_mib - disk_mib)
        )

    def take(self, vm: Vm, at: tuple[int, ...]) -> None:
        """Note that a VM takes from these nodes."""
        self._at[vm.name] = vm, at
        self._count(vm, at, 1)

    def lift(self, vm: Vm) -> tuple[int, ...]:
        """Note that a VM takes from no node; returns from which it took."""
        known = self._at.pop(vm.name, None)
        if known is None:
            return ()
        self._count(*known, -1)
        return known[1]

    def neighbours(self, label: str) -> _Neighbours:
        """Who is on the nodes that have a label."""
        known = self._neighbours.get(label)
        if known is None:
            known = self._neighbours[label] = _Neighbours()
            for vm, at in self._at.values():
                self._introduce(label, known, vm, at, 1)
        return known

    def _count(self, vm: Vm, at: tuple[int, ...], sign: int) -> None:
        spec = vm.spec
        for node_id in at:
            taken = self._taken.get(node_id)
            if taken is not None:
                taken[0] += sign * spec.vcpus
                taken[1] += sign * spec.memory_mib
                taken[2] += sign * spec.disk_mib
        for relation in vm.policy.apart:
            self.apart_by[relation.label] += sign
            self.apart_from[relation.group] += sign
        for label, known in self._neighbours.items():
            self._introduce(label, known, vm, at, sign)

    def _introduce(
        self, label: str, known: _Neighbours, vm: Vm, at: tuple[int, ...], sign: int
    ) -> None:
        for node_id in at:
            node = self._nodes.get(node_id)
            value = value_of(node, label) if node is not None else None
            if value is None:
                continue
            for group in groups_of(vm):
                known.present[value, group] += sign
            for relation in vm.policy.apart:
                if relation.label == label:
                    known.objections[value, relation.group] += sign


def refusals(room: Room, vm: Vm, node: Node) -> Iterator[Refusal]:
    """Why a VM cannot run on a node, as far as the log knows. The VM itself takes from no node in
    `room`."""
    yield from on_its_own(vm, node)
    yield from _relations(room, vm, node)
    yield from misfits(vm, node, room.free(node.node_id))


def on_its_own(vm: Vm, node: Node) -> Iterator[Refusal]:
    """Why a VM could not even run on a node that is empty."""
    yield from _of_the_node(node)
    if vm.tied_to not in (None, node.node_id):
        yield Refusal("tie", f"{vm.name} is tied to node-{vm.tied_to} ({vm.tie})")
    yield from _labels(vm.policy, node)


def _of_the_node(node: Node) -> Iterator[Refusal]:
    if node.membership is not Membership.MEMBER:
        yield Refusal("alive", f"is {node.membership.value}")
    elif node.incarnation == 0:
        yield Refusal("alive", "has not registered")
    elif node.is_down:
        yield Refusal("alive", "is down")
    if node.drain is not None:
        reason = f': "{node.drain.reason}"' if node.drain.reason else ""
        yield Refusal("drain", f"is drained by {node.drain.by}{reason}")


def misfits(vm: Vm, node: Node, free: Capacity) -> Iterator[Refusal]:
    """What a node has too little of."""
    total, spec = node.capacity, vm.spec
    for wanted, left, most, unit in (
        (spec.vcpus, free.vcpus, total.vcpus, "vCPUs"),
        (spec.memory_mib, free.memory_mib, total.memory_mib, "MiB"),
        (spec.disk_mib, free.disk_mib, total.disk_mib, "MiB of disk"),
    ):
        if wanted > left and wanted > 0:
            yield Refusal("fit", f"{max(left, 0)} of {most} {unit} free, {wanted} wanted")


def _labels(policy: Policy, node: Node) -> Iterator[Refusal]:
    for term in policy.require:
        value = value_of(node, term.key)
        if (value == term.value) == term.negated:
            said = f"has {term.key}={value}" if value is not None else f"has no label {term.key}"
            yield Refusal("require", f"{said}, and {term} is required")


def _relations(room: Room, vm: Vm, node: Node) -> Iterator[Refusal]:
    for relation in vm.policy.near:
        yield from _near(room, vm, node, relation)
    for relation in vm.policy.apart:
        value = value_of(node, relation.label)
        if value is None:
            yield Refusal("apart", f"has no label {relation.label}, by which {vm.name} is apart")
        elif room.neighbours(relation.label).present[value, relation.group] > 0:
            yield Refusal("apart", f"{_where(relation, value)} has {relation.group}")
    for label in sorted(room.apart_by):
        value = value_of(node, label) if room.apart_by[label] else None
        objections = room.neighbours(label).objections if value is not None else None
        for group in groups_of(vm):
            if value is not None and objections is not None and objections[value, group] > 0:
                where = _where(Relation(group, label), value)
                yield Refusal("apart", f"{where} has a VM that is to be apart from {group}")


def _near(room: Room, vm: Vm, node: Node, relation: Relation) -> Iterator[Refusal]:
    """A VM that is near its own group may be the first of it."""
    present = room.neighbours(relation.label).present
    value = value_of(node, relation.label)
    if value is None:
        yield Refusal("near", f"has no label {relation.label}, by which {vm.name} is near")
    elif present[value, relation.group] <= 0:
        first = relation.group in groups_of(vm) and not any(
            number > 0 for (_, group), number in present.items() if group == relation.group
        )
        if not first:
            yield Refusal("near", f"{_where(relation, value)} does not have {relation.group}")


def _where(relation: Relation, value: str) -> str:
    return value if relation.label == NODE_LABEL else f"{relation.label}={value}"


def free_capacity(cluster: Cluster, node_id: int, besides: str = "") -> Capacity:
    """What is left on one node, without counting all the others; as if the VM named `besides` took
    nothing."""
    total = cluster.nodes[node_id].capacity
    specs = [vm.spec for vm in cluster.vms.values() if vm.name != besides and node_id in places(vm)]
    return Capacity(
        vcpus=total.vcpus - sum(spec.vcpus for spec in specs),
        memory_mib=total.memory_mib - sum(spec.memory_mib for spec in specs),
        disk_mib=total.disk_mib - sum(spec.disk_mib for spec in specs),
    )


def related(cluster: Cluster, vm: Vm, node: Node) -> Iterator[Refusal]:
    """What other VMs have against a VM's being on a node, or it against them."""
    policy = vm.policy
    if policy.near or policy.apart or any(other.policy.apart for other in cluster.vms.values()):
        room = Room(cluster)
        room.lift(vm)
        yield from _relations(room, vm, node)


def contradiction(policy: Policy) -> str:
    """Why no node could ever fulfil these constraints; empty if one could."""
    wanted: dict[str, str] = {}
    for term in policy.require:
        if not term.negated and wanted.setdefault(term.key, term.value) != term.value:
            return f"require: {term.key} cannot be {wanted[term.key]} and {term.value}"
    for term in policy.require:
        if term.negated and wanted.get(term.key) == term.value:
            return f"require: {term} contradicts {term.key}={term.value}"
    for relation in policy.near:
        if relation in policy.apart:
            return f"near {relation} contradicts apart {relation}"
        if Relation(relation.group) in policy.near and relation in policy.apart:
            return f"near {relation.group} contradicts apart {relation}"
    return ""
