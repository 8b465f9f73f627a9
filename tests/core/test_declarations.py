"""Declared VMs: one host's configuration owns each, and no two overwrite each other in turn."""

from dataclasses import replace

import pytest

from blixard.commands import (
    AbandonMove,
    Command,
    CreateVm,
    DeclareVm,
    DeleteVm,
    DisownVm,
    Entry,
    HandOverVm,
    MoveVm,
    PlaceVm,
    RemoveNode,
    ReportHealth,
    ReportVm,
    RestartVm,
    SetPolicy,
    SettleNode,
    StartVm,
    StopVm,
)
from blixard.errors import Code
from blixard.model import (
    Accepted,
    HealthState,
    Outcome,
    Reason,
    Rejected,
    State,
    Vm,
    VmSpec,
)
from blixard.policy import CheckKind, Failover, GuestCheck, Policy
from blixard.source import StoreSource
from core.founding import SMALL, add, register, told
from core.law import Law
from core.strategies import CONTENTS, packed

OTHER = VmSpec(StoreSource("/nix/store/1-vm"), 1, 512)
OLD, NEW = "old", "new"
RUNNER = "/nix/store/2-runner"


class Story:
    """Two nodes, and what their configurations say."""

    def __init__(self) -> None:
        self.law: Law = told(register(1), add(2), SettleNode(2, "j2", is_member=True), register(2))

    def tell(self, command: Command) -> Outcome:
        return self.law.apply(Entry(command, at_ms=self.law.index))

    def session(self, node_id: int) -> int:
        return self.law.cluster.nodes[node_id].session

    def declare(
        self, node_id: int, spec: VmSpec = SMALL, digest: str = OLD, **more: object
    ) -> Outcome:
        command = DeclareVm("web", node_id, self.generation + 1, spec, digest, **more)  # type: ignore[arg-type]
        return self.tell(command)

    def disown(self, node_id: int) -> Outcome:
        return self.tell(DisownVm("web", node_id, self.generation + 1))

    @property
    def generation(self) -> int:
        vm = self.law.cluster.vms.get("web")
        return vm.declared.generation if vm is not None and vm.declared is not None else 0

    @property
    def web(self) -> Vm:
        return self.law.cluster.vms["web"]

    @property
    def owner(self) -> int | None:
        return self.web.declared.node_id if self.web.declared is not None else None

    def run(self, node_id: int = 1) -> None:
        """Let it run there."""
        incarnation = self.law.cluster.nodes[node_id].incarnation
        assert isinstance(self.tell(PlaceVm("web", self.web.uid, node_id, incarnation)), Accepted)
        self.report(State.RUNNING, runner=RUNNER)

    def report(self, state: State, runner: str | None = None) -> None:
        holder = self.web.holder
        assert holder is not None
        said = ReportVm(
            "web",
            self.web.uid,
            holder.node_id,
            holder.incarnation,
            holder.epoch,
            self.session(holder.node_id),
            state,
            Reason("said", "so"),
            runner,
            () if runner else None,
        )
        assert isinstance(self.tell(said), Accepted)


@pytest.fixture
def story() -> Story:
    return Story()


def refused(outcome: Outcome, code: Code) -> Rejected:
    assert isinstance(outcome, Rejected)
    assert outcome.code is code
    return outcome


def test_a_declared_vm_is_created_and_has_an_owner(story: Story) -> None:
    assert isinstance(story.declare(1), Accepted)
    assert (story.web.state, story.web.spec, story.owner) == (State.PENDING, SMALL, 1)
    assert story.web.declared is not None
    assert (story.web.declared.digest, story.web.declared.generation) == (OLD, 1)


def test_old_and_new_configurations_never_overwrite_each_other_in_turn(story: Story) -> None:
    """Host by host they are rebuilt: node-2 has the old one still when node-1 has the new one."""
    story.declare(1)
    story.declare(1, OTHER, NEW)
    before = story.web
    rejected = refused(story.declare(2, SMALL, OLD), Code.DECLARED)
    assert "node-1" in rejected.message
    assert rejected.fixes
    assert story.web == before


def test_a_word_that_comes_late_changes_nothing(story: Story) -> None:
    """It was sent before what is declared now was."""
    story.declare(1)
    story.declare(1, OTHER, NEW)
    before = story.web
    assert story.generation == 2
    refused(story.tell(DeclareVm("web", 1, 2, SMALL, OLD)), Code.STALE)
    refused(story.tell(DeclareVm("web", 1, 1, SMALL, OLD)), Code.STALE)
    refused(story.tell(DisownVm("web", 1, 2)), Code.STALE)
    assert story.web == before


