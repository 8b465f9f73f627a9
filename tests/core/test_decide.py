"""Facts in, duties and actions out: every branch of `decide`, one line each."""

from dataclasses import replace

import pytest

from blixard.commands import (
    AssignStandby,
    AttestState,
    Command,
    DeclareNodeDown,
    DeferVm,
    Kept,
    PlaceVm,
    RaiseLevel,
    ReportStandby,
    ReportVm,
    SettleNode,
)
from blixard.decide import leader, node
from blixard.decide.leader import ChangeMembership, Duty, HandOver, Sight, back_off_ms
from blixard.decide.node import (
    SETTLE_MS,
    Action,
    Build,
    CancelBuild,
    Discard,
    Me,
    Past,
    ReleaseBuild,
    Start,
    Stop,
)
from blixard.model import (
    DEFAULT_GRACE_MS,
    Capacity,
    Cluster,
    Holder,
    Membership,
    Node,
    Readiness,
    Reason,
    Release,
    Standby,
    State,
    StoreSource,
    Vm,
    VmSpec,
    Wanted,
)
from blixard.ports import BuildState, Run, SeenBuild, SeenUnit, UnitState
from core.strategies import CONTENTS, packed

STORE = StoreSource("/nix/store/0-vm")
RUNNER = "/nix/store/1-runner"
ROOM = Capacity(4, 4096)


def node_of(node_id: int, membership: Membership = Membership.MEMBER) -> Node:
    return Node(
        node_id,
        f"n{node_id}:7001",
        f"m{node_id}",
        f"j{node_id}",
        membership,
        incarnation=10 + node_id,
        capacity=ROOM,
    )


ME = Me(1, 11, 12)

VM = Vm(
    name="web",
    uid=20,
    spec=VmSpec(STORE, 2, 1024),
    wanted=Wanted.RUNNING,
    state=State.STARTING,
    reason=Reason("placed", "placed on node-1"),
    since_ms=0,
    created_ms=0,
    holder=Holder(1, 11, 30),
    last_node=1,
)
PENDING = replace(VM, state=State.PENDING, holder=None, last_node=None)


def cluster_of(*vms: Vm, nodes: tuple[Node, ...] = (node_of(1), node_of(2))) -> Cluster:
    return Cluster(
        vms={vm.name: vm for vm in vms},
        nodes={node.node_id: node for node in nodes},
        sources={packed(CONTENTS[0]).digest: CONTENTS[0]},
    )


def duties_of(cluster: Cluster, sight: Sight) -> list[Duty]:
    return list(leader.duties(cluster, sight))


# --- the leader ---------------------------------------------------------------------------------


def test_every_vm_that_waits_is_placed_in_the_order_of_names() -> None:
    cluster = cluster_of(PENDING, replace(PENDING, name="db", uid=21), replace(VM, name="ci"))
    duties = duties_of(cluster, Sight(1, {1, 2}, frozenset()))
    assert duties == [PlaceVm("db", 21, 1, 11), PlaceVm("web", 20, 1, 11)]


@pytest.mark.parametrize(
    "state", [state for state in State if state is not State.PENDING], ids=lambda state: state
)
def test_no_vm_in_another_state_is_placed(state: State) -> None:
    cluster = cluster_of(replace(PENDING, state=state))
    assert duties_of(cluster, Sight(1, {1, 2}, frozenset())) == []


def test_silent_nodes_get_nothing() -> None:
    cluster = cluster_of(PENDING)
    assert duties_of(cluster, Sight(1, {1, 2}, frozenset({1}))) == [PlaceVm("web", 20, 2, 12)]
    why = "node-1: does not answer; node-2: does not answer"
    deferred = [DeferVm("web", 20, why)]
    assert duties_of(cluster, Sight(1, {1, 2}, frozenset({1, 2}))) == deferred
    told = cluster_of(replace(PENDING, reason=Reason("no-room", why)))
    assert duties_of(told, Sight(1, {1, 2}, frozenset({1, 2}))) == []


@pytest.mark.parametrize(
    ("membership", "members", "me", "duty"),
    [
        (Membership.MEMBER, {1, 2, 3}, 1, None),
        (Membership.MEMBER, {1, 2}, 1, ChangeMembership(3, "n3:7001", add=True)),
        (Membership.MEMBER, {1, 2, 3, 4}, 1, ChangeMembership(4, "", add=False)),
        (Membership.JOINING, {1, 2}, 1, ChangeMembership(3, "n3:7001", add=True)),
        (Membership.JOINING, {1, 2, 3}, 1, SettleNode(3, "j3", is_member=True)),
        (Membership.LEAVING, {1, 2, 3}, 1, ChangeMembership(3, "n3:7001", add=False)),
        (Membership.LEAVING, {1, 2, 3}, 3, HandOver()),
        (Membership.LEAVING, {1, 2}, 1, SettleNode(3, "j3", is_member=False)),
        (Membership.LEAVING, {1, 2}, 3, SettleNode(3, "j3", is_member=False)),
    ],
)
def test_consensus_membership_follows(
    membership: Membership, members: set[int], me: int, duty: Duty | None
) -> None:
    cluster = cluster_of(nodes=(node_of(1), node_of(2), node_of(3, membership)))
    expected = [duty] if duty is not None else []
    assert duties_of(cluster, Sight(me, members, frozenset())) == expected


