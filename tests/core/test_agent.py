"""Real agents in the simulated world: every way of a VM, and the faults on it."""

from dataclasses import replace

import pytest

from blixard.commands import (
    CreateVm,
    DeleteVm,
    RestartVm,
    StartVm,
    StopVm,
)
from blixard.errors import Code
from blixard.model import (
    Reason,
    Rejected,
    State,
    Wanted,
)
from blixard.policy import Policy
from blixard.ports import BuildState, Run
from core.law import Law
from core.strategies import CONTENTS, packed
from core.world import SPEC, World


def states(world: World, name: str) -> list[State]:
    """The states of a VM until now, as its log tells them."""
    replay, seen = Law(), list[State]()
    for entry in world.law.entries:
        replay.apply(entry)
        vm = replay.cluster.vms.get(name)
        if vm is not None and seen[-1:] != [vm.state]:
            seen.append(vm.state)
    return seen


UP = [State.PENDING, State.STARTING, State.BUILDING, State.STARTING, State.RUNNING]


# --- the ways of a VM ---------------------------------------------------------------------------


def test_a_vm_is_placed_built_started_and_called_running(world: World) -> None:
    node_id = world.bring_up()
    vm = world.vm("web")
    assert states(world, "web") == UP
    assert vm.holder is not None
    assert (vm.holder.node_id, vm.runner) == (node_id, "/nix/store/0-web")
    unit = world.hosts[node_id].units["web"]
    assert unit.run == Run(vm.uid, vm.holder.epoch, vm.holder.incarnation, "/nix/store/0-web")


def test_a_packed_source_reaches_its_builder(world: World) -> None:
    spec = replace(SPEC, source=packed(CONTENTS[0]))
    world.ask(CreateVm("web", spec, content=CONTENTS[0]))
    world.until(lambda: world.running("web"))
    assert [host.received for host in world.hosts.values() if host.received] == [{"web": b"one"}]


def test_a_cluster_at_rest_writes_nothing(world: World) -> None:
    world.bring_up()
    world.run(3_000)
    said = world.said
    world.run(20_000)
    assert world.said == said


def test_stop_and_start(world: World) -> None:
    node_id = world.bring_up()
    world.ask(StopVm("web"))
    world.until(lambda: world.vm("web").state is State.STOPPED)
    assert world.running("web") == []
    world.until(lambda: "web" not in world.hosts[node_id].units)
    world.ask(StartVm("web"))
    world.until(lambda: world.vm("web").state is State.RUNNING)
    assert world.running("web") == [node_id], "its volumes are there"


def test_kill_cuts_a_graceful_stop_short(world: World) -> None:
    (host,) = [world.hosts[world.bring_up()]]
    host.deaf_guests.add("web")
    world.ask(StopVm("web", grace_ms=600_000))
    world.run(30_000)
    assert world.vm("web").state is State.STOPPING
    world.ask(StopVm("web", kill=True))
    world.until(lambda: world.vm("web").state is State.STOPPED, timeout_ms=5_000)


def test_restart_takes_the_create_path(world: World) -> None:
    world.bring_up()
    first = world.vm("web").holder
    world.ask(RestartVm("web"))
    world.until(lambda: world.vm("web").state is State.RUNNING)
    second = world.vm("web").holder
    assert first is not None
    assert second is not None
    assert second.epoch > first.epoch
    anew = [State.STOPPING, State.PENDING, State.STARTING, State.RUNNING]
    assert states(world, "web") == [*UP, *anew], "its runner is there already"


def test_delete_leaves_nothing(world: World) -> None:
    host = world.hosts[world.bring_up()]
    world.ask(DeleteVm("web"))
    refused = world.ask(CreateVm("web", SPEC))
    assert isinstance(refused, Rejected)
    assert refused.code is Code.BUSY
    world.until(lambda: "web" not in world.cluster.vms)
    world.until(lambda: not host.units and not host.builds)
    assert world.bring_up()


def test_a_vm_created_stopped_waits_for_its_start(world: World) -> None:
    world.ask(CreateVm("web", SPEC, Wanted.STOPPED))
    world.run(5_000)
    assert world.vm("web").state is State.STOPPED
    world.ask(StartVm("web"))
    world.until(lambda: world.vm("web").state is State.RUNNING)


