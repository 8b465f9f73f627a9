"""Facts in, actions out: every branch of `decide.node`, one line each."""

from dataclasses import replace

import pytest

from blixard.commands import (
    Kept,
    ReportStandby,
    ReportVm,
)
from blixard.decide import node
from blixard.decide.node import (
    SETTLE_MS,
    Action,
    Build,
    CancelBuild,
    Discard,
    Past,
    ReleaseBuild,
    Start,
    Stop,
)
from blixard.model import (
    DEFAULT_GRACE_MS,
    Drain,
    Holder,
    Readiness,
    Reason,
    Release,
    Standby,
    State,
    Vm,
    Wanted,
)
from blixard.ports import BuildState, Run, SeenBuild, SeenUnit, UnitState
from core.facts import FREE, ME, PENDING, RUNNER, STORE, VM, cluster_of, node_of
from core.strategies import CONTENTS, packed


def unit(state: UnitState, active_ms: int = 0, epoch: int = 30, uid: int = 20) -> SeenUnit:
    return SeenUnit(uid, epoch, state, active_ms, "exit status 1")


def build(state: BuildState, epoch: int = 30) -> SeenBuild:
    return SeenBuild(
        epoch,
        state,
        line="compiling",
        runner=RUNNER if state is BuildState.BUILT else None,
        reason=Reason("build-failed", "no") if state is BuildState.FAILED else None,
    )


def report(state: State, code: str, text: str, runner: str | None = None) -> ReportVm:
    return ReportVm("web", 20, 1, 11, 30, 12, state, Reason(code, text), runner)


STARTING, ACTIVE = unit(UnitState.STARTING), unit(UnitState.ACTIVE, SETTLE_MS)
STOPPING, EXITED = unit(UnitState.STOPPING), unit(UnitState.EXITED)
BUILDING, BUILT = build(BuildState.BUILDING), build(BuildState.BUILT)
FAILED = build(BuildState.FAILED)
OLD = replace(BUILT, epoch=0)

GO = replace(VM, runner=RUNNER)
TOLD_BUILDING = replace(VM, state=State.BUILDING, reason=Reason("building", "compiling"))
RUNNING = replace(VM, state=State.RUNNING, runner=RUNNER)
RELEASED = replace(
    VM,
    state=State.STOPPING,
    wanted=Wanted.STOPPED,
    reason=Reason("requested", "stopped by request"),
    release=Release(5_000, kill=True),
)
GIVEN_UP = report(State.STOPPED, "requested", "stopped by request")
STOP_ORDERED = Stop("web", 5_000, kill=True)
STOP_GENTLY = Stop("web", DEFAULT_GRACE_MS, kill=False)

GO_AHEAD = Start("web", Run(20, 30, 11, RUNNER))

