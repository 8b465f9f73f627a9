"""Facts in, duties and actions out: every branch of `decide`, one line each."""

from dataclasses import replace

import pytest

from blixard import decide
from blixard.commands import (
    AttestState,
    Command,
    DeferVm,
    PlaceVm,
    RaiseLevel,
    ReportVm,
    SettleNode,
)
from blixard.decide import (
    SETTLE_MS,
    Build,
    CancelBuild,
    ChangeMembership,
    Discard,
    HandOver,
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
    Reason,
    Release,
    State,
    StoreSource,
    Vm,
    VmSpec,
    Wanted,
)
from blixard.ports import BuildState, SeenBuild, SeenUnit, UnitState
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


ME = decide.Me(1, 11, 12)

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


# --- the leader ---------------------------------------------------------------------------------


def test_every_vm_that_waits_is_placed_in_the_order_of_names() -> None:
    cluster = cluster_of(PENDING, replace(PENDING, name="db", uid=21), replace(VM, name="ci"))
    duties = list(decide.leader(cluster, 1, {1, 2}, frozenset()))
    assert duties == [PlaceVm("db", 21, 1, 11), PlaceVm("web", 20, 1, 11)]


@pytest.mark.parametrize(
    "state", [state for state in State if state is not State.PENDING], ids=lambda state: state
)
def test_no_vm_in_another_state_is_placed(state: State) -> None:
    cluster = cluster_of(replace(PENDING, state=state))
    assert list(decide.leader(cluster, 1, {1, 2}, frozenset())) == []


def test_silent_nodes_get_nothing() -> None:
    cluster = cluster_of(PENDING)
    assert list(decide.leader(cluster, 1, {1, 2}, frozenset({1}))) == [PlaceVm("web", 20, 2, 12)]
    why = "node-1: does not answer; node-2: does not answer"
    deferred = [DeferVm("web", 20, why)]
    assert list(decide.leader(cluster, 1, {1, 2}, frozenset({1, 2}))) == deferred
    told = cluster_of(replace(PENDING, reason=Reason("no-room", why)))
    assert list(decide.leader(told, 1, {1, 2}, frozenset({1, 2}))) == []


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
    membership: Membership, members: set[int], me: int, duty: decide.Duty | None
) -> None:
    cluster = cluster_of(nodes=(node_of(1), node_of(2), node_of(3, membership)))
    expected = [duty] if duty is not None else []
    assert list(decide.leader(cluster, me, members, frozenset())) == expected


def test_one_change_of_membership_at_a_time() -> None:
    nodes = (node_of(1), node_of(2, Membership.LEAVING), node_of(3, Membership.JOINING))
    duties = list(decide.leader(cluster_of(nodes=nodes), 1, {1, 2}, frozenset()))
    assert duties == [ChangeMembership(2, "n2:7001", add=False)]


def test_no_member_is_removed_whose_absence_would_cost_the_majority() -> None:
    nodes = (node_of(1), node_of(2), node_of(3, Membership.LEAVING))
    removal = [ChangeMembership(3, "n3:7001", add=False)]
    for silent, duties in ((frozenset({3}), removal), (frozenset({2}), [])):
        assert list(decide.leader(cluster_of(nodes=nodes), 1, {1, 2, 3}, silent)) == duties


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
    assert list(decide.leader(cluster, 1, {1, 2} if nodes else {1}, frozenset())) == duties


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
    assert list(decide.leader(cluster, 1, {1, 2}, frozenset(), digest)) == duties


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

HELD: list[tuple[str, Vm, SeenUnit | None, SeenBuild | None, list[decide.Action]]] = [
    ("nothing yet", VM, None, None, [Build("web", 30, STORE, b"")]),
    ("built in an earlier life", VM, None, OLD, [Build("web", 30, STORE, b"")]),
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
    ("built, as told", GO, None, BUILT, [Start("web", 20, 30, RUNNER)]),
    ("its unit vanished", RUNNING, None, BUILT,
     [report(State.STARTING, "built", "starts its unit", RUNNER)]),
    ("unit starts", GO, STARTING, BUILT, []),
    ("unit too young", GO, unit(UnitState.ACTIVE, SETTLE_MS - 1), BUILT, []),
    ("unit runs", GO, ACTIVE, BUILT, [report(State.RUNNING, "active", "runs on node-1")]),
    ("unit runs, as told", RUNNING, ACTIVE, BUILT, []),
    ("unit stops by itself", RUNNING, STOPPING, BUILT, []),
    ("guest exited", RUNNING, EXITED, BUILT,
     [report(State.FAILED, "guest-exited", "exit status 1")]),
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
    vm: Vm, seen: SeenUnit | None, built: SeenBuild | None, actions: list[decide.Action]
) -> None:
    units = {"web": seen} if seen is not None else {}
    builds = {"web": built} if built is not None else {}
    assert list(decide.node(cluster_of(vm), ME, units, builds)) == actions


NOT_MINE = [
    ("held by another node", replace(VM, holder=Holder(2, 12, 30))),
    ("held by an earlier life", replace(VM, holder=Holder(1, 9, 30))),
    ("held by nobody", PENDING),
    ("unknown", None),
]


@pytest.mark.parametrize("vm", [row[1] for row in NOT_MINE], ids=[row[0] for row in NOT_MINE])
def test_a_vm_that_this_node_does_not_hold(vm: Vm | None) -> None:
    cluster = cluster_of(*([vm] if vm is not None else []))

    def actions(seen: SeenUnit | None, built: SeenBuild | None) -> list[decide.Action]:
        units = {"web": seen} if seen is not None else {}
        builds = {"web": built} if built is not None else {}
        return list(decide.node(cluster, ME, units, builds))

    kept: list[decide.Action] = [] if vm is not None else [ReleaseBuild("web")]
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
    actions = list(decide.node(cluster_of(vm), ME, {}, {}))
    assert actions == [Build("web", 30, source, CONTENTS[0])]


def test_actions_come_in_the_order_of_names() -> None:
    stray = {"z": ACTIVE, "a": ACTIVE}
    actions = list(decide.node(cluster_of(VM), ME, stray, {"m": BUILT}))
    assert [action.name for action in actions] == ["a", "m", "web", "z"]


def test_before_a_new_life_everything_ends() -> None:
    units = {"web": ACTIVE, "db": EXITED}
    assert list(decide.empty(units)) == [Discard("db"), STOP_GENTLY]
    assert list(decide.empty({})) == []
