"""The choice of a host for one VM after the other, in one state of the cluster.

The rules of the law (`machine.rules`) say which nodes can run a VM. Of those, the first in this
order is chosen: the node that a move named; one on which the VM has not just failed; the one that
fulfils most wishes (`prefer`, `prefer_near`, `prefer_apart`); the one that ran it last; the one
that has built it ahead; the one with most of its memory free, or with least (`Strategy`); the one
with the lowest id.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from blixard.machine.rules import (
    Refusal,
    Room,
    groups_of,
    on_its_own,
    refusals,
    takes_vms,
    value_of,
)
from blixard.model import Cluster, Node, Readiness, Standby, Vm
from blixard.policy import Relation, Strategy, Term

TOLD_UP_TO: Final = 10
"""In a cluster of so many nodes, what was decided of each is put on record."""

_WHOLE: Final = 1_000_000
"""Shares of memory are whole numbers, in parts of this."""

NOBODY: Final[frozenset[int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Choice:
    """A host for a VM, or none, and why: a line for the choice, then one for each other node."""

    node_id: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say of one node."""

    node_id: int
    rank: int
    """1 for the node that is chosen first; 0 if it cannot be chosen."""
    refusals: tuple[Refusal, ...]
    merits: tuple[tuple[str, str], ...]
    """What makes it better or worse than others: rules and what they say, the weightiest first."""


