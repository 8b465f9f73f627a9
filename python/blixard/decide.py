"""The choices: what the leader proposes, and what a node does, given what they see.

Both are level-triggered: they compare what is wanted with what is and name the difference. Running
them again changes nothing, and a missed event costs one step.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from blixard import scheduler
from blixard.commands import (
    AttestState,
    Command,
    DeferVm,
    PlaceVm,
    RaiseLevel,
    ReportVm,
    SettleNode,
)
from blixard.model import (
    DEFAULT_GRACE_MS,
    Cluster,
    Membership,
    PackedSource,
    Reason,
    Source,
    State,
    Vm,
)
from blixard.ports import BuildState, SeenBuild, SeenUnit, UnitState

SETTLE_MS = 2_000
"""How long a unit must stay active before it is called running, so that a guest that dies at once
is never reported as running."""


@dataclass(frozen=True, slots=True)
class ChangeMembership:
    """Bring consensus membership one step closer to the cluster's."""

    node_id: int
    address: str
    add: bool


@dataclass(frozen=True, slots=True)
class HandOver:
    """Let another member lead: the leader is leaving the cluster."""


@dataclass(frozen=True, slots=True)
class Build:
    name: str
    epoch: int
    source: Source
    content: bytes


@dataclass(frozen=True, slots=True)
class CancelBuild:
    name: str


@dataclass(frozen=True, slots=True)
class ReleaseBuild:
    """Forget what was built for a VM that is gone from the cluster."""

    name: str


@dataclass(frozen=True, slots=True)
class Start:
    name: str
    uid: int
    epoch: int
    runner: str


@dataclass(frozen=True, slots=True)
class Stop:
    name: str
    grace_ms: int
    kill: bool


@dataclass(frozen=True, slots=True)
class Discard:
    name: str


Duty = Command | ChangeMembership | HandOver
Action = Build | CancelBuild | ReleaseBuild | Start | Stop | Discard | ReportVm


# --- the leader ---------------------------------------------------------------------------------


def leader(
    cluster: Cluster,
    me: int,
    members: AbstractSet[int],
    silent: frozenset[int],
    state_digest: tuple[int, bytes] | None = None,
) -> Iterator[Duty]:
    """What the leader proposes. `members` is the consensus configuration; `silent` are the nodes
    from which it does not hear; `state_digest` is that of `ports.LogStatus`."""
    yield from _membership(cluster, me, members, silent)
    if cluster.nodes and min(node.level for node in cluster.nodes.values()) > cluster.level:
        yield RaiseLevel(cluster.level + 1)
    if state_digest is not None and state_digest[0] > cluster.attested_index:
        yield AttestState(*state_digest)
    for name in sorted(cluster.vms):
        vm = cluster.vms[name]
        if vm.state is not State.PENDING:
            continue
        choice = scheduler.place(cluster, vm, silent)
        if choice.node_id is not None:
            node = cluster.nodes[choice.node_id]
            yield PlaceVm(vm.name, vm.uid, node.node_id, node.incarnation)
        elif vm.reason.text != choice.text:
            yield DeferVm(vm.name, vm.uid, choice.text)


def _membership(
    cluster: Cluster, me: int, members: AbstractSet[int], silent: frozenset[int]
) -> Iterator[Duty]:
    """At most one change at a time: the next is proposed when this one is settled.

    Consensus follows the cluster's nodes; whoever is in one and not in the other is a difference.
    """
    strangers = sorted(set(members) - set(cluster.nodes) - {me})
    if cluster.nodes and strangers:
        yield ChangeMembership(strangers[0], "", add=False)
        return
    for node_id in sorted(cluster.nodes):
        node = cluster.nodes[node_id]
        is_member = node_id in members
        match node.membership:
            case Membership.JOINING if is_member:
                yield SettleNode(node_id, node.join_id, is_member=True)
            case Membership.JOINING | Membership.MEMBER if not is_member:
                yield ChangeMembership(node_id, node.address, add=True)
            case Membership.LEAVING if not is_member:
                yield SettleNode(node_id, node.join_id, is_member=False)
            case Membership.LEAVING if node_id == me:
                yield HandOver()
            case Membership.LEAVING if _lasts(members - {node_id}, silent):
                yield ChangeMembership(node_id, node.address, add=False)
            case _:
                continue
        return


def _lasts(members: AbstractSet[int], silent: frozenset[int]) -> bool:
    """Whether a majority of these members answers: without one nothing is ever decided again."""
    return 2 * len(members - silent) > len(members)


# --- a node -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Me:
    """A node in its present life, and the session in which it reports."""

    node_id: int
    incarnation: int
    session: int