def test_only_a_node_owns(story: Story) -> None:
    refused(story.declare(9), Code.NO_SUCH_NODE)
    refused(story.disown(9), Code.NO_SUCH_NODE)
    refused(story.disown(1), Code.STALE)


def test_what_nobody_declares_is_taken_over(story: Story) -> None:
    story.tell(CreateVm("web", SMALL))
    story.declare(2, OTHER, NEW)
    assert (story.owner, story.web.spec) == (2, OTHER)


def test_a_vm_that_is_declared_no_more_goes_on(story: Story) -> None:
    story.declare(1)
    story.run()
    assert isinstance(story.disown(1), Accepted)
    assert (story.owner, story.web.state) == (None, State.RUNNING)
    refused(story.disown(1), Code.STALE)
    assert isinstance(story.tell(DeleteVm("web")), Accepted)


@pytest.mark.parametrize("command", [DeleteVm("web"), SetPolicy("web", Policy())])
def test_nobody_else_changes_it(story: Story, command: Command) -> None:
    story.declare(1)
    rejected = refused(story.tell(command), Code.DECLARED)
    assert "node-1" in rejected.message
    assert "services.blixard.vms.web" in rejected.fixes[0].text
    assert isinstance(story.tell(StopVm("web")), Accepted), "to run it or not is the operators'"


def test_what_runs_changes_when_it_is_restarted(story: Story) -> None:
    story.declare(1)
    story.run()
    outcome = story.declare(1, OTHER, NEW)
    assert outcome == Accepted(story.law.index, "web is what was declared once it is restarted")
    declared_index = story.law.index
    assert (story.web.spec, story.web.runner, story.web.state) == (SMALL, RUNNER, State.RUNNING)
    story.tell(RestartVm("web"))
    story.report(State.STOPPED)
    assert (story.web.spec, story.web.state) == (OTHER, State.PENDING)
    assert (story.web.runner, story.web.build) == (None, declared_index)


def test_a_failover_starts_what_ran_before(story: Story) -> None:
    story.declare(1)
    story.run()
    story.declare(1, OTHER, NEW)
    node = story.law.cluster.nodes[1]
    story.tell(replace(register(1), previous_incarnation=node.incarnation))
    assert (story.web.spec, story.web.state, story.web.runner) == (SMALL, State.PENDING, RUNNER)


@pytest.mark.parametrize("handed", [False, True], ids=["under way", "handed over"])
@pytest.mark.parametrize("order", [None, RestartVm("web"), StopVm("web")], ids=str)
def test_what_only_moves_starts_as_it_ran_and_what_is_ordered_as_declared(
    story: Story, order: Command | None, handed: bool
) -> None:
    story.declare(1)
    story.run()
    story.declare(1, OTHER, NEW)
    story.tell(MoveVm("web", 2, "anna"))
    vm, other = story.web, story.law.cluster.nodes[2].incarnation
    assert vm.holder is not None
    if handed or order is None:
        hand_over = HandOverVm("web", vm.uid, vm.holder.epoch, 2, other)
        assert isinstance(story.tell(hand_over), Accepted)
    if order is not None:
        story.tell(order)
    story.report(State.STOPPED)
    stopped = isinstance(order, StopVm)
    assert story.web.state is (State.STOPPED if stopped else State.PENDING)
    assert story.web.spec == (SMALL if order is None else OTHER)


def test_a_move_that_came_to_nothing_keeps_no_change_away(story: Story) -> None:
    story.declare(1)
    story.run()
    story.declare(1, OTHER, NEW)
    story.tell(MoveVm("web", 2, "anna"))
    assert story.web.holder is not None
    story.tell(AbandonMove("web", story.web.uid, story.web.holder.epoch, "it does not build"))
    story.tell(RestartVm("web"))
    story.report(State.STOPPED)
    assert (story.web.spec, story.web.state) == (OTHER, State.PENDING)


def test_a_change_that_was_taken_back_builds_nothing_anew(story: Story) -> None:
    story.declare(1)
    story.run()
    story.declare(1, OTHER, NEW)
    story.declare(1, SMALL, OLD)
    story.tell(RestartVm("web"))
    story.report(State.STOPPED)
    assert (story.web.spec, story.web.runner) == (SMALL, RUNNER)


def test_what_failed_is_tried_again_as_declared(story: Story) -> None:
    story.declare(1)
    incarnation = story.law.cluster.nodes[1].incarnation
    story.tell(PlaceVm("web", story.web.uid, 1, incarnation))
    story.report(State.FAILED)
    assert story.web.state is State.FAILED
    story.declare(1, SMALL, NEW, policy=Policy(restart_limit=7))
    assert (story.web.state, story.web.policy.restart_limit) == (State.FAILED, 7)
    story.declare(1, OTHER, "newer")
    assert (story.web.state, story.web.spec) == (State.PENDING, OTHER)


