"""What happened, in words: every change is told once, with its cause, and alike on every node."""

import re

from hypothesis import given
from hypothesis import strategies as st

from blixard import codec, machine
from blixard.commands import (
    AddNode,
    AssignStandby,
    CheckIn,
    Command,
    ConfirmDown,
    CreateVm,
    DeclareNodeDown,
    DeferVm,
    DeleteVm,
    DrainNode,
    Entry,
    HandOverVm,
    MoveVm,
    PlaceVm,
    RegisterNode,
    RemoveNode,
    Renewal,
    RenewLeases,
    ReportHealth,
    ReportStandby,
    ReportVm,
    ResumeNode,
    SetPolicy,
    SettleNode,
    StartVm,
    StopVm,
)
from blixard.machine.changes import Batch, Event, changes
from blixard.model import (
    Capacity,
    Cluster,
    HealthState,
    Readiness,
    Reason,
    Rejected,
    State,
    VmSpec,
)
from blixard.policy import CheckKind, Failover, GuestCheck, OnQuorumLoss, Policy
from blixard.source import StoreSource
from core.strategies import NEARBY_ENTRIES

SPEC = VmSpec(StoreSource("/nix/store/0-vm"), 1, 512)
CHECK = GuestCheck(CheckKind.TCP, "127.0.0.1:80")
RUNNER = "/nix/store/1-runner"


