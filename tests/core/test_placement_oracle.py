"""`Planner.place` against brute force: every rule, on clusters small enough to try every node.

The oracle knows nothing of the rooms and counters of `machine.rules`. It looks at the VMs one by
one, as the documentation of each rule says it.
"""

import os
import random
from dataclasses import replace

import pytest

from blixard import machine
from blixard.commands import Entry, PlaceVm
from blixard.machine import rules
from blixard.model import (
    Accepted,
    Capacity,
    Cluster,
    Drain,
    Holder,
    Membership,
    Move,
    Node,
    Readiness,
    Reason,
    Release,
    Standby,
    State,
    Vm,
    VmSpec,
    Wanted,
)
from blixard.policy import Policy, Relation, Strategy, Term
from blixard.scheduler import Planner
from blixard.source import StoreSource

CASES = int(os.environ.get("BLIXARD_CASES", "12000"))
"""How many random clusters are tried."""

SOURCE = StoreSource("/nix/store/0-vm")
GROUPS = ("red", "blue", "vm0", "vm1")
LABELS = ("node", "zone", "rack")
VALUES = ("a", "b")


def relations(chance: random.Random, likely: float) -> tuple[Relation, ...]:
    if chance.random() > likely:
        return ()
    return tuple(
        Relation(chance.choice(GROUPS), chance.choice(LABELS))
        for _ in range(chance.choice((1, 1, 2)))
    )


def policy_of(chance: random.Random) -> Policy:
    def terms(likely: float) -> tuple[Term, ...]:
        if chance.random() > likely:
            return ()
        key = chance.choice(LABELS)
        value = f"node-{chance.randint(1, 4)}" if key == "node" else chance.choice(VALUES)
        return (Term(key, value, negated=chance.random() < 0.4),)

    return Policy(
        group=chance.choice(("", "red", "blue")),
        strategy=chance.choice(list(Strategy)),
        priority=chance.randint(-2, 2),
        require=terms(0.3),
        prefer=terms(0.3),
        near=relations(chance, 0.25),
        apart=relations(chance, 0.3),
        prefer_near=relations(chance, 0.2),
        prefer_apart=relations(chance, 0.2),
    )


def node_of(chance: random.Random, node_id: int) -> Node:
    labels = {key: chance.choice(VALUES) for key in ("zone", "rack") if chance.random() < 0.7}
    return Node(
        node_id,
        f"n{node_id}:7001",
        f"m{node_id}",
        f"j{node_id}",
        chance.choice([Membership.MEMBER] * 8 + [Membership.JOINING, Membership.LEAVING]),
        incarnation=chance.choice([10 + node_id] * 9 + [0]),
        capacity=Capacity(chance.randint(1, 6), chance.randint(1, 6), chance.randint(0, 4)),
        is_down=chance.random() < 0.08,
        labels=labels,
        drain=Drain("anna", "", 0) if chance.random() < 0.08 else None,
    )


def vm_of(chance: random.Random, number: int, nodes: dict[int, Node], *, held: bool) -> Vm:
    alive = sorted(nodes)
    at = nodes[chance.choice(alive)] if held else None
    moves = at is not None and chance.random() < 0.15
    move = Move(chance.choice(alive), "anna", 0, Release(0, kill=False)) if moves else None
    return Vm(
        name=f"vm{number}",
        uid=500 + number,
        spec=VmSpec(SOURCE, chance.randint(1, 3), chance.randint(1, 3), chance.choice((0, 0, 1))),
        wanted=Wanted.RUNNING,
        state=State.RUNNING if held else State.PENDING,
        reason=Reason("", ""),
        since_ms=0,
        created_ms=0,
        holder=Holder(at.node_id, at.incarnation, 600 + number) if at is not None else None,
        policy=policy_of(chance),
        move=move if move is not None and at is not None and move.to != at.node_id else None,
        runner="/nix/store/0-runner",
        last_node=chance.choice([None, *alive]),
        failed_on=chance.choice([None, *alive]),
        volumes=chance.choice([(), (), (), ("data.img",), None]),
        standby=Standby(alive[0], nodes[alive[0]].incarnation, Readiness.BUILT)
        if chance.random() < 0.3
        else None,
    )


def case(seed: int) -> tuple[Cluster, Vm, frozenset[int]]:
    chance = random.Random(seed)
    nodes = {i: node_of(chance, i) for i in range(1, chance.randint(1, 4) + 1)}
    vms = [vm_of(chance, n, nodes, held=chance.random() < 0.9) for n in range(chance.randint(0, 5))]
    waiting = vm_of(chance, 9, nodes, held=False)
    silent = frozenset(i for i in nodes if chance.random() < 0.08)
    return Cluster(vms={vm.name: vm for vm in (*vms, waiting)}, nodes=nodes), waiting, silent


# --- the oracle -----------------------------------------------------------------------------------


def value(node: Node, label: str) -> str | None:
    return f"node-{node.node_id}" if label == "node" else node.labels.get(label)


def is_in(vm: Vm, group: str) -> bool:
    return group in (vm.name, vm.policy.group)


def homes(cluster: Cluster, vm: Vm) -> list[Node]:
    ids = {vm.holder.node_id} if vm.holder is not None else set()
    if vm.move is not None:
        ids.add(vm.move.to)
    return [cluster.nodes[i] for i in ids]


