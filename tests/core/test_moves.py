"""Moves and drains: what the law accepts, and what a leader does about them."""

from dataclasses import replace
from typing import Any

import pytest

from blixard.commands import (
    AbandonMove,
    AssignStandby,
    Command,
    DeclareNodeDown,
    DrainNode,
    Entry,
    HandOverVm,
    Kept,
    MoveVm,
    PlaceVm,
    RegisterNode,
    ReportVm,
    ResumeNode,
    StopVm,
)
from blixard.decide import leader
from blixard.errors import Code
from blixard.machine import apply
from blixard.model import (
    Accepted,
    Cluster,
    Drain,
    Holder,
    Move,
    Outcome,
    Readiness,
    Reason,
    Rejected,
    Release,
    Standby,
    State,
    Vm,
)
from blixard.policy import Policy, Term
from blixard.scheduler import Planner
from core.facts import FREE, ROOM, RUNNER, cluster_of, node_of

RELEASE = Release(30_000, kill=False)
MOVING = replace(FREE, move=Move(2, "anna", 5, RELEASE))
READY = Standby(2, 12, Readiness.BUILT)
BY_DRAIN = "the drain of node-1 by anna"
DRAINED = replace(node_of(1), drain=Drain("anna", "", 0))


def after(cluster: Cluster, *commands: Command) -> tuple[Cluster, Outcome]:
    outcome: Outcome = Accepted(0)
    for index, command in enumerate(commands, start=100):
        cluster, outcome = apply(cluster, index, Entry(command, at_ms=index * 1_000))
    return cluster, outcome


def refusal(cluster: Cluster, command: Command) -> Rejected:
    changed, outcome = after(cluster, command)
    assert isinstance(outcome, Rejected)
    assert changed == cluster
    return outcome


# --- the law --------------------------------------------------------------------------------------


def test_a_vm_stays_where_it_is_until_the_other_node_is_ready() -> None:
    cluster, outcome = after(cluster_of(FREE), MoveVm("web", 2, "anna", 7_000))
    assert outcome == Accepted(100)
    moving = cluster.vms["web"]
    assert (moving.state, moving.holder, moving.release) == (State.RUNNING, FREE.holder, None)
    assert moving.move == Move(2, "anna", 100_000, Release(7_000, kill=False))
    cluster, _ = after(cluster, HandOverVm("web", 20, 30, 2, 12))
    stopping = cluster.vms["web"]
    assert (stopping.state, stopping.holder) == (State.STOPPING, FREE.holder)
    assert stopping.release == Release(7_000, kill=False)


def test_the_time_a_vm_was_away_is_told() -> None:
    stopped = ReportVm("web", 20, 1, 11, 30, 0, State.STOPPED, Reason("released", "gone"))
    cluster, _ = after(cluster_of(MOVING), HandOverVm("web", 20, 30, 2, 12), stopped)
    assert cluster.vms["web"].state is State.PENDING
    runs = ReportVm("web", 20, 2, 12, 101, 0, State.RUNNING, Reason("active", "runs on node-2"))
    placed, outcome = apply(cluster, 101, Entry(PlaceVm("web", 20, 2, 12), 101_500))
    assert isinstance(outcome, Accepted)
    arrived, _ = apply(placed, 102, Entry(runs, 104_200))
    vm = arrived.vms["web"]
    assert vm.move is None
    assert vm.reason == Reason("moved", "runs on node-2, moved there within 4.2 s")


