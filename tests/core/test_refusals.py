"""Every refusal: its code, its words and its way out."""

from dataclasses import replace

import pytest

from blixard.commands import (
    AddNode,
    AssignStandby,
    AttestState,
    CheckIn,
    Command,
    ConfirmDown,
    CreateVm,
    DeclareNodeDown,
    DeleteVm,
    Entry,
    PlaceVm,
    RaiseLevel,
    RegisterNode,
    RemoveNode,
    Renewal,
    RenewLeases,
    ReportStandby,
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
    Capacity,
    Outcome,
    Readiness,
    Reason,
    Rejected,
    State,
    VmSpec,
    Wanted,
)
from blixard.policy import Policy
from core.founding import ROOM, SMALL, add, register, told
from core.law import Law
from core.strategies import packed

LARGE = replace(SMALL, vcpus=16)

STORY: list[Command] = [
    register(1),  # 1: node-1's incarnation
    add(2),
    SettleNode(2, "j2", is_member=True),
    register(2, capacity=Capacity(1, 1024)),  # 4
    add(3),  # joins, has not registered
    CreateVm("waits", SMALL),  # 6
    CreateVm("runs", SMALL),  # 7
    PlaceVm("runs", 7, 1, 1),  # 8
    CreateVm("rests", SMALL, Wanted.STOPPED),  # 9
    CreateVm("goes", SMALL),  # 10
    PlaceVm("goes", 10, 1, 1),  # 11: node-1 is full
    DeleteVm("goes"),
    add(4),
    RemoveNode(4),  # leaves
]


def report(**changes: object) -> ReportVm:
    true = ReportVm("runs", 7, 1, 1, 8, 1, State.RUNNING, Reason("active", "runs"))
    return replace(true, **changes)  # type: ignore[arg-type]


def outcome_of(command: Command) -> Outcome:
    return told(*STORY).apply(Entry(command, at_ms=99))


ASKED_BY_PEOPLE = [
    (CreateVm("runs", SMALL), Code.EXISTS, "already exists", "vm delete runs"),
    (CreateVm("goes", SMALL), Code.BUSY, "still being deleted", "vm status goes"),
    (CreateVm("new", LARGE), Code.TOO_LARGE, "16 vCPUs", "--vcpus"),
    (StartVm("none"), Code.NO_SUCH_VM, '"none"', "vm list"),
    (StopVm("none"), Code.NO_SUCH_VM, '"none"', "vm list"),
    (RestartVm("none"), Code.NO_SUCH_VM, '"none"', "vm list"),
    (DeleteVm("none"), Code.NO_SUCH_VM, '"none"', "vm list"),
    (StartVm("goes"), Code.NO_SUCH_VM, '"goes"', "vm list"),
    (StopVm("goes"), Code.NO_SUCH_VM, '"goes"', "vm list"),
    (RestartVm("goes"), Code.NO_SUCH_VM, '"goes"', "vm list"),
    (replace(add(2), join_id="other"), Code.NODE_TAKEN, "already taken", "cluster leave --node 2"),
    (add(4), Code.NODE_TAKEN, "already taken", "another --id"),
    (replace(add(5), address="n1:7001"), Code.NODE_TAKEN, "belongs to node-1", "--advertise"),
    (RemoveNode(9), Code.NO_SUCH_NODE, "id 9", "cluster status"),
    (RemoveNode(1), Code.NODE_HOLDS_VMS, "2 VMs: goes, runs", "vm stop goes runs"),
    (register(9), Code.NOT_A_MEMBER, "node-9", "join again"),
    (register(4), Code.NOT_A_MEMBER, "node-4", "join again"),
    (
        replace(register(1, previous=1), machine_id="other"),
        Code.NODE_TAKEN,
        "another machine",
        "switch that machine off",
    ),
    (CheckIn(9, 1, "n9:7001", ROOM, "1.0"), Code.NOT_A_MEMBER, "node-9", "join again"),
    (SetPolicy("none", Policy()), Code.NO_SUCH_VM, '"none"', "vm list"),
    (SetPolicy("goes", Policy()), Code.NO_SUCH_VM, '"goes"', "vm list"),
    (SetPolicy("runs", Policy(restart_limit=-1)), Code.BAD_ARGUMENT, "restart limit", "0 to 1000"),
    (
        CreateVm("new", SMALL, policy=Policy(restart_limit=1_001)),
        Code.BAD_ARGUMENT,
        "restart limit",
        "0 to 1000",
    ),
    (ConfirmDown(9, 1, "me"), Code.NO_SUCH_NODE, "id 9", "node list"),
    (ConfirmDown(1, 1, "me"), Code.LEASE_RUNS, "lease of node-1 may still run", "about 9 s"),
]