class Planner:
    """Chooses hosts. `take` tells it what was chosen, so that the next choice reckons with it.

    Nodes in `silent` are passed over: the leader does not hear from them.
    """

    def __init__(self, cluster: Cluster, silent: frozenset[int] = NOBODY) -> None:
        self._cluster = cluster
        self._nodes = cluster.nodes
        self.silent = silent
        self.open = {
            node_id: node
            for node_id, node in sorted(cluster.nodes.items())
            if takes_vms(node, node.incarnation) and node.drain is None and node_id not in silent
        }
        """The nodes that take VMs at all."""
        self._orders: dict[Strategy, list[tuple[int, int]]] = {}
        self._hopeless: dict[object, str] = {}

    @cached_property
    def _room(self) -> Room:
        """Counted only when something is to be chosen: a leader mostly has nothing to do."""
        return Room(self._cluster)

    @cached_property
    def _shares(self) -> dict[int, int]:
        return {node_id: self._share(node_id) for node_id in self.open}

    def place(self, vm: Vm, besides: frozenset[int] = NOBODY) -> Choice:
        """The best node for a VM, none of those in `besides`."""
        policy, spec = vm.policy, vm.spec
        plain = vm.tied_to is None and not policy.near and not policy.apart
        plain = plain and not any(self._room.apart_from[group] > 0 for group in groups_of(vm))
        asked = (spec.vcpus, spec.memory_mib, spec.disk_mib, policy, besides) if plain else vm
        if asked in self._hopeless:
            return Choice(None, self._hopeless[asked])
        at = self._room.lift(vm)
        chosen = self._best(vm, besides)
        why = self._reasons(vm, chosen, besides)
        if at:
            self._room.take(vm, at)
        if chosen is None:
            self._hopeless[asked] = why
        return Choice(chosen, why)

    def take(self, vm: Vm, node_id: int) -> None:
        """From now on the VM takes from this node alone."""
        self.lift(vm)
        self._room.take(vm, (node_id,))
        self._changed({node_id})

    def lift(self, vm: Vm) -> None:
        """From now on the VM takes from no node."""
        self._changed(set(self._room.lift(vm)))

    def _changed(self, nodes: set[int]) -> None:
        self._hopeless.clear()
        for node_id in nodes & self._shares.keys():
            self._reorder(node_id)

    def refusals(self, vm: Vm, node: Node) -> tuple[Refusal, ...]:
        """Why a VM cannot run on a node."""
        at = self._room.lift(vm)
        found = tuple(refusals(self._room, vm, node))
        if at:
            self._room.take(vm, at)
        if node.node_id in self.silent and all(one.rule != "alive" for one in found):
            found = (Refusal("alive", "does not answer"), *found)
        return found

    def verdicts(self, vm: Vm) -> list[Verdict]:
        """What the rules say of every node, the best first."""
        found = {node_id: self.refusals(vm, node) for node_id, node in self._nodes.items()}
        at = self._room.lift(vm)
        fitting = sorted((i for i in found if not found[i]), key=lambda i: self._rank(vm, i))
        merits = {node_id: tuple(self._merits(vm, node_id)) for node_id in found}
        if at:
            self._room.take(vm, at)
        ordered = [*fitting, *sorted(i for i in found if found[i])]
        return [
            Verdict(i, 0 if found[i] else fitting.index(i) + 1, found[i], merits[i])
            for i in ordered
        ]

    # --- the order ------------------------------------------------------------------------------

    def _best(self, vm: Vm, besides: frozenset[int]) -> int | None:
        """The first in the order that no rule refuses. Where no wish is to be weighed, the nodes
        that come first for this VM are tried, then the others by their free memory."""
        policy = vm.policy
        if policy.prefer or policy.prefer_near or policy.prefer_apart:
            fitting = [i for i in self.open if i not in besides and self._suits(vm, i)]
            return min(fitting, key=lambda i: self._rank(vm, i), default=None)
        standby = vm.standby.node_id if vm.standby is not None else None
        first = [vm.moves_to]
        first += [i for i in (vm.last_node, standby) if i != vm.failed_on and self._favours(vm, i)]
        for node_id in first:
            if node_id in self.open and node_id not in besides and self._suits(vm, node_id):
                return node_id
        for _, node_id in self._order(policy.strategy):
            if node_id == vm.failed_on or node_id in besides:
                continue
            if self._suits(vm, node_id):
                return node_id
        last = vm.failed_on
        suits = last in self.open and last not in besides and self._suits(vm, last)
        return last if suits else None

    def _suits(self, vm: Vm, node_id: int) -> bool:
        return self._room.fits(vm, node_id) and not any(
            True for _ in refusals(self._room, vm, self._nodes[node_id])
        )

    def _favours(self, vm: Vm, node_id: int | None) -> bool:
        node = self._nodes.get(node_id) if node_id is not None else None
        return node is not None and (
            node_id == vm.last_node
            or vm.standby == Standby(node.node_id, node.incarnation, Readiness.BUILT)
        )

    def _rank(self, vm: Vm, node_id: int) -> tuple[bool, bool, int, bool, bool, int, int]:
        node = self._nodes[node_id]
        return (
            vm.moves_to != node_id,
            node_id == vm.failed_on,
            -sum(fulfilled for _, _, fulfilled in self._wishes(vm, node)),
            node_id != vm.last_node,
            vm.standby != Standby(node_id, node.incarnation, Readiness.BUILT),
            self._weight(vm.policy.strategy, self._share(node_id)),
            node_id,
        )

    def _wishes(self, vm: Vm, node: Node) -> Iterator[tuple[str, Term | Relation, bool]]:
        policy = vm.policy
        for term in policy.prefer:
            yield "prefer", term, (value_of(node, term.key) == term.value) != term.negated
        for rule, relations in (
            ("prefer-near", policy.prefer_near),
            ("prefer-apart", policy.prefer_apart),
        ):
            for relation in relations:
                value = value_of(node, relation.label)
                present = self._room.neighbours(relation.label).present
                has = value is not None and present[value, relation.group] > 0
                yield rule, relation, has == (rule == "prefer-near") and value is not None

    def _merits(self, vm: Vm, node_id: int) -> Iterator[tuple[str, str]]:
        node = self._nodes[node_id]
        if vm.move is not None and vm.moves_to == node_id:
            yield "move", f"named by {vm.move.by}"
        if node_id == vm.failed_on:
            yield "failed", f"{vm.name} failed here last"
        for rule, wish, fulfilled in self._wishes(vm, node):
            yield rule, f"{wish} {'holds' if fulfilled else 'does not hold'}"
        if node_id == vm.last_node:
            yield "last", f"{vm.name} ran here last"
        if vm.standby is not None and vm.standby.node_id == node_id:
            yield "standby", f"has {vm.name} {vm.standby.readiness.value}"
        free = self._room.free(node_id)
        told = f"{free.memory_mib} of {node.capacity.memory_mib} MiB free"
        yield vm.policy.strategy.value, told

    # --- free memory ----------------------------------------------------------------------------

    def _share(self, node_id: int) -> int:
        total = self._nodes[node_id].capacity.memory_mib
        return self._room.free(node_id).memory_mib * _WHOLE // total if total else 0

    def _weight(self, strategy: Strategy, share: int) -> int:
        return -share if strategy is Strategy.SPREAD else share

    def _order(self, strategy: Strategy) -> list[tuple[int, int]]:
        known = self._orders.get(strategy)
        if known is None:
            known = sorted((self._weight(strategy, s), i) for i, s in self._shares.items())
            self._orders[strategy] = known
        return known

    def _reorder(self, node_id: int) -> None:
        before, after = self._shares[node_id], self._share(node_id)
        self._shares[node_id] = after
        for strategy, order in self._orders.items():
            del order[bisect_left(order, (self._weight(strategy, before), node_id))]
            insort(order, (self._weight(strategy, after), node_id))

    # --- in words -------------------------------------------------------------------------------

    def _reasons(self, vm: Vm, chosen: int | None, besides: frozenset[int]) -> str:
        """Why this node, or why none. Of many nodes, only how many each rule refuses."""
        if not self._nodes:
            return "no node has registered"
        if chosen is not None and len(self._nodes) > TOLD_UP_TO:
            return self._headline(vm, chosen)
        told = {i: self._first_refusal(vm, i) for i in sorted(self._nodes) if i not in besides}
        if chosen is None and len(self._nodes) <= TOLD_UP_TO:
            return "; ".join(f"node-{i}: {refusal.text}" for i, refusal in told.items() if refusal)
        if chosen is None:
            rules = Counter(refusal.rule for refusal in told.values() if refusal)
            return "; ".join(f"{rule}: {number} nodes" for rule, number in rules.most_common())
        lines = [
            f"node-{i}: {refusal.text if refusal else self._merit(vm, i)}"
            for i, refusal in told.items()
            if i != chosen
        ]
        return "\n".join([self._headline(vm, chosen), *lines])

    def _first_refusal(self, vm: Vm, node_id: int) -> Refusal | None:
        node = self._nodes[node_id]
        if node_id in self.silent and takes_vms(node, node.incarnation):
            tied = [one for one in on_its_own(vm, node) if one.rule == "tie"]
            return tied[0] if tied else Refusal("alive", "does not answer")
        return next(refusals(self._room, vm, node), None)

    def _headline(self, vm: Vm, chosen: int) -> str:
        return f"node-{chosen}: {self._merit(vm, chosen)}"

    def _merit(self, vm: Vm, node_id: int) -> str:
        return ", ".join(text for _, text in self._merits(vm, node_id))