def can_run(cluster: Cluster, vm: Vm, node: Node) -> bool:
    """Whether a VM that is nowhere could run on a node."""
    others = [other for other in cluster.vms.values() if other.name != vm.name]
    here = [other for other in others if node in homes(cluster, other)]
    alive = node.membership is Membership.MEMBER and node.incarnation and not node.is_down
    if not alive or node.drain is not None:
        return False
    if vm.volumes != () and vm.last_node not in (None, node.node_id):
        return False
    for resource in ("vcpus", "memory_mib", "disk_mib"):
        taken = sum(getattr(other.spec, resource) for other in here)
        wanted = getattr(vm.spec, resource)
        if wanted and taken + wanted > getattr(node.capacity, resource):
            return False
    for term in vm.policy.require:
        if (value(node, term.key) == term.value) == term.negated:
            return False
    return _relations_hold(cluster, vm, node, others)


def _relations_hold(cluster: Cluster, vm: Vm, node: Node, others: list[Vm]) -> bool:
    def beside(other: Vm, label: str) -> bool:
        mine = value(node, label)
        return mine is not None and any(value(h, label) == mine for h in homes(cluster, other))

    for near in vm.policy.near:
        members = [other for other in others if is_in(other, near.group)]
        placed = [m for m in members if any(value(h, near.label) for h in homes(cluster, m))]
        if value(node, near.label) is None:
            return False
        if not any(beside(member, near.label) for member in placed) and (
            placed or not is_in(vm, near.group)
        ):
            return False
    for apart in vm.policy.apart:
        if value(node, apart.label) is None:
            return False
        if any(beside(other, apart.label) for other in others if is_in(other, apart.group)):
            return False
    return not any(
        is_in(vm, objection.group) and beside(other, objection.label)
        for other in others
        for objection in other.policy.apart
    )


def possible(cluster: Cluster, vm: Vm, silent: frozenset[int]) -> set[int]:
    return {
        node.node_id
        for node in cluster.nodes.values()
        if node.node_id not in silent and can_run(cluster, vm, node)
    }


def disagreement(seed: int) -> str:
    """How the scheduler differs from the oracle in one case; empty if it does not."""
    cluster, vm, silent = case(seed)
    nodes = possible(cluster, vm, silent)
    planner = Planner(cluster, silent)
    chosen = planner.place(vm).node_id
    if (chosen is None) != (not nodes) or (chosen is not None and chosen not in nodes):
        return f"seed {seed}: it chose {chosen}, possible are {sorted(nodes)}"
    verdicts = planner.verdicts(vm)
    if {verdict.node_id for verdict in verdicts if verdict.rank} != nodes:
        return f"seed {seed}: verdicts {verdicts}, possible are {sorted(nodes)}"
    if chosen is not None and verdicts[0].node_id != chosen:
        return f"seed {seed}: it chose {chosen}, and told {verdicts[0].node_id}"
    for node in cluster.nodes.values():
        command = PlaceVm(vm.name, vm.uid, node.node_id, node.incarnation)
        _, outcome = machine.apply(cluster, 1_000, Entry(command, 0))
        if isinstance(outcome, Accepted) != can_run(cluster, vm, node):
            return f"seed {seed}: the law says {outcome} of {node.name}"
    return ""


def test_a_placement_is_found_exactly_when_one_exists() -> None:
    found = [seed for seed in range(CASES) if disagreement(seed)]
    assert not found, disagreement(found[0])


def test_the_cases_are_worth_it() -> None:
    """Each rule decides often, and often a placement exists, and often none."""
    refused: dict[str, int] = {}
    placed = 0
    for seed in range(1_000):
        cluster, vm, silent = case(seed)
        planner = Planner(cluster, silent)
        placed += planner.place(vm).node_id is not None
        for verdict in planner.verdicts(vm):
            if len({one.rule for one in verdict.refusals}) == 1:
                rule = verdict.refusals[0].rule
                refused[rule] = refused.get(rule, 0) + 1
    assert 150 < placed < 850
    assert set(refused) == {"alive", "drain", "tie", "fit", "require", "near", "apart"}
    assert min(refused.values()) > 10, refused


@pytest.mark.parametrize("rule", ["_relations", "_labels", "misfits", "_of_the_node"])
def test_the_oracle_notices_a_missing_rule(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, rule, lambda *_: iter(()))
    if rule == "misfits":
        monkeypatch.setattr(rules.Room, "fits", lambda *_: True)
    assert any(disagreement(seed) for seed in range(500))


def test_choices_in_a_row_reckon_with_one_another() -> None:
    """What was taken is as if it were in the state."""
    for seed in range(500):
        cluster, _, silent = case(seed)
        planner = Planner(cluster, silent)
        for other in sorted(cluster.vms.values(), key=lambda one: one.name):
            if other.holder is not None:
                continue
            chosen = planner.place(other).node_id
            assert (chosen is None) == (not possible(cluster, other, silent)), seed
            if chosen is None:
                continue
            planner.take(other, chosen)
            holder = Holder(chosen, cluster.nodes[chosen].incarnation, 900)
            held = replace(other, holder=holder, state=State.STARTING)
            cluster = replace(cluster, vms={**cluster.vms, other.name: held})