def node(
    cluster: Cluster, me: Me, units: Mapping[str, SeenUnit], builds: Mapping[str, SeenBuild]
) -> Iterator[Action]:
    """What a node does, given the units and builds it sees on its host."""
    for name in sorted({*cluster.vms, *units, *builds}):
        vm = cluster.vms.get(name)
        mine = (
            vm is not None
            and vm.holder is not None
            and vm.holder.node_id == me.node_id
            and vm.holder.incarnation == me.incarnation
        )
        if vm is not None and mine:
            yield from _held(cluster, me, vm, units.get(name), builds.get(name))
        else:
            yield from _not_held(name, units.get(name), builds.get(name), known=vm is not None)


def empty(units: Mapping[str, SeenUnit]) -> Iterator[Action]:
    """Leave nothing running: what a node does before it registers a new life."""
    for name in sorted(units):
        yield from _not_held(name, units[name], None, known=True)


def _not_held(
    name: str, unit: SeenUnit | None, build: SeenBuild | None, known: bool
) -> Iterator[Action]:
    if build is not None:
        if build.state is BuildState.BUILDING:
            yield CancelBuild(name)
        elif not known:
            yield ReleaseBuild(name)
    if unit is not None:
        yield _end(name, unit)


def _held(
    cluster: Cluster, me: Me, vm: Vm, unit: SeenUnit | None, build: SeenBuild | None
) -> Iterator[Action]:
    assert vm.holder is not None
    if vm.release is not None:
        yield from _released(me, vm, unit, build)
    elif unit is None:
        yield from _realise(cluster, me, vm, vm.holder.epoch, build)
    elif (unit.uid, unit.epoch) != (vm.uid, vm.holder.epoch):
        yield _end(vm.name, unit)
    else:
        yield from _watched(me, vm, unit)


def _released(me: Me, vm: Vm, unit: SeenUnit | None, build: SeenBuild | None) -> Iterator[Action]:
    """The VM is to be given up: end the build, stop the unit, and only then report it gone."""
    assert vm.release is not None
    if build is not None and build.state is BuildState.BUILDING:
        yield CancelBuild(vm.name)
    elif unit is None or unit.state is UnitState.EXITED:
        yield _report(me, vm, State.STOPPED, vm.reason)
    else:
        yield Stop(vm.name, vm.release.grace_ms, vm.release.kill)


def _realise(
    cluster: Cluster, me: Me, vm: Vm, epoch: int, build: SeenBuild | None
) -> Iterator[Action]:
    """No unit yet: build the runner, then start it."""
    if build is None or build.epoch != epoch:
        source = vm.spec.source
        content = cluster.sources[source.digest] if isinstance(source, PackedSource) else b""
        yield Build(vm.name, epoch, source, content)
        return
    match build.state:
        case BuildState.BUILDING:
            reason = Reason("building", build.line or "build begun")
            if (vm.state, vm.reason) != (State.BUILDING, reason):
                yield _report(me, vm, State.BUILDING, reason)
        case BuildState.FAILED:
            assert build.reason is not None
            yield _report(me, vm, State.FAILED, build.reason)
        case BuildState.BUILT:
            assert build.runner is not None
            if vm.state is State.STARTING and vm.runner == build.runner:
                yield Start(vm.name, vm.uid, epoch, build.runner)
            else:
                yield _report(
                    me, vm, State.STARTING, Reason("built", "starts its unit"), build.runner
                )


def _watched(me: Me, vm: Vm, unit: SeenUnit) -> Iterator[Action]:
    """The unit of this very placement exists: tell the cluster what became of it."""
    settled = unit.state is UnitState.ACTIVE and unit.active_ms >= SETTLE_MS
    if unit.state is UnitState.EXITED:
        yield _report(me, vm, State.FAILED, Reason("guest-exited", unit.detail))
    elif settled and vm.state is not State.RUNNING:
        yield _report(me, vm, State.RUNNING, Reason("active", f"runs on node-{me.node_id}"))


def _end(name: str, unit: SeenUnit) -> Action:
    if unit.state is UnitState.EXITED:
        return Discard(name)
    return Stop(name, DEFAULT_GRACE_MS, kill=False)


def _report(me: Me, vm: Vm, state: State, reason: Reason, runner: str | None = None) -> ReportVm:
    assert vm.holder is not None
    return ReportVm(
        name=vm.name,
        uid=vm.uid,
        node_id=me.node_id,
        incarnation=me.incarnation,
        epoch=vm.holder.epoch,
        session=me.session,
        state=state,
        reason=reason,
        runner=runner,
    )