HELD: list[tuple[str, Vm, SeenUnit | None, SeenBuild | None, list[Action]]] = [
    ("nothing yet", VM, None, None, [Build("web", 30, STORE, b"")]),
    ("another runner, built in an earlier life", VM, None, OLD, [Build("web", 30, STORE, b"")]),
    ("its runner, built in an earlier life", GO, None, OLD, [GO_AHEAD]),
    ("builds ahead of the placement", VM, None, replace(BUILDING, epoch=20),
     [report(State.BUILDING, "building", "compiling")]),
    ("builds for an older placement", VM, None, replace(BUILDING, epoch=29),
     [Build("web", 30, STORE, b"")]),
    ("failed ahead of the placement", VM, None, replace(FAILED, epoch=20),
     [Build("web", 30, STORE, b"")]),
    ("failed for an older placement", VM, None, build(BuildState.FAILED, 29),
     [Build("web", 30, STORE, b"")]),
    ("builds", VM, None, BUILDING, [report(State.BUILDING, "building", "compiling")]),
    ("builds, no word yet", VM, None, replace(BUILDING, line=""),
     [report(State.BUILDING, "building", "build begun")]),
    ("builds, as told", TOLD_BUILDING, None, BUILDING, []),
    ("build failed", TOLD_BUILDING, None, FAILED, [report(State.FAILED, "build-failed", "no")]),
    ("built", TOLD_BUILDING, None, BUILT,
     [report(State.STARTING, "built", "starts its unit", RUNNER)]),
    ("built another runner", replace(VM, runner="/nix/store/other"), None, BUILT,
     [report(State.STARTING, "built", "starts its unit", RUNNER)]),
    ("built, as told", GO, None, BUILT, [GO_AHEAD]),
    ("its unit vanished", RUNNING, None, BUILT,
     [report(State.STARTING, "built", "starts its unit", RUNNER)]),
    ("unit starts", GO, STARTING, BUILT, []),
    ("unit too young", GO, unit(UnitState.ACTIVE, SETTLE_MS - 1), BUILT, []),
    ("unit runs", GO, ACTIVE, BUILT, [report(State.RUNNING, "active", "runs on node-1")]),
    ("unit runs, as told", RUNNING, ACTIVE, BUILT, []),
    ("unit stops by itself", RUNNING, STOPPING, BUILT, []),
    ("guest exited", RUNNING, EXITED, BUILT,
     [replace(report(State.FAILED, "guest-exited", "exit status 1"), ran_ms=5_000)]),
    ("unit of an older placement", GO, unit(UnitState.ACTIVE, 9, 29), BUILT, [STOP_GENTLY]),
    ("unit of an older VM", GO, unit(UnitState.ACTIVE, 9, 30, 19), BUILT, [STOP_GENTLY]),
    ("older unit has exited", GO, unit(UnitState.EXITED, epoch=29), BUILT, [Discard("web")]),
    ("released, nothing there", RELEASED, None, None, [GIVEN_UP]),
    ("released, was built", RELEASED, None, BUILT, [GIVEN_UP]),
    ("released, builds", RELEASED, None, BUILDING, [CancelBuild("web")]),
    ("released, starts", RELEASED, STARTING, BUILT, [STOP_ORDERED]),
    ("released, runs", RELEASED, ACTIVE, BUILT, [STOP_ORDERED]),
    ("released, stops", RELEASED, STOPPING, BUILT, [STOP_ORDERED]),
    ("released, exited", RELEASED, EXITED, BUILT, [GIVEN_UP]),
    ("released, older unit", RELEASED, unit(UnitState.ACTIVE, 9, 29), None, [STOP_ORDERED]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("vm", "seen", "built", "actions"), [row[1:] for row in HELD], ids=[row[0] for row in HELD]
)
def test_a_vm_that_this_node_holds(
    vm: Vm, seen: SeenUnit | None, built: SeenBuild | None, actions: list[Action]
) -> None:
    units = {"web": seen} if seen is not None else {}
    builds = {"web": built} if built is not None else {}
    past = {"web": Past(30, ran_ms=5_000)}
    assert list(node.actions(cluster_of(vm), ME, units, builds, past)) == actions


def test_what_the_fence_ended_has_not_failed() -> None:
    past = {"web": Past(30, ran_ms=5_000, is_fenced=True)}
    (told,) = node.actions(cluster_of(RUNNING), ME, {"web": EXITED}, {}, past)
    assert told == report(State.FAILED, "fenced", "the lease of node-1 ended, and the VM with it")


def test_what_ends_with_its_host_has_not_failed() -> None:
    """Whoever drained the host before. A VM that may not be restarted would wait for a person."""
    ending, units = replace(ME, host_ends=True), {"web": EXITED}
    for until_restart in (False, True):
        drained = replace(node_of(1), drain=Drain("anna", "", 0, until_restart))
        cluster = cluster_of(RUNNING, nodes=(drained, node_of(2)))
        (told,) = node.actions(cluster, ending, units, {}, {})
        assert told == report(State.STOPPED, "host-shutdown", "node-1 shuts down")
    undrained = list(node.actions(cluster_of(RUNNING), ending, units, {}, {}))
    assert undrained == [], "it would be placed here once more"


def test_a_vm_that_is_to_be_kept_is_started_so() -> None:
    cluster = cluster_of(replace(GO, keeps=True))
    (start,) = node.actions(cluster, ME, {}, {"web": BUILT}, {})
    assert start == Start("web", Run(20, 30, 11, RUNNER, keep=True))


STANDS_BY = replace(FREE, holder=Holder(2, 12, 30), standby=Standby(1, 11))
TOLD_BUILT = replace(STANDS_BY, standby=Standby(1, 11, Readiness.BUILT))
AHEAD = replace(BUILDING, epoch=20)


def word(readiness: Readiness) -> ReportStandby:
    return ReportStandby("web", 20, 1, 11, readiness)


AHEADS: list[tuple[str, Vm, SeenUnit | None, SeenBuild | None, list[Action]]] = [
    ("nothing yet", STANDS_BY, None, None, [Build("web", 20, STORE, b"")]),
    ("builds", STANDS_BY, None, AHEAD, []),
    ("built", STANDS_BY, None, replace(BUILT, epoch=20), [word(Readiness.BUILT)]),
    ("built, as told", TOLD_BUILT, None, replace(BUILT, epoch=20), []),
    ("built for a placement here", STANDS_BY, None, replace(BUILT, epoch=8),
     [word(Readiness.BUILT)]),
    ("built another runner", STANDS_BY, None, replace(OLD, runner="/nix/store/other"),
     [Build("web", 20, STORE, b"")]),
    ("failed", STANDS_BY, None, replace(FAILED, epoch=20), [word(Readiness.FAILED)]),
    ("failed for a placement here", STANDS_BY, None, replace(FAILED, epoch=8),
     [Build("web", 20, STORE, b"")]),
    ("still runs it", TOLD_BUILT, ACTIVE, replace(BUILT, epoch=20), [STOP_GENTLY]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("vm", "seen", "built", "actions"), [row[1:] for row in AHEADS], ids=[row[0] for row in AHEADS]
)
def test_a_vm_that_this_node_stands_by_for(
    vm: Vm, seen: SeenUnit | None, built: SeenBuild | None, actions: list[Action]
) -> None:
    units = {"web": seen} if seen is not None else {}
    builds = {"web": built} if built is not None else {}
    assert list(node.actions(cluster_of(vm), ME, units, builds, {})) == actions


NOT_MINE = [
    ("held by another node", replace(VM, holder=Holder(2, 12, 30))),
    ("held by an earlier life", replace(VM, holder=Holder(1, 9, 30))),
    ("held by nobody", PENDING),
    ("unknown", None),
]


@pytest.mark.parametrize("vm", [row[1] for row in NOT_MINE], ids=[row[0] for row in NOT_MINE])
def test_a_vm_that_this_node_does_not_hold(vm: Vm | None) -> None:
    cluster = cluster_of(*([vm] if vm is not None else []))

    def actions(seen: SeenUnit | None, built: SeenBuild | None) -> list[Action]:
        units = {"web": seen} if seen is not None else {}
        builds = {"web": built} if built is not None else {}
        return list(node.actions(cluster, ME, units, builds, {}))

    kept: list[Action] = [] if vm is not None else [ReleaseBuild("web")]
    assert actions(None, None) == []
    assert actions(None, BUILDING) == [CancelBuild("web")]
    assert actions(None, BUILT) == kept
    assert actions(None, FAILED) == kept
    assert actions(ACTIVE, None) == [STOP_GENTLY]
    assert actions(EXITED, None) == [Discard("web")]
    assert actions(ACTIVE, BUILDING) == [CancelBuild("web"), STOP_GENTLY]


def test_a_build_ahead_that_failed_is_tried_again_when_it_is_asked_for_again() -> None:
    """A move, or a drain, that is asked for again was answered with the failure of the last."""
    elsewhere = replace(STANDS_BY, standby=None)
    failed = {"web": replace(FAILED, epoch=20)}
    assert list(node.actions(cluster_of(elsewhere), ME, {}, failed, {})) == [CancelBuild("web")]
    only_its_log = {"web": replace(FAILED, epoch=0)}
    assert not list(node.actions(cluster_of(elsewhere), ME, {}, only_its_log, {}))
    again = list(node.actions(cluster_of(STANDS_BY), ME, {}, only_its_log, {}))
    assert again == [Build("web", 20, STORE, b"")]


def test_a_packed_source_brings_its_content() -> None:
    source = packed(CONTENTS[0])
    vm = replace(VM, spec=replace(VM.spec, source=source))
    actions = list(node.actions(cluster_of(vm), ME, {}, {}, {}))
    assert actions == [Build("web", 30, source, CONTENTS[0])]


def test_actions_come_in_the_order_of_names() -> None:
    stray = {"z": ACTIVE, "a": ACTIVE}
    actions = list(node.actions(cluster_of(VM), ME, stray, {"m": BUILT}, {}))
    assert [action.name for action in actions] == ["a", "m", "web", "z"]


def test_before_a_new_life_everything_ends_but_what_is_to_be_kept() -> None:
    units = {
        "web": ACTIVE,
        "db": EXITED,
        "ci": replace(ACTIVE, keep=True),
        "old": replace(EXITED, keep=True),
    }
    at_once = Stop("web", DEFAULT_GRACE_MS, kill=True)
    assert list(node.empty(units)) == [Discard("db"), Discard("old"), at_once]
    assert node.kept(units) == (Kept("ci", 20, 30),)
    assert list(node.empty({})) == []
