"""What a node does, given the state and the units and builds that it sees on its host."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from blixard.commands import Kept, ReportHealth, ReportStandby, ReportVm
from blixard.health import Tally
from blixard.machine.placements import FENCED
from blixard.model import (
    DEFAULT_GRACE_MS,
    Cluster,
    HealthState,
    Node,
    Readiness,
    Reason,
    State,
    Vm,
)
from blixard.ports import BuildState, Checked, Run, SeenBuild, SeenUnit, UnitState
from blixard.source import PackedSource, Source

SETTLE_MS: Final = 2_000
"""How long a unit must stay active before it is called running, so that a guest that dies at once
is never reported as running."""


UNCHECKED: Final[Mapping[str, tuple[int, Tally]]] = {}
"""What is known of guests that nobody checks."""


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
    run: Run


@dataclass(frozen=True, slots=True)
class Stop:
    name: str
    grace_ms: int
    kill: bool


@dataclass(frozen=True, slots=True)
class Discard:
    name: str


Action = (
    Build
    | CancelBuild
    | ReleaseBuild
    | Start
    | Stop
    | Discard
    | ReportVm
    | ReportHealth
    | ReportStandby
)


@dataclass(frozen=True, slots=True)
class Me:
    """A node in its present life, and the session in which it reports."""

    node_id: int
    incarnation: int
    session: int
    host_ends: bool = False
    """Its host shuts down: systemd stops the VMs, and the daemon after them."""


@dataclass(frozen=True, slots=True)
class Past:
    """What a daemon remembers of a unit that it has seen under one placement."""

    epoch: int
    ran_ms: int = 0
    """For how long it was active."""
    well_ms: int = 0
    """For how long its check has passed."""
    is_fenced: bool = False
    """It was there when the lease of its host ended."""


def actions(
    cluster: Cluster,
    me: Me,
    units: Mapping[str, SeenUnit],
    builds: Mapping[str, SeenBuild],
    past: Mapping[str, Past],
    tallies: Mapping[str, tuple[int, Tally]] = UNCHECKED,
) -> Iterator[Action]:
    """What a node does, given the units and builds it sees on its host."""
    for name in sorted({*cluster.vms, *units, *builds}):
        vm = cluster.vms.get(name)
        unit, build = units.get(name), builds.get(name)
        if vm is None:
            yield from _not_held(name, unit, build, None)
        elif _holds(me, vm):
            yield from _held(cluster, me, vm, unit, build, past.get(name))
            yield from _checked(me, vm, unit, tallies.get(name))
        elif _stands_by(me, vm):
            yield from _build_ahead(cluster, me, vm, unit, build)
        else:
            yield from _not_held(name, unit, build, vm)


def _holds(me: Me, vm: Vm) -> bool:
    holder = vm.holder
    return holder is not None and (holder.node_id, holder.incarnation) == (
        me.node_id,
        me.incarnation,
    )


def _stands_by(me: Me, vm: Vm) -> bool:
    standby = vm.standby
    return standby is not None and (standby.node_id, standby.incarnation) == (
        me.node_id,
        me.incarnation,
    )


def kept(units: Mapping[str, SeenUnit]) -> tuple[Kept, ...]:
    """What goes on although the life under which it was started may be over."""
    return tuple(
        Kept(name, unit.uid, unit.epoch)
        for name, unit in sorted(units.items())
        if unit.keep and unit.state is not UnitState.EXITED
    )


def empty(units: Mapping[str, SeenUnit]) -> Iterator[Action]:
    """Leave nothing running but what is to be kept: what a node does before it registers a new
    life. The old one is over, so there is no time for a graceful end."""
    spared = {one.name for one in kept(units)}
    for name in sorted(units):
        if name not in spared:
            yield _end(name, units[name], kill=True)


def _not_held(
    name: str, unit: SeenUnit | None, build: SeenBuild | None, vm: Vm | None
) -> Iterator[Action]:
    if build is not None:
        # A build ahead that failed is told; whoever wants it again, wants it tried again.
        failed = build.state is BuildState.FAILED
        failed_ahead = failed and vm is not None and build.epoch == vm.build
        if build.state is BuildState.BUILDING or failed_ahead:
            yield CancelBuild(name)
        elif vm is None:
            yield ReleaseBuild(name)
    if unit is not None:
        yield _end(name, unit)


def _build_ahead(
    cluster: Cluster, me: Me, vm: Vm, unit: SeenUnit | None, build: SeenBuild | None
) -> Iterator[Action]:
    assert vm.standby is not None
    if unit is not None:
        yield _end(vm.name, unit)
    is_built = _is_built(vm, build, vm.build)
    if build is None or not (is_built or build.epoch == vm.build):
        yield _build(cluster, vm, vm.build)
        return
    readiness = Readiness.BUILT if is_built else Readiness(build.state.value)
    if readiness is not vm.standby.readiness:
        yield ReportStandby(vm.name, vm.uid, me.node_id, me.incarnation, readiness)


def _held(
    cluster: Cluster,
    me: Me,
    vm: Vm,
    unit: SeenUnit | None,
    build: SeenBuild | None,
    past: Past | None,
) -> Iterator[Action]:
    assert vm.holder is not None
    if vm.release is not None:
        yield from _released(me, vm, unit, build)
    elif unit is None:
        yield from _realise(cluster, me, vm, build)
    elif (unit.uid, unit.epoch) != (vm.uid, vm.holder.epoch):
        yield _end(vm.name, unit)
    else:
        node = cluster.nodes[me.node_id]
        yield from _watched(node, me, vm, unit, past or Past(unit.epoch))


def _released(me: Me, vm: Vm, unit: SeenUnit | None, build: SeenBuild | None) -> Iterator[Action]:
    """The VM is to be given up: end the build, stop the unit, and only then report it gone."""
    assert vm.release is not None
    if build is not None and build.state is BuildState.BUILDING:
        yield CancelBuild(vm.name)
    elif unit is None or unit.state is UnitState.EXITED:
        yield _report(me, vm, State.STOPPED, vm.reason)
    else:
        yield Stop(vm.name, vm.release.grace_ms, vm.release.kill)


def _realise(cluster: Cluster, me: Me, vm: Vm, build: SeenBuild | None) -> Iterator[Action]:
    """No unit yet: build the runner, unless it is there, then start it."""
    assert vm.holder is not None
    epoch = vm.holder.epoch
    if build is not None and _is_built(vm, build, epoch):
        assert build.runner is not None
        if vm.state is State.STARTING and vm.runner == build.runner:
            run = Run(vm.uid, epoch, me.incarnation, build.runner, vm.keeps)
            yield Start(vm.name, run)
        else:
            reason = Reason("built", "starts its unit")
            report = _report(me, vm, State.STARTING, reason)
            yield replace(report, runner=build.runner, volumes=build.volumes)
    elif build is not None and build.state is BuildState.BUILDING:
        if build.epoch not in (epoch, vm.build):
            yield _build(cluster, vm, epoch)
            return
        reason = Reason("building", build.line or "build begun")
        if (vm.state, vm.reason) != (State.BUILDING, reason):
            yield _report(me, vm, State.BUILDING, reason)
    elif build is not None and build.epoch == epoch:
        assert build.reason is not None
        yield _report(me, vm, State.FAILED, build.reason)
    else:
        yield _build(cluster, vm, epoch)


def _is_built(vm: Vm, build: SeenBuild | None, epoch: int) -> bool:
    """Whether the runner is there: built for this placement, or what the last one ran."""
    if build is None or build.state is not BuildState.BUILT:
        return False
    return build.epoch == epoch or build.runner == vm.runner


def _build(cluster: Cluster, vm: Vm, epoch: int) -> Build:
    source = vm.spec.source
    content = cluster.sources[source.digest] if isinstance(source, PackedSource) else b""
    return Build(vm.name, epoch, source, content)


def _watched(node: Node, me: Me, vm: Vm, unit: SeenUnit, past: Past) -> Iterator[Action]:
    """The unit of this very placement exists: tell the cluster what became of it."""
    settled = unit.state is UnitState.ACTIVE and unit.active_ms >= SETTLE_MS
    drain = node.drain
    host_ends = me.host_ends or (drain is not None and drain.until_restart)
    if unit.state is UnitState.EXITED and host_ends:
        # Systemd has stopped it: no failure of the VM's own. Undrained, it could be placed here.
        if drain is not None:
            yield _report(me, vm, State.STOPPED, Reason("host-shutdown", f"{node.name} shuts down"))
    elif unit.state is UnitState.EXITED and past.is_fenced:
        reason = Reason(FENCED, f"the lease of node-{me.node_id} ended, and the VM with it")
        yield _report(me, vm, State.FAILED, reason)
    elif unit.state is UnitState.EXITED:
        reason = Reason("guest-exited", unit.detail)
        ran_ms = past.ran_ms
        if vm.health is not None and _restarts(vm, vm.health.state):
            reason = Reason("guest-unhealthy", f"its check failed: {vm.health.text}")
            # What counts is how long it served, not how long it took to find out that it does not.
            ran_ms = past.well_ms
        failed = _report(me, vm, State.FAILED, reason)
        yield replace(failed, ran_ms=ran_ms)
    elif settled and vm.state is not State.RUNNING:
        yield _report(me, vm, State.RUNNING, Reason("active", f"runs on node-{me.node_id}"))


def to_check(
    cluster: Cluster, me: Me, units: Mapping[str, SeenUnit]
) -> Iterator[tuple[str, Checked]]:
    """The guests of this node that run, and have a check."""
    for name, unit in units.items():
        vm = cluster.vms.get(name)
        check = vm.policy.check if vm is not None else None
        if vm is None or check is None or not _holds(me, vm) or vm.release is not None:
            continue
        if vm.state is State.RUNNING and _is_its_unit(vm, unit):
            has_passed = vm.health is not None and vm.health.state is HealthState.OK
            yield name, Checked(unit.epoch, check, unit.active_ms, has_passed)


def _checked(
    me: Me, vm: Vm, unit: SeenUnit | None, found: tuple[int, Tally] | None
) -> Iterator[Action]:
    """Tell the cluster whether a guest serves, when that has changed; and end one that does not, if
    its check says so. That it failed is in the log before it is ended."""
    holder, check = vm.holder, vm.policy.check
    if holder is None or check is None or found is None or vm.state is not State.RUNNING:
        return
    epoch, tally = found
    if not tally.is_known or unit is None or epoch != holder.epoch or not _is_its_unit(vm, unit):
        return
    state = tally.state(check)
    if vm.health is None or vm.health.state is not state:
        yield ReportHealth(
            vm.name, vm.uid, me.node_id, me.incarnation, epoch, me.session, state, tally.text
        )
    elif _restarts(vm, state) and vm.release is None:
        yield Stop(vm.name, DEFAULT_GRACE_MS, kill=False)


def _restarts(vm: Vm, state: HealthState) -> bool:
    check = vm.policy.check
    return check is not None and check.restarts and state is HealthState.FAILING


def _is_its_unit(vm: Vm, unit: SeenUnit) -> bool:
    return (
        vm.holder is not None
        and (unit.uid, unit.epoch) == (vm.uid, vm.holder.epoch)
        and unit.state is UnitState.ACTIVE
    )


def _end(name: str, unit: SeenUnit, *, kill: bool = False) -> Action:
    if unit.state is UnitState.EXITED:
        return Discard(name)
    return Stop(name, DEFAULT_GRACE_MS, kill)


def _report(me: Me, vm: Vm, state: State, reason: Reason) -> ReportVm:
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
    )
