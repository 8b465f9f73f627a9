"""The law holds after every entry, whatever is proposed in whatever order."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from blixard import machine
from blixard.commands import (
    AbandonMove,
    AddNode,
    CheckIn,
    Command,
    ConfirmDown,
    CreateVm,
    DeclareNodeDown,
    DeclareVm,
    DeleteVm,
    DisownVm,
    DrainNode,
    Entry,
    HandOverVm,
    Kept,
    MoveVm,
    PlaceVm,
    RegisterNode,
    RemoveNode,
    Renewal,
    RenewLeases,
    ReportVm,
    RestartVm,
    ResumeNode,
    SetPolicy,
    SettleNode,
    StartVm,
    StopVm,
)
from blixard.machine import leases, placements, vms
from blixard.model import (
    Accepted,
    Capacity,
    Cluster,
    Holder,
    Membership,
    Outcome,
    Reason,
    RequestId,
    State,
    Vm,
    VmSpec,
    Wanted,
)
from blixard.policy import OnQuorumLoss, Policy
from blixard.source import Source
from core.law import Law
from core.strategies import CONTENTS, NAMES, NEARBY_ENTRIES, NODE_IDS, SOURCES, of, packed

CAPACITY = Capacity(vcpus=6, memory_mib=8 * 1024)
ADDRESSES = {1: "a:1", 2: "b:1", 3: "c:1"}
OUTCOMES_KEPT = 5
POLICIES = st.builds(
    Policy, st.sampled_from(OnQuorumLoss), restart_limit=st.sampled_from([0, 1, 1_001])
)
REPORTABLE = sorted(placements.REPORTABLE)
SAID = [*REPORTABLE, *REPORTABLE, State.PENDING, State.STOPPING]


class Proposers(RuleBasedStateMachine):
    """Operators, a leader and nodes; each now and then says something absurd or outdated."""

    def __init__(self) -> None:
        super().__init__()
        self.law = Law()
        self.requests: list[Entry] = []
        self.applied(RegisterNode(1, "m1", "j1", "a:1", 0, CAPACITY, "1.0"))
        self.applied(AddNode(2, "b:1", "m2", "j2"))
        self.applied(SettleNode(2, "j2", is_member=True))
        self.applied(RegisterNode(2, "m2", "j2", "b:1", 0, CAPACITY, "1.0"))

    @initialize(begin=st.sampled_from(["empty", "held", "running", "lost"]))
    def begin(self, begin: str) -> None:
        if begin == "empty":
            return
        spec = VmSpec(packed(CONTENTS[0]), 2, 1024)
        policy = Policy(OnQuorumLoss.KEEP if begin == "lost" else OnQuorumLoss.STOP)
        self.applied(CreateVm("web", spec, Wanted.RUNNING, CONTENTS[0], policy))
        uid = self.law.index
        self.applied(PlaceVm("web", uid, 1, 1))
        if begin == "lost":
            self.applied(DeclareNodeDown(1, 1, 0))
        if begin == "running":
            said = Reason("active", "runs")
            self.applied(ReportVm("web", uid, 1, 1, uid + 1, 1, State.RUNNING, said))

    def applied(self, command: Command, request: RequestId | None = None) -> Outcome:
        return self.law.apply(Entry(command, at_ms=self.law.index, request=request))

    def any_held(self) -> bool:
        return any(vm.holder is not None for vm in self.law.cluster.vms.values())

    def generation(self, name: str) -> int:
        vm = self.law.cluster.vms.get(name)
        return vm.declared.generation if vm is not None and vm.declared is not None else 0

    def vm(self, data: st.DataObject, held: bool) -> Vm | None:
        chosen = [vm for vm in self.law.cluster.vms.values() if (vm.holder is not None) == held]
        return data.draw(st.sampled_from(chosen)) if chosen else None

    @rule(entry=NEARBY_ENTRIES)
    def anyone_says_anything(self, entry: Entry) -> None:
        self.law.apply(entry)

    @rule(entry=NEARBY_ENTRIES, age=st.integers(0, 8))
    def an_operator_asks_once(self, entry: Entry, age: int) -> None:
        request = RequestId("s", len(self.requests), base_index=max(0, self.law.index - age))
        self.requests.append(replace(entry, request=request))
        self.law.apply(self.requests[-1])

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def an_operator_asks_again(self, data: st.DataObject) -> None:
        self.law.apply(data.draw(st.sampled_from(self.requests[-2 * OUTCOMES_KEPT :])))

    @rule(name=NAMES, source=SOURCES, vcpus=st.integers(1, 4), policy=POLICIES)
    def an_operator_creates(self, name: str, source: Source, vcpus: int, policy: Policy) -> None:
        content = next((it for it in CONTENTS if packed(it) == source), b"")
        spec = VmSpec(source, vcpus, vcpus * 1024)
        self.applied(CreateVm(name, spec, Wanted.RUNNING, content, policy))

    @rule(name=NAMES, policy=POLICIES)
    def an_operator_sets_a_policy(self, name: str, policy: Policy) -> None:
        self.applied(SetPolicy(name, policy))

    @rule(node_id=NODE_IDS, lag=st.integers(0, 1))
    def an_operator_confirms_that_a_node_is_down(self, node_id: int, lag: int) -> None:
        node = self.law.cluster.nodes.get(node_id)
        incarnation = node.incarnation - lag if node is not None else 0
        self.applied(ConfirmDown(node_id, incarnation, "an operator"))

    @rule(node_id=NODE_IDS, lag=st.integers(0, 1), later=st.integers(0, 2))
    def a_node_renews(self, node_id: int, lag: int, later: int) -> None:
        node = self.law.cluster.nodes.get(node_id)
        if node is not None:
            renewal = Renewal(node_id, node.incarnation - lag, node.seq + later)
            self.applied(RenewLeases((renewal,)))

    @rule(node_id=NODE_IDS, lag=st.integers(0, 1), before=st.integers(0, 1))
    def the_leader_declares_a_node_down(self, node_id: int, lag: int, before: int) -> None:
        node = self.law.cluster.nodes.get(node_id)
        if node is not None:
            seq = node.seq - before
            self.applied(DeclareNodeDown(node_id, node.incarnation - lag, seq))

    @rule(name=NAMES, node_id=NODE_IDS, source=SOURCES, policy=POLICIES, size=st.integers(1, 3))
    def a_configuration_declares(
        self, name: str, node_id: int, source: Source, policy: Policy, size: int
    ) -> None:
        content = next((it for it in CONTENTS if packed(it) == source), b"")
        spec = VmSpec(source, size, 512)
        generation = self.generation(name) + (size > 1)
        self.applied(DeclareVm(name, node_id, generation, spec, f"{size}", policy, content))

    @rule(name=NAMES, node_id=NODE_IDS, ahead=st.integers(0, 2))
    def a_configuration_says_no_more_of_it(self, name: str, node_id: int, ahead: int) -> None:
        self.applied(DisownVm(name, node_id, self.generation(name) + ahead))

    @rule(name=NAMES, verb=st.sampled_from([StartVm, StopVm, RestartVm, DeleteVm]))
    def an_operator_commands(
        self, name: str, verb: type[StartVm | StopVm | RestartVm | DeleteVm]
    ) -> None:
        self.applied(verb(name))

    @rule(node_id=NODE_IDS, ends=st.booleans(), until_restart=st.booleans())
    def an_operator_drains(self, node_id: int, ends: bool, until_restart: bool) -> None:
        drain = DrainNode(node_id, "an operator", until_restart=until_restart)
        self.applied(ResumeNode(node_id, "an operator") if ends else drain)

    @precondition(lambda self: self.any_held())
    @rule(data=st.data(), to=NODE_IDS, lag=st.sampled_from([0, 0, 0, 1]), goes=st.booleans())
    def a_vm_moves(self, data: st.DataObject, to: int, lag: int, goes: bool) -> None:
        vm = self.vm(data, held=True)
        assert vm is not None
        assert vm.holder is not None
        if vm.move is None:
            self.applied(MoveVm(vm.name, to, "an operator"))
            return
        node = self.law.cluster.nodes.get(vm.move.to)
        life, epoch = (node.incarnation if node is not None else 0), vm.holder.epoch - lag
        handed = HandOverVm(vm.name, vm.uid, epoch, vm.move.to, life)
        self.applied(handed if goes else AbandonMove(vm.name, vm.uid, epoch, "it cannot"))

    @rule(data=st.data(), node_id=NODE_IDS)
    def the_leader_places(self, data: st.DataObject, node_id: int) -> None:
        vm = self.vm(data, held=data.draw(st.sampled_from([False, False, False, True])))
        node = self.law.cluster.nodes.get(node_id)
        if vm is not None and node is not None:
            self.applied(PlaceVm(vm.name, vm.uid, node_id, node.incarnation))

    @precondition(lambda self: self.any_held())
    @rule(data=st.data(), state=st.sampled_from(SAID), who=st.integers(0, 7))
    def a_node_reports(self, data: st.DataObject, state: State, who: int) -> None:
        vm = self.vm(data, held=True)
        assert vm is not None
        assert vm.holder is not None
        holder: Holder = vm.holder
        if who == 0:
            holder = replace(holder, epoch=holder.epoch - 1)
        elif who == 1:
            holder = replace(holder, node_id=holder.node_id % 3 + 1)
        elif who == 2:
            holder = replace(holder, incarnation=holder.incarnation - 1)
        self.applied(
            ReportVm(
                vm.name,
                vm.uid,
                holder.node_id,
                holder.incarnation,
                holder.epoch,
                self.law.cluster.nodes[vm.holder.node_id].session - (who == 3),
                state,
                Reason("said", "so"),
            )
        )

    @rule(node_id=NODE_IDS, lag=st.integers(0, 5), capacity=st.integers(1, 6), keeps=st.booleans())
    def a_node_signs_in(self, node_id: int, lag: int, capacity: int, keeps: bool) -> None:
        node = self.law.cluster.nodes.get(node_id)
        machine_id, join_id, address = f"m{node_id}", f"j{node_id}", ADDRESSES[node_id]
        offers = Capacity(capacity, capacity * 1024)
        incarnation = node.incarnation if node is not None else 0
        if lag < 3:
            previous = max(0, incarnation - lag)
            register = RegisterNode(node_id, machine_id, join_id, address, previous, offers, "1.0")
            runs = [
                Kept(vm.name, vm.uid, vm.holder.epoch)
                for vm in self.law.cluster.vms.values()
                if vm.holder is not None
            ]
            self.applied(replace(register, kept=tuple(runs) if keeps else ()))
        else:
            self.applied(CheckIn(node_id, incarnation - lag + 3, address, offers, "1.1"))

    @rule(node_id=NODE_IDS, joins=st.booleans(), settles=st.booleans())
    def a_node_comes_or_goes(self, node_id: int, joins: bool, settles: bool) -> None:
        if settles:
            self.applied(SettleNode(node_id, f"j{node_id}", is_member=joins))
        elif joins:
            self.applied(AddNode(node_id, ADDRESSES[node_id], f"m{node_id}", f"j{node_id}"))
        else:
            self.applied(RemoveNode(node_id))


@pytest.fixture(autouse=True)
def _short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "OUTCOMES_KEPT", OUTCOMES_KEPT)


def run(proposers: type[RuleBasedStateMachine], examples: int, *, repeatable: bool = False) -> None:
    phases = [Phase.generate] if repeatable else [Phase.reuse, Phase.generate, Phase.shrink]
    run_state_machine_as_test(
        proposers,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            phases=phases,
            derandomize=repeatable,
        ),
    )


def test_the_law_holds_after_every_entry() -> None:
    run(Proposers, examples=300)


@given(entries=st.lists(of(Entry), max_size=4))
def test_apply_never_raises(entries: list[Entry]) -> None:
    """Not even for numbers and texts that no honest proposer sends."""
    cluster = Cluster()
    for index, entry in enumerate(entries, start=1):
        cluster, _ = machine.apply(cluster, index, entry)


# --- the checkers notice a broken machine -------------------------------------------------------


def place_regardless(cluster: Cluster, index: int, at_ms: int, command: PlaceVm) -> Any:
    """Sabotage: a VM is placed although it has a holder."""
    vm = cluster.vms.get(command.name)
    if vm is None or vm.holder is None or vm.release is not None:
        return PLACE(cluster, index, at_ms, command)
    freed = replace(vm, state=State.PENDING, holder=None)
    loose = replace(cluster, vms={**cluster.vms, vm.name: freed})
    after, outcome = PLACE(loose, index, at_ms, command)
    return (after if isinstance(outcome, Accepted) else cluster), outcome


def believe_anyone(cluster: Cluster, index: int, at_ms: int, command: ReportVm) -> Any:
    """Sabotage: a report of an older placement counts."""
    vm = cluster.vms.get(command.name)
    if vm is not None and vm.holder is not None:
        command = replace(command, epoch=vm.holder.epoch)
    return REPORT(cluster, index, at_ms, command)


def endless_capacity(_cluster: Cluster, _node_id: int, besides: str = "") -> Capacity:
    """Sabotage: every node has room."""
    return Capacity(2**31, 2**31)


def forget_at_once(
    cluster: Cluster, _index: int, _request: RequestId, _command: Command, _outcome: Outcome
) -> Cluster:
    """Sabotage: no outcome is remembered."""
    return cluster


def remove_at_once(cluster: Cluster, index: int, at_ms: int, command: Any) -> Any:
    """Sabotage: a deleted VM leaves no tombstone."""
    after, outcome = DELETE(cluster, index, at_ms, command)
    if isinstance(outcome, Accepted):
        kept = {name: vm for name, vm in after.vms.items() if name != command.name}
        after = replace(after, vms=kept)
    return after, outcome


def keep_sources(cluster: Cluster, vm: Vm) -> Cluster:
    """Sabotage: a packed source outlives its last VM."""
    kept = {name: other for name, other in cluster.vms.items() if name != vm.name}
    return replace(cluster, vms=kept)


def renew_the_dead(cluster: Cluster, index: int, command: RenewLeases) -> Any:
    """Sabotage: a life that is over goes on."""
    nodes = {**cluster.nodes}
    for renewal in command.renewals:
        node = nodes.get(renewal.node_id)
        if node is not None and renewal.seq > node.seq:
            nodes[node.node_id] = replace(node, seq=renewal.seq, is_down=False)
    if nodes == cluster.nodes:
        return RENEW(cluster, index, command)
    return replace(cluster, nodes=nodes), Accepted(index)


def down_whatever_was_renewed(
    cluster: Cluster, index: int, at_ms: int, command: DeclareNodeDown
) -> Any:
    """Sabotage: the last renewal is not compared."""
    node = cluster.nodes.get(command.node_id)
    if node is not None:
        command = replace(command, seq=node.seq)
    return DOWN(cluster, index, at_ms, command)


def free_what_is_kept(
    cluster: Cluster, node_id: int, at_ms: int, reason: Reason, _spare: Callable[[Vm], Vm | None]
) -> Cluster:
    """Sabotage: the end of an incarnation frees what is to be kept as well."""
    return END(cluster, node_id, at_ms, reason, lambda _vm: None)


PLACE, REPORT, DELETE = placements.place, placements.report, vms.delete
RENEW, DOWN, END = leases.renew, leases.declare_down, placements.end_incarnation


@pytest.mark.parametrize(
    ("room", "function", "broken", "complaint"),
    [
        (placements, "place", place_regardless, "a holder was replaced by another"),
        (placements, "report", believe_anyone, "someone else's report"),
        (placements, "free_capacity", endless_capacity, "too many vCPUs|memory_mib"),
        (vms, "delete", remove_at_once, "vanished|without a report"),
        (vms, "remove", keep_sources, "sources exist"),
        (leases, "renew", renew_the_dead, "a life that was over"),
        (leases, "declare_down", down_whatever_was_renewed, "declared down that has renewed"),
        (leases, "end_incarnation", free_what_is_kept, "what is to be kept was freed"),
        (machine, "_remember", forget_at_once, "a retry"),
    ],
)
def test_the_law_notices(
    room: Any,
    function: str,
    broken: Callable[..., Any],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, function, broken)
    with pytest.raises(AssertionError, match=complaint):
        run(Proposers, examples=4_000, repeatable=True)


def test_the_proposers_reach_what_they_should() -> None:
    """The law is tested on VMs that run, stop, fail and wait, not on refusals alone."""
    seen: set[tuple[State, Wanted]] = set()
    memberships: set[Membership] = set()

    class Watched(Proposers):
        @invariant()
        def watch(self) -> None:
            for vm in self.law.cluster.vms.values():
                seen.add((vm.state, vm.wanted))
            memberships.update(node.membership for node in self.law.cluster.nodes.values())

    run(Watched, examples=900, repeatable=True)
    assert {state for state, _ in seen} == set(State)
    assert {wanted for _, wanted in seen} == set(Wanted)
    assert memberships == set(Membership)