@pytest.mark.parametrize(("command", "code", "words", "way_out"), ASKED_BY_PEOPLE)
def test_a_refusal_says_why_and_what_to_do(
    command: Command, code: Code, words: str, way_out: str
) -> None:
    outcome = outcome_of(command)
    assert isinstance(outcome, Rejected)
    assert outcome.code is code
    assert words in outcome.message
    assert way_out in " ".join(f"{fix.text} {fix.command}" for fix in outcome.fixes)


SAID_BY_NODES = [
    (CreateVm("new", replace(SMALL, source=packed(b"a")), content=b"b"), Code.BAD_ARGUMENT),
    (CreateVm("new", SMALL, Wanted.DELETED), Code.BAD_ARGUMENT),
    (PlaceVm("none", 6, 1, 1), Code.STALE),
    (PlaceVm("waits", 7, 1, 1), Code.STALE),
    (PlaceVm("runs", 7, 1, 1), Code.STALE),
    (PlaceVm("rests", 9, 1, 1), Code.STALE),
    (PlaceVm("waits", 6, 9, 1), Code.STALE),
    (PlaceVm("waits", 6, 1, 2), Code.STALE),
    (PlaceVm("waits", 6, 3, 0), Code.STALE),
    (PlaceVm("waits", 6, 4, 0), Code.STALE),
    (PlaceVm("waits", 6, 1, 1), Code.STALE),
    (PlaceVm("waits", 6, 2, 4), Code.STALE),
    (report(name="none"), Code.STALE),
    (report(uid=6), Code.STALE),
    (report(node_id=2), Code.STALE),
    (report(incarnation=2), Code.STALE),
    (report(epoch=7), Code.STALE),
    (report(name="goes", uid=10, epoch=11), Code.STALE),
    (report(state=State.PENDING), Code.BAD_ARGUMENT),
    (report(state=State.STOPPING), Code.BAD_ARGUMENT),
    (register(1), Code.STALE),
    (register(1, previous=2), Code.STALE),
    (CheckIn(1, 2, "n1:7001", ROOM, "1.0"), Code.STALE),
    (CheckIn(3, 0, "n3:7001", ROOM, "1.0"), Code.STALE),
    (RenewLeases((Renewal(9, 1, 5),)), Code.STALE),
    (RenewLeases((Renewal(1, 2, 5),)), Code.STALE),
    (RenewLeases((Renewal(1, 1, 0),)), Code.STALE),
    (RenewLeases((Renewal(3, 0, 5),)), Code.STALE),
    (DeclareNodeDown(9, 1, 0), Code.STALE),
    (DeclareNodeDown(1, 2, 0), Code.STALE),
    (DeclareNodeDown(1, 1, 1), Code.STALE),
    (DeclareNodeDown(3, 0, 0), Code.STALE),
    (AssignStandby("none", 6, 2, 4), Code.STALE),
    (AssignStandby("waits", 6, 2, 4), Code.STALE),
    (AssignStandby("runs", 7, 2, 5), Code.STALE),
    (AssignStandby("runs", 7, 3, 0), Code.STALE),
    (ReportStandby("runs", 7, 2, 4, Readiness.BUILT), Code.STALE),
    (replace(register(1, previous=1), lease_ms=0), Code.BAD_ARGUMENT),
    (SettleNode(9, "j9", is_member=True), Code.STALE),
    (SettleNode(3, "j3", is_member=False), Code.STALE),
    (SettleNode(2, "j2", is_member=True), Code.STALE),
    (SettleNode(2, "j2", is_member=False), Code.STALE),
    (SettleNode(4, "j4", is_member=True), Code.STALE),
    (RaiseLevel(1), Code.STALE),
    (RaiseLevel(2), Code.STALE),
    (AttestState(0, b""), Code.STALE),
    (AttestState(len(STORY) + 1, b""), Code.STALE),
]


