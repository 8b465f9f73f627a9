"""`place` against an oracle that tries every node and asks the machine itself."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from blixard import machine, scheduler
from blixard.commands import (
    Entry,
    PlaceVm,
)
from blixard.model import (
    Accepted,
    Capacity,
    Cluster,
    Holder,
    Membership,
    Node,
    Readiness,
    Reason,
    Standby,
    State,
    Vm,
    VmSpec,
    Wanted,
)
from blixard.policy import Failover, Policy
from blixard.source import StoreSource

INDEX = 1000
SPECS = st.builds(
    VmSpec, st.just(StoreSource("/nix/store/0-vm")), st.integers(1, 4), st.integers(1, 4)
)


READY = Readiness.BUILT


def vm_on(number: int, spec: VmSpec, node: Node | None) -> Vm:
    held = node is not None
    return Vm(
        name=f"vm{number}",
        uid=500 + number,
        spec=spec,
        wanted=Wanted.RUNNING,
        state=State.RUNNING if held else State.PENDING,
        reason=Reason("", ""),
        since_ms=0,
        created_ms=0,
        holder=Holder(node.node_id, node.incarnation, 600 + number) if node is not None else None,
    )


@st.composite
def clusters(draw: st.DrawFn) -> tuple[Cluster, Vm, frozenset[int]]:
    ids = draw(st.lists(st.integers(1, 9), max_size=5, unique=True))
    nodes = {
        node_id: Node(
            node_id,
            f"n{node_id}:7001",
            f"m{node_id}",
            f"j{node_id}",
            draw(st.sampled_from([Membership.MEMBER, Membership.MEMBER, *Membership])),
            incarnation=draw(st.sampled_from([0, 10 + node_id, 10 + node_id])),
            capacity=Capacity(draw(st.integers(0, 8)), draw(st.integers(0, 8))),
            is_down=draw(st.sampled_from([False, False, False, True])),
        )
        for node_id in ids
    }
    alive = sorted(i for i, node in nodes.items() if node.incarnation and not node.is_down)
    vms = {}
    for number in range(draw(st.integers(0, 5)) if alive else 0):
        vm = vm_on(number, draw(SPECS), nodes[draw(st.sampled_from(alive))])
        vms[vm.name] = vm
    waiting = vm_on(9, draw(SPECS), None)
    waiting = replace(
        waiting,
        last_node=draw(st.sampled_from([None, *range(1, 10)])),
        failed_on=draw(st.sampled_from([None, *range(1, 10)])),
        standby=draw(st.sampled_from([None, *(Standby(i, 10 + i, READY) for i in ids)])),
        runner=draw(st.sampled_from([None, "/nix/store/0-runner"])),
        volumes=draw(st.sampled_from([None, (), (), ("data.img",)])),
        policy=Policy(failover=draw(st.sampled_from(Failover))),
    )
    silent = draw(st.frozensets(st.integers(1, 9), max_size=2))
    return Cluster(vms={**vms, waiting.name: waiting}, nodes=nodes), waiting, silent


def would_be_accepted(cluster: Cluster, vm: Vm, node: Node) -> bool:
    command = PlaceVm(vm.name, vm.uid, node.node_id, node.incarnation)
    _, outcome = machine.apply(cluster, INDEX, Entry(command, at_ms=0))
    return isinstance(outcome, Accepted)


@given(facts=clusters())
def test_the_best_node_that_the_machine_would_accept(
    facts: tuple[Cluster, Vm, frozenset[int]],
) -> None:
    cluster, vm, silent = facts
    fitting = [
        node.node_id
        for node in cluster.nodes.values()
        if node.node_id not in silent and node.incarnation and would_be_accepted(cluster, vm, node)
    ]
    ready = vm.standby.node_id if vm.standby is not None else None
    elsewhere = [node_id for node_id in fitting if node_id != vm.failed_on] or fitting
    wishes = [node_id for node_id in (vm.last_node, ready) if node_id in elsewhere]
    expected = next(iter([*wishes, *sorted(elsewhere)]), None)
    choice = scheduler.place(cluster, vm, silent)
    assert choice.node_id == expected
    if expected is None:
        assert set(choice.refusals) == set(cluster.nodes), "every node says why not"
    assert expected not in choice.refusals


@given(facts=clusters())
def test_the_order_of_insertion_does_not_matter(
    facts: tuple[Cluster, Vm, frozenset[int]],
) -> None:
    cluster, vm, silent = facts
    backwards = replace(cluster, nodes=dict(reversed(list(cluster.nodes.items()))))
    assert scheduler.place(backwards, vm, silent) == scheduler.place(cluster, vm, silent)


def test_every_refusal_in_words() -> None:
    small = Capacity(2, 2)
    member = Membership.MEMBER
    nodes = [
        Node(1, "a:1", "m1", "j1", Membership.JOINING, 11, small),
        Node(2, "b:1", "m2", "j2", Membership.LEAVING, 12, small),
        Node(3, "c:1", "m3", "j3", member),
        Node(4, "d:1", "m4", "j4", member, 14, small),
        Node(5, "e:1", "m5", "j5", member, 15, Capacity(2, 9)),
        Node(6, "f:1", "m6", "j6", member, 16, Capacity(9, 2)),
        Node(7, "g:1", "m7", "j7", member, 17, Capacity(9, 9), is_down=True),
    ]
    vm = vm_on(1, VmSpec(StoreSource("/nix/store/0-vm"), 3, 3), None)
    other = vm_on(2, VmSpec(StoreSource("/nix/store/0-vm"), 1, 4), nodes[5])
    cluster = Cluster(vms={"vm1": vm, "vm2": other}, nodes={node.node_id: node for node in nodes})
    choice = scheduler.place(cluster, vm, frozenset({4}))
    assert choice.node_id is None
    assert choice.text == (
        "node-1: is joining; node-2: is leaving; node-3: has not registered; "
        "node-4: does not answer; node-5: 2 of 2 vCPUs free; node-6: 0 of 2 MiB free; "
        "node-7: is down"
    )
    tied = replace(vm, last_node=7, runner="/nix/store/0-runner", volumes=("data.img",))
    choice = scheduler.place(cluster, tied, frozenset())
    assert choice.refusals[7] == "is down"
    assert choice.refusals[6] == "vm1 is tied to node-7 (its volumes are there: data.img)"
    assert scheduler.place(Cluster(), vm, frozenset()).text == "no node has registered"
