"""Which of several nodes is chosen, and what is said of it. Whether there is one at all:
`test_placement_oracle`."""

from dataclasses import replace
from typing import Any

import pytest

from blixard.decide import leader
from blixard.machine import rules
from blixard.model import (
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
from blixard.scheduler import Planner, drain, exposures
from blixard.source import StoreSource

SOURCE = StoreSource("/nix/store/0-vm")
MEMBER = Membership.MEMBER

EIGHT = Capacity(8, 8)


def node(node_id: int, capacity: Capacity = EIGHT, **changes: Any) -> Node:
    known = Node(node_id, f"n{node_id}:7001", f"m{node_id}", f"j{node_id}", MEMBER, 10 + node_id)
    return replace(known, capacity=capacity, **changes)


def vm(name: str, on: int | None = None, size: int = 1, **changes: Any) -> Vm:
    holder = Holder(on, 10 + on, 600) if on is not None else None
    known = Vm(
        name=name,
        uid=500,
        spec=VmSpec(SOURCE, size, size),
        wanted=Wanted.RUNNING,
        state=State.RUNNING if on is not None else State.PENDING,
        reason=Reason("", ""),
        since_ms=0,
        created_ms=0,
        holder=holder,
        runner="/nix/store/0-runner",
        volumes=(),
        last_node=on,
    )
    return replace(known, **changes)


def cluster(*parts: Node | Vm) -> Cluster:
    return Cluster(
        vms={one.name: one for one in parts if isinstance(one, Vm)},
        nodes={one.node_id: one for one in parts if isinstance(one, Node)},
    )


BUILT = Readiness.BUILT
ZONES = [node(i, labels={"zone": zone}) for i, zone in ((1, "a"), (2, "a"), (3, "b"))]
TO_3 = Move(3, "anna", 0, Release(0, kill=False))
PREFERS_B = Policy(prefer=(Term("zone", "b"),))


@pytest.mark.parametrize(
    ("waiting", "others", "chosen"),
    [
        (vm("x"), [], 1),
        (vm("x"), [vm("a", 1)], 2),
        (vm("x", policy=Policy(strategy=Strategy.PACK)), [vm("a", 2)], 2),
        (vm("x", policy=Policy(strategy=Strategy.PACK)), [vm("a", 2, size=8)], 1),
        (vm("x", last_node=2), [vm("a", 2)], 2),
        (vm("x", last_node=2, failed_on=2), [], 1),
        (vm("x", failed_on=1), [vm("a", 2, size=7), vm("b", 3, size=6)], 3),
        (vm("x", size=3, failed_on=1), [vm("a", 2, size=7), vm("b", 3, size=7)], 1),
        (vm("x", standby=Standby(3, 13, BUILT)), [vm("a", 3)], 3),
        (vm("x", standby=Standby(3, 13)), [vm("a", 3)], 1),
        (vm("x", standby=Standby(3, 12, BUILT)), [vm("a", 3)], 1),
        (vm("x", last_node=1, standby=Standby(3, 13, BUILT)), [], 1),
        (vm("x", last_node=1, move=TO_3), [vm("a", 3)], 3),
        (vm("x", last_node=1, failed_on=3, move=TO_3), [], 3),
        (vm("x", policy=PREFERS_B), [vm("a", 3)], 3),
        (vm("x", policy=PREFERS_B, failed_on=3), [], 1),
        (vm("x", policy=PREFERS_B, last_node=1), [], 3),
        (vm("x", policy=PREFERS_B, last_node=1, move=replace(TO_3, to=2)), [], 2),
        (vm("x", policy=Policy(prefer_near=(Relation("a"),))), [vm("a", 2)], 2),
        (vm("x", policy=Policy(prefer_near=(Relation("a", "zone"),))), [vm("a", 2)], 1),
        (vm("x", policy=Policy(prefer_apart=(Relation("a", "zone"),))), [vm("a", 2)], 3),
        (vm("x", policy=Policy(apart=(Relation("a", "zone"),))), [vm("a", 2)], 3),
        (vm("x", policy=Policy(near=(Relation("a", "zone"),))), [vm("a", 2)], 1),
        (vm("x"), [vm("a", 1, policy=Policy(apart=(Relation("x"),)))], 2),
        (vm("x"), [vm("a", 2, move=replace(TO_3, to=1))], 3),
    ],
)
def test_the_best_node(waiting: Vm, others: list[Vm], chosen: int) -> None:
    state = cluster(*ZONES, *others, waiting)
    planner = Planner(state)
    assert planner.place(waiting).node_id == chosen
    assert [one.node_id for one in planner.verdicts(waiting) if one.rank == 1] == [chosen]
    backwards = replace(state, nodes=dict(reversed(list(state.nodes.items()))))
    assert Planner(backwards).place(waiting) == planner.place(waiting)


def test_every_refusal_in_words() -> None:
    small = Capacity(2, 2)
    waiting = vm("vm1", size=3, policy=Policy(require=(Term("zone", "a"),)))
    in_a: dict[str, Any] = {"labels": {"zone": "a"}}
    state = cluster(
        node(1, small, membership=Membership.JOINING),
        node(2, small, membership=Membership.LEAVING),
        node(3, incarnation=0),
        node(4, **in_a),
        node(5, Capacity(2, 9), **in_a),
        node(6, Capacity(9, 5), **in_a),
        node(7, is_down=True),
        node(8, labels={"zone": "b"}),
        node(9),
        node(10, drain=Drain("anna@desk", "kernel update", 0)),
        vm("vm2", 6, size=4),
        waiting,
    )
    choice = Planner(state, frozenset({4})).place(waiting)
    assert choice.node_id is None
    assert choice.why.split("; ") == [
        "node-1: is joining",
        "node-2: is leaving",
        "node-3: has not registered",
        "node-4: does not answer",
        "node-5: 2 of 2 vCPUs free, 3 wanted",
        "node-6: 1 of 5 MiB free, 3 wanted",
        "node-7: is down",
        "node-8: has zone=b, and zone=a is required",
        "node-9: has no label zone, and zone=a is required",
        'node-10: is drained by anna@desk: "kernel update"',
    ]
    tied = replace(waiting, last_node=7, volumes=("data.img",))
    told = Planner(state).place(tied).why
    assert "node-6: vm1 is tied to node-7 (its volumes are there: data.img)" in told
    assert Planner(Cluster()).place(waiting).why == "no node has registered"


def test_relations_in_words() -> None:
    apart = Policy(group="web", apart=(Relation("web", "zone"),))
    near = Policy(near=(Relation("db"),))
    state = cluster(*ZONES, node(4), vm("w1", 1, policy=apart), vm("w2", 3, policy=apart))
    assert Planner(state).place(vm("w3", policy=apart)).why == (
        "node-1: zone=a has web; node-2: zone=a has web; node-3: zone=b has web; "
        "node-4: has no label zone, by which w3 is apart"
    )
    shy = vm("x", policy=Policy(group="web"))
    refused = Planner(state).verdicts(shy)[-1].refusals
    assert [one.text for one in refused] == ["zone=b has a VM that is to be apart from web"]
    assert Planner(state).place(vm("x", policy=near)).why.startswith("node-1: node-1 does not have")


def test_of_many_nodes_the_rules_are_counted() -> None:
    crowd = [node(i, Capacity(1, 1)) for i in range(1, 12)]
    choice = Planner(cluster(*crowd, node(12, is_down=True))).place(vm("x", size=2))
    assert choice.why == "fit: 11 nodes; alive: 1 nodes"


def test_a_drain_is_planned_one_vm_after_the_other() -> None:
    held = [vm("b", 1, size=5), vm("a", 1, size=5), vm("tied", 1, volumes=None)]
    urgent = vm("z", 1, size=5, policy=Policy(priority=7))
    state = cluster(*ZONES, *held, urgent)
    steps = {step.vm.name: step.to for step in drain(state, 1)}
    assert steps == {"z": 2, "a": 3, "b": None, "tied": None}
    assert list(steps) == ["z", "a", "b", "tied"]


def test_what_the_loss_of_a_node_would_leave_without_a_host() -> None:
    tight = cluster(*ZONES, vm("a", 1, size=6), vm("b", 2, size=6), vm("c", 3, size=6))
    assert exposures(tight) == {1: ("a",), 2: ("b",), 3: ("c",)}
    kept = cluster(*ZONES[:1], vm("a", 1, keeps=True), vm("b", 1, volumes=None), vm("c", 1))
    assert exposures(kept) == {1: ("c",)}
    roomy = cluster(*ZONES, vm("a", 1, size=6), vm("b", 2, size=6))
    assert exposures(roomy) == {}


def test_one_vm_apart_from_another_makes_no_work_for_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a full cluster no VM has a standby, and a leader with nothing to do looks for one."""
    asked: list[str] = []

    def counted(room: Any, vm: Vm, node: Node) -> Any:
        asked.append(vm.name)
        return rules.refusals(room, vm, node)

    monkeypatch.setattr("blixard.scheduler.planner.refusals", counted)
    apart = vm("apart", 1, policy=Policy(apart=(Relation("lonely"),)))
    rest = [vm(f"vm-{n}", 1) for n in range(7)]
    full = [vm(f"full-{n}", 2, size=4) for n in range(2)]
    state = cluster(node(1), node(2), apart, *rest, *full)
    assert not list(leader.duties(state, leader.Sight(1, {1, 2})))
    assert len({name for name in asked if name.startswith("vm-")}) == 1
    lonely, other = vm("lonely"), vm("other")
    planner = Planner(cluster(node(1), apart, lonely, other))
    assert planner.place(lonely).node_id is None
    assert planner.place(other).node_id == 1, "nobody has anything against that one"