@pytest.mark.parametrize(("command", "code"), SAID_BY_NODES)
def test_an_outdated_word_has_no_say(command: Command, code: Code) -> None:
    outcome = outcome_of(command)
    assert isinstance(outcome, Rejected)
    assert outcome.code is code
    assert outcome.message


def test_the_last_member_stays() -> None:
    law = told(register(1), add(2))
    outcome = law.apply(Entry(RemoveNode(1), 0))
    assert isinstance(outcome, Rejected)
    assert outcome.code is Code.WOULD_BREAK_QUORUM


def test_many_held_vms_are_counted_not_listed() -> None:
    law = told(
        register(1, capacity=Capacity(99, 99_000)), add(2), SettleNode(2, "j2", is_member=True)
    )
    for number in range(7):
        name = f"vm{number}"
        law.apply(Entry(CreateVm(name, SMALL), 0))
        law.apply(Entry(PlaceVm(name, law.index, 1, 1), 0))
    outcome = law.apply(Entry(RemoveNode(1), 0))
    assert isinstance(outcome, Rejected)
    assert "7 VMs: vm0, vm1, vm2, vm3, vm4 ..." in outcome.message


@pytest.mark.parametrize(
    ("command", "note"),
    [
        (StartVm("runs"), "already starting on node-1"),
        (StartVm("waits"), "already pending"),
        (StopVm("rests"), "already stopped"),
        (add(2), "already admitted"),
    ],
)
def test_what_is_so_already_is_accepted_and_said(command: Command, note: str) -> None:
    law = told(*STORY)
    before = law.cluster
    outcome = law.apply(Entry(command, 99))
    assert isinstance(outcome, Accepted)
    assert note in outcome.note
    assert law.cluster == before


def test_a_start_while_it_stops_is_kept_for_later() -> None:
    law = told(*STORY, StopVm("runs"))
    outcome = law.apply(Entry(StartVm("runs"), 99))
    assert isinstance(outcome, Accepted)
    assert "once it has stopped" in outcome.note
    law.apply(Entry(report(state=State.STOPPED), 99))
    assert law.cluster.vms["runs"].state is State.PENDING


def test_more_disk_than_any_node_has_is_refused() -> None:
    """Else it would wait for ever, like anything else that no node could hold."""
    law = told(register(1))
    disk_mib = law.cluster.nodes[1].capacity.disk_mib
    outcome = law.apply(Entry(CreateVm("web", replace(SMALL, disk_mib=disk_mib + 1)), 0))
    assert isinstance(outcome, Rejected)
    assert outcome.code is Code.TOO_LARGE
    assert f"{disk_mib + 1} MiB of disk" in outcome.message
    assert "--disk" in outcome.fixes[0].text


def test_a_vm_too_large_since_a_node_shrank_does_not_start() -> None:
    law = told(register(1), CreateVm("web", SMALL, Wanted.STOPPED))
    law.apply(Entry(CheckIn(1, 1, "n1:7001", Capacity(1, 512), "1.0"), 0))
    outcome = law.apply(Entry(StartVm("web"), 0))
    assert isinstance(outcome, Rejected)
    assert outcome.code is Code.TOO_LARGE


# --- releases, and replicas that agree ----------------------------------------------------------


def of_level(level: int) -> Law:
    """Node-1 and node-2 support level 3, and the cluster is at `level`."""
    law = told(replace(register(1), level=3), replace(add(2), level=3))
    for step in range(2, level + 1):
        assert isinstance(law.apply(Entry(RaiseLevel(step), 0)), Accepted)
    return law