@pytest.mark.parametrize(
    ("vm", "to", "code", "said"),
    [
        (FREE, 1, Code.RULE_REFUSES, "web is on node-1 already"),
        (FREE, 9, Code.NO_SUCH_NODE, "no node with id 9"),
        (FREE, 3, Code.RULE_REFUSES, "web cannot move to node-3: is drained by anna"),
        (FREE, 4, Code.RULE_REFUSES, "web cannot move to node-4: is down"),
        (replace(FREE, volumes=("a",)), 2, Code.RULE_REFUSES, "web is tied to node-1"),
        (
            replace(FREE, policy=Policy(require=(Term("zone", "a"),))),
            2,
            Code.RULE_REFUSES,
            "web cannot move to node-2: has no label zone, and zone=a is required",
        ),
        (
            replace(FREE, spec=replace(FREE.spec, memory_mib=5_000)),
            2,
            Code.RULE_REFUSES,
            "4096 of 4096 MiB free, 5000 wanted",
        ),
        (replace(FREE, release=RELEASE), 2, Code.BUSY, "web is being stopped"),
        (replace(FREE, holder=None, state=State.STOPPED), 2, Code.NOT_RUNNING, "it is stopped"),
        (replace(FREE, holder=None, state=State.STOPPED), 9, Code.NOT_RUNNING, "it is stopped"),
        (replace(FREE, state=State.UNREACHABLE), 2, Code.NOT_RUNNING, "it is unreachable"),
    ],
)
def test_what_cannot_move_says_why(vm: Vm, to: int, code: Code, said: str) -> None:
    nodes = (
        node_of(1),
        node_of(2),
        replace(node_of(3), drain=Drain("anna", "", 0)),
        replace(node_of(4), is_down=True),
    )
    refused = refusal(cluster_of(vm, nodes=nodes), MoveVm("web", to, "anna"))
    assert refused.code is code
    assert said in refused.message
    assert refused.fixes
    unknown = refusal(cluster_of(vm), MoveVm("wbe", to, "anna"))
    assert unknown.code is Code.NO_SUCH_VM


@pytest.mark.parametrize(
    "word",
    [
        HandOverVm("web", 20, 29, 2, 12),
        HandOverVm("web", 21, 30, 2, 12),
        HandOverVm("web", 20, 30, 1, 11),
        HandOverVm("web", 20, 30, 2, 11),
        HandOverVm("wbe", 20, 30, 2, 12),
        AbandonMove("web", 20, 29, "it cannot"),
        AbandonMove("web", 21, 30, "it cannot"),
    ],
)
def test_a_word_that_was_overtaken_changes_nothing(word: Command) -> None:
    assert refusal(cluster_of(MOVING), word).code is Code.STALE
    elsewhere = replace(MOVING, holder=Holder(2, 12, 30))
    arrived = refusal(cluster_of(elsewhere), HandOverVm("web", 20, 30, 2, 12))
    assert arrived.code is Code.STALE, "it is there already"


def test_a_node_that_filled_up_meanwhile_gets_nothing() -> None:
    other = replace(FREE, name="db", uid=21, holder=Holder(2, 12, 40))
    full = replace(other, spec=replace(FREE.spec, memory_mib=4_000))
    refused = refusal(cluster_of(MOVING, full), HandOverVm("web", 20, 30, 2, 12))
    assert refused.code is Code.STALE


def test_room_is_kept_for_what_moves() -> None:
    large = replace(MOVING, spec=replace(FREE.spec, memory_mib=4_000))
    waiting = replace(FREE, name="db", uid=21, holder=None, state=State.PENDING)
    refused = refusal(cluster_of(large, waiting), PlaceVm("db", 21, 2, 12))
    assert "96 of 4096 MiB free" in refused.message


def test_a_move_is_called_off_by_moving_it_to_where_it_is() -> None:
    cluster, outcome = after(cluster_of(MOVING), MoveVm("web", 1, "anna"))
    assert cluster.vms["web"].move is None
    assert outcome == Accepted(100, "web stays on node-1")


def test_a_stop_ends_a_move() -> None:
    stopped = ReportVm("web", 20, 1, 11, 30, 0, State.STOPPED, Reason("released", "gone"))
    cluster, _ = after(cluster_of(MOVING), StopVm("web"), stopped)
    assert (cluster.vms["web"].state, cluster.vms["web"].move) == (State.STOPPED, None)


def test_a_stop_ends_a_move_also_between_the_nodes() -> None:
    """Else it would keep room on the other node, and a drain would wait for it to arrive."""
    move = Move(2, BY_DRAIN, 5, RELEASE, handed_ms=6)
    waiting = replace(FREE, holder=None, state=State.PENDING, move=move)
    other = replace(FREE, name="db", uid=21)
    cluster, _ = after(cluster_of(waiting, other, nodes=(DRAINED, node_of(2))), StopVm("web"))
    assert (cluster.vms["web"].state, cluster.vms["web"].move) == (State.STOPPED, None)
    duties = list(leader.duties(cluster, leader.Sight(1, {1, 2})))
    assert MoveVm("db", 2, BY_DRAIN) in duties