@pytest.mark.parametrize("after_ms", [0, 400, 800, 1_200, 1_600, 2_400])
def test_stopped_on_its_way_up(world: World, after_ms: int) -> None:
    world.ask(CreateVm("web", SPEC))
    world.run(after_ms)
    world.ask(StopVm("web"))
    world.until(lambda: world.vm("web").state is State.STOPPED)
    world.run(5_000)
    assert world.running("web") == []
    assert all(
        build.state is not BuildState.BUILDING
        for host in world.hosts.values()
        for build in host.builds.values()
    )


def test_vms_spread_where_there_is_room_and_the_rest_waits(world: World) -> None:
    names = [f"vm{number}" for number in range(7)]
    for name in names:
        world.ask(CreateVm(name, SPEC))
    world.until(lambda: sum(bool(world.running(name)) for name in names) == 6)
    (waiting,) = [name for name in names if world.vm(name).state is State.PENDING]
    world.ask(DeleteVm(next(name for name in names if name != waiting)))
    world.until(lambda: world.vm(waiting).state is State.RUNNING)


# --- what goes wrong with a VM ------------------------------------------------------------------


def test_a_failing_build_waits_for_the_operator(world: World) -> None:
    world.failing_builds.add("web")
    world.ask(CreateVm("web", SPEC))
    world.until(lambda: world.vm("web").state is State.FAILED)
    assert world.vm("web").reason.code == "build-failed"
    world.run(5_000)
    assert world.vm("web").state is State.FAILED
    world.failing_builds.clear()
    world.ask(StartVm("web"))
    world.until(lambda: world.vm("web").state is State.RUNNING)


def test_a_guest_that_dies_at_once_is_never_called_running(world: World) -> None:
    world.dying_guests.add("web")
    world.ask(CreateVm("web", SPEC, policy=Policy(restart_limit=0)))
    world.until(lambda: world.vm("web").state is State.FAILED)
    assert State.RUNNING not in states(world, "web")
    assert (world.vm("web").reason.code, world.vm("web").reason.text) == (
        "guest-exited",
        "it ended",
    )
    world.until(lambda: not any(host.units for host in world.hosts.values()))


def test_a_guest_that_dies_is_started_again_elsewhere(world: World) -> None:
    first = world.bring_up()
    world.crash_guest(world.hosts[first], "web")
    world.until(lambda: world.vm("web").state is State.PENDING)
    assert world.vm("web").reason.text == "is restarted (1 of 5): it ended"
    world.until(lambda: world.vm("web").state is State.RUNNING)
    assert world.running("web") != [first]


def test_a_guest_that_keeps_dying_is_given_up_with_the_reason(world: World) -> None:
    world.dying_guests.add("web")
    world.ask(CreateVm("web", SPEC, policy=Policy(restart_limit=3)))
    world.until(lambda: world.vm("web").state is State.FAILED)
    placed = [state for state in states(world, "web") if state is State.PENDING]
    assert len(placed) == 4
    assert world.vm("web").reason == Reason("guest-exited", "it ended")
    said = world.said
    world.run(60_000)
    assert world.said == said, "it waits for the operator"
    world.dying_guests.clear()
    world.ask(StartVm("web"))
    world.until(lambda: world.vm("web").state is State.RUNNING)


def test_a_guest_that_ran_for_long_has_not_failed_in_a_row(world: World) -> None:
    world.ask(CreateVm("web", SPEC, policy=Policy(restart_limit=1)))
    for _ in range(3):
        world.until(lambda: world.vm("web").state is State.RUNNING)
        world.run(61_000)
        (node_id,) = world.running("web")
        world.crash_guest(world.hosts[node_id], "web")
        world.until(lambda: world.vm("web").state is State.PENDING)
    assert world.vm("web").failures == 1


def test_a_unit_that_nobody_asked_for_is_stopped(world: World) -> None:
    host = world.hosts[2]
    host.start("stranger", Run(4711, 4712, 1, "/nix/store/0-stranger"))
    world.until(lambda: "stranger" not in host.units)


# --- the world notices --------------------------------------------------------------------------


def test_the_world_notices_a_vm_that_runs_twice() -> None:
    world = World(0)
    node_id = world.bring_up()
    other = next(host for host in world.hosts.values() if host.node_id != node_id)
    with pytest.raises(AssertionError, match="web runs on nodes"):
        other.start("web", Run(1, 1, 1, "/nix/store/0-web"))