def test_one_change_of_membership_at_a_time() -> None:
    nodes = (node_of(1), node_of(2, Membership.LEAVING), node_of(3, Membership.JOINING))
    duties = duties_of(cluster_of(nodes=nodes), Sight(1, {1, 2}, frozenset()))
    assert duties == [ChangeMembership(2, "n2:7001", add=False)]


def test_no_member_is_removed_whose_absence_would_cost_the_majority() -> None:
    nodes = (node_of(1), node_of(2), node_of(3, Membership.LEAVING))
    removal = [ChangeMembership(3, "n3:7001", add=False)]
    for silent, duties in ((frozenset({3}), removal), (frozenset({2}), [])):
        assert duties_of(cluster_of(nodes=nodes), Sight(1, {1, 2, 3}, silent)) == duties


@pytest.mark.parametrize(
    ("level", "supported", "duties"),
    [
        (1, (1, 1), []),
        (1, (1, 3), []),
        (1, (2, 2), [RaiseLevel(2)]),
        (1, (3, 4), [RaiseLevel(2)]),
        (2, (3, 4), [RaiseLevel(3)]),
        (3, (3, 4), []),
        (1, (), []),
    ],
)
def test_the_level_follows_the_oldest_release(
    level: int, supported: tuple[int, ...], duties: list[Command]
) -> None:
    nodes = tuple(replace(node_of(i), level=known) for i, known in enumerate(supported, 1))
    cluster = replace(cluster_of(nodes=nodes), level=level)
    assert duties_of(cluster, Sight(1, {1, 2} if nodes else {1}, frozenset())) == duties


@pytest.mark.parametrize(
    ("digest", "duties"),
    [
        (None, []),
        ((2_000, b"d"), []),
        ((3_000, b"d"), []),
        ((4_000, b"d"), [AttestState(4_000, b"d")]),
    ],
)
def test_a_digest_is_told_once(digest: tuple[int, bytes] | None, duties: list[Command]) -> None:
    cluster = replace(cluster_of(), attested_index=3_000)
    assert duties_of(cluster, Sight(1, {1, 2}, frozenset(), state_digest=digest)) == duties


NODE_3 = replace(node_of(3), seq=77)
DOWN_3 = DeclareNodeDown(3, 13, 77)


@pytest.mark.parametrize(
    ("node", "unrenewed_ms", "duties"),
    [
        (NODE_3, 0, []),
        (NODE_3, 9_290, []),
        (NODE_3, 9_291, [DOWN_3]),
        (replace(NODE_3, lease_ms=20_000), 20_400, []),
        (replace(NODE_3, lease_ms=20_000), 20_401, [DOWN_3]),
        (replace(NODE_3, is_down=True), 60_000, []),
        (replace(NODE_3, incarnation=0), 60_000, []),
    ],
)
def test_a_node_is_down_when_its_lease_is_surely_over(
    node: Node, unrenewed_ms: int, duties: list[Duty]
) -> None:
    cluster = cluster_of(nodes=(node_of(1), node))
    sight = Sight(1, {1, 3}, unrenewed_ms={1: 99_000, 3: unrenewed_ms})
    assert duties_of(cluster, sight) == duties


@pytest.mark.parametrize(
    ("failures", "back_off"), [(0, 0), (1, 1_000), (2, 2_000), (5, 16_000), (9, 60_000)]
)
def test_a_vm_that_failed_waits_longer_each_time(failures: int, back_off: int) -> None:
    vm = replace(PENDING, failures=failures)
    assert back_off_ms(vm) == back_off
    early = Sight(1, {1, 2}, pending_ms={"web": max(0, back_off - 1)})
    assert duties_of(cluster_of(vm), early) == ([] if back_off else [PlaceVm("web", 20, 1, 11)])
    due = Sight(1, {1, 2}, pending_ms={"web": back_off})
    assert duties_of(cluster_of(vm), due) == [PlaceVm("web", 20, 1, 11)]


FREE = replace(VM, state=State.RUNNING, runner=RUNNER, volumes=())
READY = Standby(2, 12, Readiness.BUILT)
GETS_STANDBY: list[Duty] = [AssignStandby("web", 20, 2, 12)]
LOSES_STANDBY: list[Duty] = [AssignStandby("web", 20, None)]

STANDBYS: list[tuple[str, Vm, frozenset[int], list[Duty]]] = [
    ("has none", FREE, frozenset(), GETS_STANDBY),
    ("has one", replace(FREE, standby=READY), frozenset(), []),
    ("its build failed", replace(FREE, standby=Standby(2, 12, Readiness.FAILED)), frozenset(), []),
    ("of an earlier life", replace(FREE, standby=Standby(2, 7)), frozenset(), GETS_STANDBY),
    ("it is silent", replace(FREE, standby=READY), frozenset({2}), LOSES_STANDBY),
    ("nobody else answers", FREE, frozenset({2}), []),
    ("tied to its host", replace(FREE, volumes=None), frozenset(), []),
    ("tied since", replace(FREE, volumes=("a",), standby=READY), frozenset(), LOSES_STANDBY),
    ("kept", replace(FREE, keeps=True), frozenset(), []),
    ("does not run yet", replace(FREE, state=State.STARTING), frozenset(), []),
]


@pytest.mark.parametrize(
    ("vm", "silent", "duties"), [row[1:] for row in STANDBYS], ids=[row[0] for row in STANDBYS]
)
def test_the_next_best_node_builds_ahead(
    vm: Vm, silent: frozenset[int], duties: list[Duty]
) -> None:
    assert duties_of(cluster_of(vm), Sight(1, {1, 2}, silent)) == duties


# --- a node -------------------------------------------------------------------------------------


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