@pytest.mark.parametrize("stopped", [False, True], ids=["failed", "stopped while it waited"])
def test_what_nobody_holds_is_started_as_declared(story: Story, stopped: bool) -> None:
    """It ended by itself, as what it was; to start it is an order."""
    first, second = (VmSpec(packed(content), 1, 512) for content in CONTENTS[:2])
    policy = Policy(restart_limit=5 if stopped else 0)
    story.declare(1, first, policy=policy, content=CONTENTS[0])
    story.run()
    story.declare(1, second, NEW, policy=policy, content=CONTENTS[1])
    story.report(State.FAILED)
    if stopped:
        story.tell(StopVm("web"))
    assert (story.web.spec, story.web.holder) == (first, None)
    assert isinstance(story.tell(StartVm("web")), Accepted)
    assert (story.web.spec, story.web.state, story.web.runner) == (second, State.PENDING, None)


def test_another_check_begins_without_what_the_last_one_said(story: Story) -> None:
    """A guest that had passed any check would count as passing this one, never asked."""
    story.declare(1, policy=Policy(check=GuestCheck(CheckKind.TCP, "10.0.0.2:80")))
    story.run()
    holder = story.web.holder
    assert holder is not None
    well = ReportHealth(
        "web",
        story.web.uid,
        holder.node_id,
        holder.incarnation,
        holder.epoch,
        story.session(1),
        HealthState.OK,
        "takes connections",
    )
    assert isinstance(story.tell(well), Accepted)
    policy = replace(story.web.policy, priority=1)
    story.declare(1, SMALL, NEW, policy=policy)
    assert story.web.health is not None
    story.declare(1, SMALL, OLD, policy=replace(policy, check=GuestCheck(CheckKind.CONSOLE, "up")))
    assert story.web.health is None


def test_its_volumes_tie_it_whatever_is_declared(story: Story) -> None:
    story.declare(1, policy=Policy(failover=Failover.NEVER))
    story.run()
    story.declare(1, OTHER, NEW, policy=Policy(failover=Failover.NEVER))
    story.tell(StopVm("web"))
    story.report(State.STOPPED)
    assert (story.web.spec, story.web.runner, story.web.tied_to) == (OTHER, None, 1)


def test_the_owner_that_leaves_owns_nothing(story: Story) -> None:
    story.declare(2)
    story.tell(RemoveNode(2))
    story.tell(SettleNode(2, "j2", is_member=False))
    assert story.owner is None


def test_a_packed_source_stays_as_long_as_anything_needs_it(story: Story) -> None:
    first, second = (VmSpec(packed(content), 1, 512) for content in CONTENTS[:2])
    story.declare(1, first, OLD, content=CONTENTS[0])
    story.run()
    story.declare(1, second, NEW, content=CONTENTS[1])
    assert len(story.law.cluster.sources) == 2
    story.tell(RestartVm("web"))
    story.report(State.STOPPED)
    story.declare(1, second, NEW, content=CONTENTS[1])
    assert set(story.law.cluster.sources.values()) == {CONTENTS[1]}


@pytest.mark.parametrize(
    ("spec", "more", "code"),
    [
        (VmSpec(StoreSource("/nix/store/0-vm"), 0, 1), {}, Code.BAD_ARGUMENT),
        (VmSpec(StoreSource("/nix/store/0-vm"), 99, 512), {}, Code.TOO_LARGE),
        (VmSpec(packed(CONTENTS[0]), 1, 512), {"content": b"another"}, Code.BAD_ARGUMENT),
        (SMALL, {"policy": Policy(restart_limit=-1)}, Code.BAD_ARGUMENT),
    ],
)
def test_what_no_vm_can_be_changes_nothing(
    story: Story, spec: VmSpec, more: dict[str, object], code: Code
) -> None:
    refused(story.declare(1, spec, NEW, **more), code)
    story.declare(1)
    before = story.web
    refused(story.declare(1, spec, NEW, **more), code)
    assert story.web == before


def test_a_name_is_free_once_its_tombstone_is_gone(story: Story) -> None:
    story.tell(CreateVm("web", SMALL))
    story.run()
    story.tell(DeleteVm("web"))
    refused(story.declare(1), Code.BUSY)
    story.report(State.STOPPED)
    assert isinstance(story.declare(1), Accepted)
