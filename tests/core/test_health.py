"""When a guest is well, and what its host does about one that is not."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixard.commands import Entry, PlaceVm, ReportHealth, ReportVm, SetPolicy, StopVm
from blixard.decide import node
from blixard.health import Tally
from blixard.machine import apply
from blixard.model import Accepted, Health, HealthState, Reason, Rejected, State, Vm
from blixard.policy import CheckKind, GuestCheck, Policy
from blixard.ports import Checked, SeenUnit, UnitState
from core.facts import FREE, ME, cluster_of, node_of

CHECK = GuestCheck(CheckKind.TCP, "10.0.0.9:80", failures=3, start_period_ms=10_000)
RESTARTS = replace(CHECK, restarts=True)
STARTING, OK, FAILING = HealthState


def after(*probes: tuple[int, bool], check: GuestCheck = CHECK) -> Tally:
    tally = Tally()
    for active_ms, passed in probes:
        tally = tally.after(check, active_ms, passed, "so")
    return tally


@pytest.mark.parametrize(
    ("probes", "state"),
    [
        ([], STARTING),
        ([(0, False), (5_000, False), (9_999, False)], STARTING),
        ([(9_999, False), (10_000, False), (11_000, False)], STARTING),
        ([(10_000, False), (11_000, False), (12_000, False)], FAILING),
        ([(100, True)], OK),
        ([(100, True), (200, False), (300, False)], OK),
        ([(100, True), (200, False), (300, False), (400, False)], FAILING),
        ([(100, True), (200, False), (300, False), (400, True), (500, False)], OK),
        ([(20_000, False)] * 3 + [(30_000, True)], OK),
    ],
)
def test_thresholds(probes: list[tuple[int, bool]], state: HealthState) -> None:
    assert after(*probes).state(CHECK) is state


@given(
    probes=st.lists(st.tuples(st.integers(0, 30_000), st.booleans()), max_size=12),
    failures=st.integers(1, 4),
)
def test_a_guest_fails_by_failures_in_a_row_alone(
    probes: list[tuple[int, bool]], failures: int
) -> None:
    check = replace(CHECK, failures=failures)
    probes = sorted(probes, key=lambda probe: probe[0])
    state = after(*probes, check=check).state(check)
    first_pass = next((i for i, (_, passed) in enumerate(probes) if passed), len(probes))
    counting = [
        (at, passed) for i, (at, passed) in enumerate(probes) if i >= first_pass or at >= 10_000
    ]
    in_a_row = next((i for i, (_, ok) in enumerate(reversed(counting)) if ok), len(counting))
    assert (state is FAILING) == (in_a_row >= failures)
    assert state is not OK or any(passed for _, passed in probes)


def running(check: GuestCheck | None = CHECK, health: HealthState | None = None) -> Vm:
    known = Health(health, "so", 0) if health is not None else None
    return replace(FREE, policy=Policy(check=check), health=known)


ACTIVE = SeenUnit(20, 30, UnitState.ACTIVE, active_ms=9_000)
BAD = Tally(True, True, 3, "refused")
GOOD = Tally(True, True, 0, "it takes connections")
SLOW = Tally(True, False, 0, "refused")


def told(state: HealthState, text: str) -> ReportHealth:
    return ReportHealth("web", 20, 1, 11, 30, 12, state, text)


@pytest.mark.parametrize(
    ("vm", "unit", "found", "actions"),
    [
        (running(), ACTIVE, None, []),
        (running(), ACTIVE, (30, Tally()), []),
        (running(), ACTIVE, (30, SLOW), [told(STARTING, "refused")]),
        (running(health=OK), ACTIVE, (30, Tally(has_passed=True)), []),
        (running(health=STARTING), ACTIVE, (30, SLOW), []),
        (running(health=STARTING), ACTIVE, (30, GOOD), [told(OK, "it takes connections")]),
        (running(health=OK), ACTIVE, (30, BAD), [told(FAILING, "refused")]),
        (running(health=FAILING), ACTIVE, (30, BAD), []),
        (running(RESTARTS, OK), ACTIVE, (30, BAD), [told(FAILING, "refused")]),
        (running(RESTARTS, FAILING), ACTIVE, (30, BAD), [node.Stop("web", 30_000, kill=False)]),
        (running(RESTARTS, FAILING), ACTIVE, (30, GOOD), [told(OK, "it takes connections")]),
        (running(RESTARTS, FAILING), ACTIVE, (29, BAD), []),
        (running(RESTARTS, FAILING), replace(ACTIVE, state=UnitState.STOPPING), (30, BAD), []),
        (running(None, FAILING), ACTIVE, (30, BAD), []),
        (replace(running(), state=State.STARTING), replace(ACTIVE, active_ms=0), (30, BAD), []),
    ],
)
def test_what_a_host_does(vm: Vm, unit: SeenUnit, found: Any, actions: list[Any]) -> None:
    tallies = {"web": found} if found is not None else {}
    seen = list(node.actions(cluster_of(vm), ME, {"web": unit}, {}, {}, tallies))
    assert seen == actions


def test_a_guest_that_was_ended_for_failing_says_so() -> None:
    exited = replace(ACTIVE, state=UnitState.EXITED, detail="exited with status 0")
    for vm, code in (
        (running(RESTARTS, FAILING), "guest-unhealthy"),
        (running(CHECK, FAILING), "guest-exited"),
        (running(RESTARTS, OK), "guest-exited"),
    ):
        past = {"web": node.Past(30, ran_ms=90_000, well_ms=5_000)}
        (action,) = node.actions(cluster_of(vm), ME, {"web": exited}, {}, past)
        assert isinstance(action, ReportVm)
        assert (action.state, action.reason.code) == (State.FAILED, code)
        served_ms = 5_000 if code == "guest-unhealthy" else 90_000
        assert action.ran_ms == served_ms, "what it served counts, not what it took to notice"


def test_just_the_guests_that_run_here_are_checked() -> None:
    asked = dict(node.to_check(cluster_of(running()), ME, {"web": ACTIVE}))
    assert asked == {"web": Checked(30, CHECK, 9_000)}
    asked = dict(node.to_check(cluster_of(running(health=OK)), ME, {"web": ACTIVE}))
    assert asked["web"].has_passed, "whoever found that out"
    for vm, unit in (
        (running(None), ACTIVE),
        (replace(running(), state=State.STARTING), ACTIVE),
        (running(), replace(ACTIVE, epoch=29)),
        (running(), replace(ACTIVE, state=UnitState.STOPPING)),
    ):
        assert not dict(node.to_check(cluster_of(vm), ME, {"web": unit}))


def test_what_the_log_knows_of_health() -> None:
    cluster = cluster_of(running(), nodes=(replace(node_of(1), session=12), node_of(2)))
    cluster, outcome = apply(cluster, 40, Entry(told(OK, "fine"), 700))
    assert isinstance(outcome, Accepted)
    assert cluster.vms["web"].health == Health(OK, "fine", 700)
    cluster, _ = apply(cluster, 41, Entry(told(OK, "still fine"), 800))
    assert cluster.vms["web"].health == Health(OK, "still fine", 700)
    for stale in (
        replace(told(OK, ""), epoch=29),
        replace(told(OK, ""), session=11),
        replace(told(OK, ""), node_id=2),
        replace(told(OK, ""), uid=21),
    ):
        _, outcome = apply(cluster, 42, Entry(stale, 900))
        assert isinstance(outcome, Rejected)
    changed, _ = apply(cluster, 43, Entry(SetPolicy("web", Policy(check=RESTARTS)), 900))
    assert changed.vms["web"].health is None, "another check begins anew"
    failed = ReportVm("web", 20, 1, 11, 30, 12, State.FAILED, Reason("guest-unhealthy", "refused"))
    cluster, _ = apply(cluster, 44, Entry(failed, 950))
    vm = cluster.vms["web"]
    assert (vm.state, vm.failures, vm.health) == (State.PENDING, 1, None)
    placed, _ = apply(cluster, 45, Entry(PlaceVm("web", 20, 2, 12), 960))
    assert placed.vms["web"].health is None


def test_what_has_stopped_is_neither_well_nor_failing() -> None:
    stopped = ReportVm("web", 20, 1, 11, 30, 0, State.STOPPED, Reason("released", "gone"))
    cluster = cluster_of(running(health=FAILING))
    cluster, _ = apply(cluster, 100, Entry(StopVm("web"), 0))
    cluster, _ = apply(cluster, 101, Entry(stopped, 0))
    assert (cluster.vms["web"].state, cluster.vms["web"].health) == (State.STOPPED, None)