def test_a_drain_ends_with_a_resume_and_calls_its_moves_off() -> None:
    leaving = replace(FREE, name="db", uid=21, move=Move(2, BY_DRAIN, 5, RELEASE))
    cluster, _ = after(cluster_of(MOVING, leaving), DrainNode(1, "anna", "update"))
    assert cluster.nodes[1].drain == Drain("anna", "update", 100_000)
    again, outcome = after(cluster, DrainNode(1, "ben"))
    assert again.nodes[1].drain == cluster.nodes[1].drain
    assert "already" in getattr(outcome, "note", "")
    cluster, _ = after(cluster, ResumeNode(1, "anna"))
    assert cluster.nodes[1].drain is None
    assert cluster.vms["db"].move is None
    assert cluster.vms["web"].move == MOVING.move, "a person asked for that one"
    _, outcome = after(cluster, ResumeNode(1, "anna"))
    assert "already" in getattr(outcome, "note", "")
    for command in (DrainNode(9, "anna"), ResumeNode(9, "anna")):
        assert refusal(cluster, command).code is Code.NO_SUCH_NODE


@pytest.mark.parametrize(("until_restart", "lasts"), [(False, True), (True, False)])
def test_a_drain_until_the_restart_ends_with_it(until_restart: bool, lasts: bool) -> None:
    register = RegisterNode(1, "m1", "j1", "n1:7001", 11, ROOM, "1")
    drain = DrainNode(1, "anna", until_restart=until_restart)
    cluster, _ = after(cluster_of(), drain, register)
    assert (cluster.nodes[1].drain is not None) == lasts


def test_what_outlives_the_drain_until_the_restart_stays() -> None:
    kept = replace(FREE, keeps=True, move=Move(2, BY_DRAIN, 5, RELEASE))
    until_restart = replace(node_of(1), drain=Drain("anna", "", 0, until_restart=True))
    still_there = (Kept("web", 20, 30),)
    back = RegisterNode(1, "m1", "j1", "n1:7001", 11, ROOM, "1", kept=still_there)
    cluster, _ = after(cluster_of(kept, nodes=(until_restart, node_of(2))), back)
    assert cluster.nodes[1].drain is None
    assert cluster.vms["web"].holder == Holder(1, 100, 30)
    assert cluster.vms["web"].move is None


def test_asked_again_a_drain_tries_anew_what_came_to_nothing() -> None:
    failed = replace(MOVING, move=Move(2, "anna", 5, RELEASE, failed="it does not build"))
    cluster, _ = after(cluster_of(failed, nodes=(DRAINED, node_of(2))), DrainNode(1, "anna"))
    assert cluster.vms["web"].move is None


def test_what_a_lost_host_may_still_run_moves_no_more() -> None:
    """Else it was ordered to stop at once: it was unreachable no more, and ended with its host's
    return."""
    kept = replace(MOVING, keeps=True, standby=READY)
    cluster, _ = after(cluster_of(kept), DeclareNodeDown(1, 11, 0))
    assert (cluster.vms["web"].state, cluster.vms["web"].move) == (State.UNREACHABLE, None)
    duties = leader.duties(cluster, leader.Sight(2, {1, 2}))
    assert not any(isinstance(duty, HandOverVm) for duty in duties)


def test_a_vm_that_fails_where_it_moved_may_go_back() -> None:
    move = Move(2, "anna", 5, RELEASE, handed_ms=6)
    arrived = replace(FREE, holder=Holder(2, 12, 30), last_node=2, state=State.STARTING, move=move)
    exited = ReportVm("web", 20, 2, 12, 30, 0, State.FAILED, Reason("guest-exited", "no"))
    cluster, _ = after(cluster_of(arrived), exited)
    web = cluster.vms["web"]
    assert (web.state, web.failed_on, web.move) == (State.PENDING, 2, None)
    assert Planner(cluster).place(web).node_id == 1


