"""Facts in, duties out: every branch of `decide.leader`, one line each."""

from dataclasses import replace

import pytest

from blixard.commands import (
    AssignStandby,
    AttestState,
    Command,
    DeclareNodeDown,
    DeferVm,
    PlaceVm,
    RaiseLevel,
    SettleNode,
)
from blixard.decide import leader
from blixard.decide.leader import ChangeMembership, Duty, HandOver, Sight, back_off_ms
from blixard.model import (
    Cluster,
    Membership,
    Node,
    Readiness,
    Reason,
    Standby,
    State,
    Vm,
)
from blixard.policy import Policy
from core.facts import FREE, PENDING, cluster_of, node_of


def duties_of(cluster: Cluster, sight: Sight) -> list[Duty]:
    return list(leader.duties(cluster, sight))


FREE_1 = "node-1: 4096 of 4096 MiB free\nnode-2: 4096 of 4096 MiB free"
ON_1 = PlaceVm("web", 20, 1, 11, FREE_1)


def test_every_vm_that_waits_is_placed_and_each_reckons_with_the_last() -> None:
    first = replace(PENDING, name="zoo", uid=22, policy=Policy(priority=1))
    waiting = (PENDING, replace(PENDING, name="db", uid=21), first)
    duties = duties_of(cluster_of(*waiting), Sight(1, {1, 2}, frozenset()))
    assert duties == [
        PlaceVm("zoo", 22, 1, 11, FREE_1),
        PlaceVm("db", 21, 2, 12, "node-2: 4096 of 4096 MiB free\nnode-1: 3072 of 4096 MiB free"),
        PlaceVm("web", 20, 1, 11, "node-1: 3072 of 4096 MiB free\nnode-2: 3072 of 4096 MiB free"),
    ]


@pytest.mark.parametrize(
    "state", [state for state in State if state is not State.PENDING], ids=lambda state: state
)
def test_no_vm_in_another_state_is_placed(state: State) -> None:
    cluster = cluster_of(replace(PENDING, state=state))
    assert duties_of(cluster, Sight(1, {1, 2}, frozenset())) == []


def test_silent_nodes_get_nothing() -> None:
    cluster = cluster_of(PENDING)
    chosen = PlaceVm("web", 20, 2, 12, "node-2: 4096 of 4096 MiB free\nnode-1: does not answer")
    assert duties_of(cluster, Sight(1, {1, 2}, frozenset({1}))) == [chosen]
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
    sight = Sight(1, {1, 3}, unrenewed_ms={1: 9_000, 3: unrenewed_ms})
    assert duties_of(cluster, sight) == duties


def test_the_moment_when_the_next_lease_can_be_over_is_known() -> None:
    cluster = cluster_of(nodes=(node_of(1), NODE_3))
    sight = Sight(1, {1, 3}, unrenewed_ms={1: 1_000, 3: 4_290})
    assert leader.next_loss_ms(cluster, sight) == 5_001
    assert duties_of(cluster, replace(sight, unrenewed_ms={1: 5_000, 3: 4_290 + 5_001})) == [DOWN_3]
    over = replace(sight, unrenewed_ms={1: 1_000, 3: 9_291})
    assert leader.next_loss_ms(cluster, over) == 8_291, "of what is over already, nothing is due"
    down = cluster_of(nodes=(replace(node_of(1), incarnation=0), replace(NODE_3, is_down=True)))
    assert leader.next_loss_ms(down, over) is None


@pytest.mark.parametrize(
    ("failures", "back_off"), [(0, 0), (1, 1_000), (2, 2_000), (5, 16_000), (9, 60_000)]
)
def test_a_vm_that_failed_waits_longer_each_time(failures: int, back_off: int) -> None:
    vm = replace(PENDING, failures=failures)
    assert back_off_ms(vm) == back_off
    early = Sight(1, {1, 2}, pending_ms={"web": max(0, back_off - 1)})
    assert duties_of(cluster_of(vm), early) == ([] if back_off else [ON_1])
    due = Sight(1, {1, 2}, pending_ms={"web": back_off})
    assert duties_of(cluster_of(vm), due) == [ON_1]


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