class Story:
    """A cluster, and what is told of it."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.index = 0
        self.batches: list[Batch] = []

    def tell(self, command: Command, by: str = "") -> list[str]:
        """Apply a command; returns the codes of what it caused."""
        return [event.code for event in self.events(command, by)]

    def events(self, command: Command, by: str = "") -> tuple[Event, ...]:
        self.index += 1
        entry = Entry(command, 1_000 + self.index, by=by)
        before = self.cluster
        self.cluster, outcome = machine.apply(before, self.index, entry)
        assert not isinstance(outcome, Rejected), outcome
        batch = changes(before, self.cluster, self.index, entry, outcome)
        if batch is None:
            return ()
        self.batches.append(batch)
        return batch.events

    def register(self, node_id: int) -> list[str]:
        node = self.cluster.nodes.get(node_id)
        previous = node.incarnation if node is not None else 0
        size = Capacity(8, 8192)
        join_id = f"j{node_id}"
        return self.tell(
            RegisterNode(node_id, f"m{node_id}", join_id, f"n{node_id}:1", previous, size, "1.0")
        )

    def join(self, node_id: int) -> None:
        self.tell(AddNode(node_id, f"n{node_id}:1", f"m{node_id}", f"j{node_id}"))
        self.tell(SettleNode(node_id, f"j{node_id}", is_member=True))
        self.register(node_id)

    def place(self, name: str, node_id: int, why: str = "") -> list[str]:
        uid, life = self.cluster.vms[name].uid, self.cluster.nodes[node_id].incarnation
        return self.tell(PlaceVm(name, uid, node_id, life, why))

    def report(self, name: str, state: State, text: str = "", **more: int) -> list[str]:
        vm = self.cluster.vms[name]
        assert vm.holder is not None
        node = self.cluster.nodes[vm.holder.node_id]
        return self.tell(
            ReportVm(
                name,
                vm.uid,
                node.node_id,
                node.incarnation,
                vm.holder.epoch,
                node.session,
                state,
                Reason("said", text or f"is {state.value}"),
                RUNNER if state in (State.STARTING, State.RUNNING) else None,
                (),
                **more,
            )
        )

    def health(self, name: str, state: HealthState) -> list[str]:
        vm = self.cluster.vms[name]
        assert vm.holder is not None
        node = self.cluster.nodes[vm.holder.node_id]
        life = (node.node_id, node.incarnation, vm.holder.epoch, node.session)
        return self.tell(ReportHealth(name, vm.uid, *life, state, "connection refused"))

    def texts(self, name: str) -> list[str]:
        events = [event for batch in self.batches for event in batch.events]
        return [event.text for event in events if event.subject == name]


def two_nodes() -> Story:
    story = Story()
    story.register(1)
    story.join(2)
    return story


def test_the_life_of_a_vm() -> None:
    story = two_nodes()
    assert story.tell(CreateVm("web", SPEC), by="anna@desk") == ["vm-created"]
    uid = story.cluster.vms["web"].uid
    assert story.tell(DeferVm("web", uid, "no room")) == ["vm-waits"]
    assert story.tell(DeferVm("web", uid, "no room still")) == []
    assert story.place("web", 1, "node-1: 75 % of its memory free\nnode-2: less") == ["vm-placed"]
    assert story.report("web", State.BUILDING, "0 of 9") == ["vm-building"]
    assert story.report("web", State.BUILDING, "7 of 9") == []
    assert story.report("web", State.STARTING) == ["vm-starting"]
    assert story.report("web", State.RUNNING) == ["vm-running"]
    assert story.tell(StopVm("web"), by="anna@desk") == ["vm-stopping"]
    assert story.tell(StartVm("web")) == ["vm-wanted"]
    assert story.tell(StopVm("web")) == ["vm-wanted"]
    assert story.report("web", State.STOPPED) == ["vm-stopped"]
    assert story.tell(StartVm("web")) == ["vm-pending"]
    story.place("web", 2)
    story.report("web", State.RUNNING)
    assert story.report("web", State.FAILED, "status 7\nlast words") == ["vm-restarts"]
    assert story.tell(SetPolicy("web", Policy(restart_limit=0))) == ["vm-policy-changed"]
    story.place("web", 1)
    assert story.report("web", State.FAILED, "status 7") == ["vm-failed"]
    assert story.tell(DeleteVm("web")) == ["vm-deleted"]
    texts = story.texts("web")
    assert texts[0] == "web is created: 1 vCPUs, 512 MiB; waits for a node"
    assert texts[1] == "web waits: no room"
    assert texts[2] == "web is placed on node-1: 75 % of its memory free"
    assert "web has another policy: restart-limit" in texts


def test_every_event_names_its_cause() -> None:
    story = two_nodes()
    [created] = story.events(CreateVm("web", SPEC), by="anna@desk")
    assert created == Event(
        index=story.index,
        at_ms=1_000 + story.index,
        kind="vm",
        subject="web",
        code="vm-created",
        text="web is created: 1 vCPUs, 512 MiB; waits for a node",
        actor="anna@desk",
        cause="CreateVm",
    )
    story.place("web", 1)
    story.report("web", State.FAILED, "status 7\nlast words")
    placed, failed = (batch.events[0] for batch in story.batches[-2:])
    assert (placed.actor, placed.cause, placed.node) == ("leader", "PlaceVm", "node-1")
    assert (failed.actor, failed.cause, failed.node) == ("node-1", "ReportVm", "node-1")
    assert (failed.code, failed.grave) == ("vm-failed", True)
    assert failed.text.endswith("status 7\nlast words")
    [unsaid] = story.events(DeleteVm("web"))
    assert unsaid.actor == ""


def test_nodes_come_and_go() -> None:
    story = Story()
    assert story.register(1) == ["node-joined", "node-registered"]
    assert story.tell(AddNode(2, "n2:1", "m2", "j2")) == ["node-joining"]
    assert story.batches[-1].events[0].actor == "node-2"
    assert story.tell(SettleNode(2, "j2", is_member=True)) == ["node-joined"]
    assert story.register(2) == ["node-registered"]
    life = story.cluster.nodes[2].incarnation
    size = Capacity(4, 8192)
    check_in = CheckIn(2, life, "n2:1", size, "1.1", lease_ms=12_000, guaranteed=True)
    assert story.tell(check_in) == [
        "node-checked-in",
        "node-lease-changed",
        "node-mode-changed",
        "node-changed",
    ]
    assert "node-2 has 4 vCPUs and 8192 MiB; version 1.1, before 1.0" in story.texts("node-2")
    assert story.tell(RenewLeases((Renewal(2, life, 5),))) == []
    assert story.tell(DeclareNodeDown(2, life, 5)) == ["node-down"]
    down = story.batches[-1].events[0]
    assert (down.actor, down.cause, down.grave) == ("leader", "DeclareNodeDown", True)
    assert story.tell(ConfirmDown(2, life, "anna@desk")) == ["node-confirmed-down"]
    assert story.batches[-1].events[0].actor == "anna@desk"
    assert story.register(2) == [
        "node-back",
        "node-lease-changed",
        "node-mode-changed",
        "node-changed",
    ]
    assert story.tell(DrainNode(2, "anna@desk", "kernel update")) == ["node-drain-begun"]
    drained = story.texts("node-2")[-1]
    assert drained == "node-2 is drained, asked by anna@desk: kernel update"
    assert story.tell(ResumeNode(2, "anna@desk")) == ["node-drain-ended"]
    assert story.tell(RemoveNode(2)) == ["node-leaving"]
    assert story.tell(SettleNode(2, "j2", is_member=False)) == ["node-left"]


def test_a_lost_host_is_told_with_all_that_follows() -> None:
    story = two_nodes()
    keep = Policy(on_quorum_loss=OnQuorumLoss.KEEP)
    for name, policy in (("db", keep), ("mail", Policy()), ("web", Policy())):
        story.tell(CreateVm(name, SPEC, policy=policy))
        story.place(name, 1)
        story.report(name, State.RUNNING)
    story.tell(StopVm("mail"))
    node = story.cluster.nodes[1]
    told = story.events(DeclareNodeDown(1, node.incarnation, node.seq))
    assert [(event.subject, event.code) for event in told] == [
        ("node-1", "node-down"),
        ("db", "vm-unreachable"),
        ("mail", "vm-stopped"),
        ("web", "vm-lost"),
    ]
    assert {event.index for event in told} == {story.index}
    batch = story.batches[-1]
    assert (batch.vms, batch.nodes) == (("db", "mail", "web"), (1,))


def test_a_move_is_told_from_its_beginning_to_its_end() -> None:
    story = two_nodes()
    story.tell(CreateVm("web", SPEC))
    story.place("web", 1)
    story.report("web", State.RUNNING)
    assert story.tell(MoveVm("web", 2, "anna@desk")) == ["vm-move-begun"]
    uid, life = story.cluster.vms["web"].uid, story.cluster.nodes[2].incarnation
    assert story.tell(AssignStandby("web", uid, 2, life)) == ["vm-standby"]
    built = ReportStandby("web", uid, 2, life, Readiness.BUILT)
    assert story.tell(built) == ["vm-standby-built"]
    holder = story.cluster.vms["web"].holder
    assert holder is not None
    assert story.tell(HandOverVm("web", uid, holder.epoch, 2, life)) == ["vm-stopping"]
    assert story.report("web", State.STOPPED) == ["vm-pending"]
    assert story.place("web", 2) == ["vm-placed"]
    assert story.report("web", State.RUNNING) == ["vm-running", "vm-moved"]
    assert story.texts("web")[-1] == "web has moved to node-2, asked by anna@desk"


def test_health_is_told_when_it_changes() -> None:
    story = two_nodes()
    story.tell(CreateVm("web", SPEC, policy=Policy(check=CHECK)))
    story.place("web", 1)
    story.report("web", State.RUNNING)
    assert story.health("web", HealthState.STARTING) == []
    assert story.health("web", HealthState.OK) == ["vm-healthy"]
    assert story.health("web", HealthState.OK) == []
    assert story.health("web", HealthState.FAILING) == ["vm-unhealthy"]
    assert story.batches[-1].events[0].grave
    assert story.texts("web")[-1] == "web fails its check: connection refused"


def test_a_policy_that_is_set_again_is_no_news() -> None:
    story = two_nodes()
    story.tell(CreateVm("web", SPEC))
    changed = Policy(failover=Failover.NEVER, group="front")
    assert story.tell(SetPolicy("web", changed)) == ["vm-policy-changed"]
    assert story.texts("web")[-1] == "web has another policy: failover, group"
    assert story.tell(SetPolicy("web", changed)) == []


@given(st.lists(NEARBY_ENTRIES, max_size=30))
def test_whatever_changes_is_told_and_nothing_else(entries: list[Entry]) -> None:
    cluster = Cluster()
    for index, entry in enumerate(entries, 1):
        before = cluster
        cluster, outcome = machine.apply(before, index, entry)
        batch = changes(before, cluster, index, entry, outcome)
        # Another node, whose state came from a snapshot, tells the same.
        twin = codec.decode_cluster(codec.encode_cluster(before))
        after, _ = machine.apply(twin, index, entry)
        assert changes(twin, after, index, entry, outcome) == batch
        if isinstance(outcome, Rejected) or isinstance(entry.command, RenewLeases):
            assert batch is None
            continue
        touched = batch.vms if batch is not None else ()
        for name in {*before.vms, *cluster.vms}:
            assert (before.vms.get(name) != cluster.vms.get(name)) <= (name in touched)
        told = batch.events if batch is not None else ()
        subjects = {event.subject for event in told}
        for name in {*before.vms, *cluster.vms}:
            old, new = before.vms.get(name), cluster.vms.get(name)
            if old is None or new is None or old.state is not new.state:
                assert name in subjects
        for event in told:
            assert event.index == index
            assert re.fullmatch(r"(vm|node|cluster)(-[a-z]+)+", event.code)
            assert event.kind == event.code.partition("-")[0]
            assert event.text
            assert event.cause == type(entry.command).__name__
