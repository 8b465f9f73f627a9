"""Everybody who proposes entries, now and then something absurd or outdated."""

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

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
from blixard.machine import placements
from blixard.model import (
    Capacity,
    Holder,
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
from core.strategies import CONTENTS, NAMES, NEARBY_ENTRIES, NODE_IDS, SOURCES, packed

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