def test_a_move_that_came_to_nothing_names_no_node() -> None:
    """It would start where it cannot be built, as often as it is restarted, weeks later."""
    failed = Move(2, "anna", 5, RELEASE, failed="it does not build on node-2")
    vm = replace(FREE, holder=None, state=State.PENDING, move=failed)
    for policy in (Policy(), Policy(prefer=(Term("zone", "a"),))):
        waiting = replace(vm, policy=policy)
        planner = Planner(cluster_of(waiting))
        assert planner.place(waiting).node_id == 1
        assert planner.verdicts(waiting)[0].node_id == 1
    cluster, outcome = after(cluster_of(vm), PlaceVm("web", 20, 2, 12))
    assert isinstance(outcome, Accepted)
    assert cluster.vms["web"].move is None, "it has not moved"


# --- the leader -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vm", "silent", "duties"),
    [
        (MOVING, frozenset(), [AssignStandby("web", 20, 2, 12)]),
        (replace(MOVING, standby=Standby(2, 12)), frozenset(), []),
        (replace(MOVING, standby=READY), frozenset(), [HandOverVm("web", 20, 30, 2, 12)]),
        (replace(MOVING, standby=Standby(2, 7)), frozenset(), [AssignStandby("web", 20, 2, 12)]),
        (
            replace(MOVING, standby=Standby(2, 12, Readiness.FAILED)),
            frozenset(),
            [AbandonMove("web", 20, 30, "it does not build on node-2")],
        ),
        (replace(MOVING, standby=READY), frozenset({2}), []),
        (
            replace(MOVING, state=State.BUILDING),
            frozenset(),
            [HandOverVm("web", 20, 30, 2, 12)],
        ),
        (replace(MOVING, release=RELEASE, state=State.STOPPING), frozenset(), []),
        (replace(MOVING, holder=Holder(2, 12, 40), state=State.STARTING), frozenset(), []),
    ],
)
def test_a_move_goes_on_step_by_step(vm: Vm, silent: frozenset[int], duties: list[Any]) -> None:
    sight = leader.Sight(1, {1, 2}, silent)
    assert list(leader.duties(cluster_of(vm), sight)) == duties


def test_a_move_to_a_node_that_is_lost_comes_to_nothing() -> None:
    nodes = (node_of(1), replace(node_of(2), is_down=True))
    duties = leader.duties(cluster_of(MOVING, nodes=nodes), leader.Sight(1, {1, 2}, frozenset({2})))
    assert next(duties) == AbandonMove("web", 20, 30, "node-2 is down")
    duties = leader.duties(cluster_of(MOVING, nodes=nodes[:1]), leader.Sight(1, {1}))
    assert next(duties) == AbandonMove("web", 20, 30, "node-2 has left the cluster")


def test_a_drain_moves_one_vm_at_a_time() -> None:
    two = [replace(FREE, name=name, uid=uid, standby=READY) for name, uid in (("a", 1), ("b", 2))]
    sight = leader.Sight(1, {1, 2})
    nodes = (DRAINED, node_of(2))
    assert list(leader.duties(cluster_of(*two, nodes=nodes), sight)) == [MoveVm("a", 2, BY_DRAIN)]
    first = replace(two[0], move=Move(2, BY_DRAIN, 0, RELEASE), release=RELEASE)
    stopping = replace(first, state=State.STOPPING)
    assert not list(leader.duties(cluster_of(stopping, two[1], nodes=nodes), sight))
    there = replace(first, release=None, holder=Holder(2, 12, 50), state=State.STARTING)
    assert not list(leader.duties(cluster_of(there, two[1], nodes=nodes), sight))
    done = replace(there, state=State.RUNNING, move=None, keeps=True, standby=None)
    left = list(leader.duties(cluster_of(done, two[1], nodes=nodes), sight))
    assert left == [MoveVm("b", 2, BY_DRAIN)]


def test_a_drain_passes_over_what_has_to_stay() -> None:
    tied = replace(FREE, name="a", uid=1, volumes=("data.img",))
    failed = replace(FREE, name="b", uid=2, move=Move(2, BY_DRAIN, 0, RELEASE, failed="no"))
    moved = replace(FREE, name="c", uid=3, runner=RUNNER, standby=READY)
    cluster = cluster_of(tied, failed, moved, nodes=(DRAINED, node_of(2)))
    duties = leader.duties(cluster, leader.Sight(1, {1, 2}))
    assert [duty for duty in duties if isinstance(duty, MoveVm)] == [MoveVm("c", 2, BY_DRAIN)]