def test_the_level_is_raised_step_by_step_as_far_as_all_nodes_support_it() -> None:
    law = of_level(1)
    for level, is_next in [(3, False), (2, True), (2, False), (1, False), (3, True), (4, False)]:
        assert isinstance(law.apply(Entry(RaiseLevel(level), 0)), Accepted) == is_next, level
    assert law.cluster.level == 3


def test_a_node_that_leaves_is_asked_as_well() -> None:
    law = told(register(1), add(2), replace(add(3), level=2))
    law.apply(Entry(CheckIn(1, 1, "n1:7001", ROOM, "2.0", level=2), 0))
    law.apply(Entry(RemoveNode(2), 0))
    assert isinstance(law.apply(Entry(RaiseLevel(2), 0)), Rejected)
    law.apply(Entry(SettleNode(2, "j2", is_member=False), 0))
    assert isinstance(law.apply(Entry(RaiseLevel(2), 0)), Accepted)


def test_without_nodes_there_is_no_level_to_raise() -> None:
    assert isinstance(told().apply(Entry(RaiseLevel(2), 0)), Rejected)


ADMISSIONS: list[AddNode | RegisterNode | CheckIn] = [
    add(3),
    add(2),
    register(2),
    CheckIn(1, 1, "n1:7001", ROOM, "1.0"),
]


@pytest.mark.parametrize(
    "command", ADMISSIONS, ids=["a-new-node", "a-known-node", "a-new-life", "a-new-daemon"]
)
def test_a_release_that_does_not_know_the_rules_is_refused(
    command: AddNode | RegisterNode | CheckIn,
) -> None:
    outcome = of_level(2).apply(Entry(command, 0))
    assert isinstance(outcome, Rejected)
    assert outcome.code is Code.RELEASE_TOO_OLD
    assert "level 1 at most, and the cluster is at level 2" in outcome.message
    assert "update it to the release of the other nodes" in outcome.fixes[0].text
    assert isinstance(of_level(2).apply(Entry(replace(command, level=2), 0)), Accepted)


def test_a_state_is_attested_once() -> None:
    law = told(*STORY)
    assert isinstance(law.apply(Entry(AttestState(10, b"d"), 0)), Accepted)
    for late in (10, 9):
        assert isinstance(law.apply(Entry(AttestState(late, b"d"), 0)), Rejected)
    assert isinstance(law.apply(Entry(AttestState(11, b"e"), 0)), Accepted)
    assert law.cluster.attested_index == 11


def test_a_wiped_data_directory_does_not_take_over_its_old_node() -> None:
    law = told(*STORY)
    outcome = law.apply(Entry(replace(register(1, previous=1), join_id="wiped"), 99))
    assert isinstance(outcome, Rejected)
    assert outcome.code is Code.NODE_TAKEN


@pytest.mark.parametrize("spec", [replace(SMALL, vcpus=-8), replace(SMALL, memory_mib=0)])
def test_a_vm_that_takes_nothing_is_refused(spec: VmSpec) -> None:
    """Less than nothing would make room for others that is not there."""
    outcome = outcome_of(CreateVm("new", spec))
    assert isinstance(outcome, Rejected)
    assert outcome.code is Code.BAD_ARGUMENT


def test_a_node_that_left_is_not_let_in_with_its_old_data() -> None:
    law = told(*STORY, SettleNode(4, "j4", is_member=False))
    again = law.apply(Entry(add(4), 99))
    assert isinstance(again, Rejected)
    assert again.code is Code.NOT_A_MEMBER
    assert "empty its data directory" in again.fixes[0].text
    assert isinstance(law.apply(Entry(replace(add(4), join_id="new"), 99)), Accepted)


def test_nobody_is_admitted_before_the_founder() -> None:
    """Who registers first in an empty cluster is its first member. Were another one admitted
    before, the founder would be a stranger to the cluster that it founded."""
    law = Law()
    early = law.apply(Entry(add(2), at_ms=0))
    assert isinstance(early, Rejected)
    assert early.code is Code.BUSY
    assert isinstance(law.apply(Entry(register(1), at_ms=0)), Accepted)
    assert isinstance(law.apply(Entry(add(2), at_ms=0)), Accepted)
