"""Two releases side by side: what is new waits until the last node has it."""

from dataclasses import replace

import pytest

from blixard import codec, machine
from blixard.commands import DeleteVm, Entry, StopVm
from blixard.errors import Code
from blixard.model import Accepted, Cluster, Outcome, Reason, State
from core.law import Apply
from core.world import World

STOPPED_BY = "an operator wants it stopped"


def release_2(cluster: Cluster, index: int, entry: Entry) -> tuple[Cluster, Outcome]:
    """A release that gives another reason for a stop, from level 2 on."""
    return (in_other_words if cluster.level >= 2 else machine.apply)(cluster, index, entry)


def in_other_words(cluster: Cluster, index: int, entry: Entry) -> tuple[Cluster, Outcome]:
    """The changed rule by itself: as it must not be released."""
    after, outcome = machine.apply(cluster, index, entry)
    if not isinstance(entry.command, StopVm) or not isinstance(outcome, Accepted):
        return after, outcome
    stopped = replace(after.vms[entry.command.name], reason=Reason("requested", STOPPED_BY))
    return replace(after, vms={**after.vms, stopped.name: stopped}), outcome


def update(world: World, node_id: int) -> None:
    """Stop the daemon, install release 2, start it again: what was running goes on."""
    host = world.hosts[node_id]
    host.kill_daemon()
    if world.leader_id == node_id:
        world.elect()
    host.release = 2
    session = world.cluster.nodes[node_id].session
    world.start(node_id)
    world.until(lambda: world.cluster.nodes[node_id].session > session)


def reason_of_a_stop(world: World) -> str:
    """Why a VM stops, after making sure that all hosts come to the same state."""
    world.bring_up()
    world.ask(StopVm("web"))
    for host in world.hosts.values():
        host.catch_up(world.law.index)
        assert codec.encode_cluster(host.replica) == codec.encode_cluster(world.cluster)
    why = world.vm("web").reason.text
    world.until(lambda: world.vm("web").state is State.STOPPED)
    world.ask(DeleteVm("web"))
    return why


def update_one_after_another(seed: int, law_of_release_2: Apply) -> list[str]:
    """The reasons of stops before, between and after the updates of three hosts."""
    world = World(seed, laws={1: machine.apply, 2: law_of_release_2})
    reasons = []
    for node_id in (3, 1, 2):
        reasons.append(reason_of_a_stop(world))
        assert world.cluster.level == 1, "raised before the last node was updated"
        update(world, node_id)
    world.until(lambda: world.cluster.level == 2)
    return [*reasons, reason_of_a_stop(world)]


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_rule_waits_for_the_last_node(seed: int) -> None:
    *mixed, updated = update_one_after_another(seed, release_2)
    assert STOPPED_BY not in mixed
    assert updated == STOPPED_BY


def test_a_changed_rule_that_does_not_wait_would_be_noticed() -> None:
    """Sabotage: the replicas come to different states."""
    with pytest.raises(AssertionError):
        update_one_after_another(0, in_other_words)


def test_a_node_that_never_came_up_holds_the_level_back() -> None:
    world = World(0, laws={1: machine.apply, 2: release_2})
    world.hosts[3].kill_daemon()
    for node_id in (1, 2):
        update(world, node_id)
    world.run(10_000)
    assert world.cluster.level == 1
    world.hosts[3].release = 2
    world.start(3)
    world.until(lambda: world.cluster.level == 2)


def test_a_release_that_is_too_old_is_not_let_in_again() -> None:
    world = World(0, laws={1: machine.apply, 2: release_2})
    for node_id in (3, 1, 2):
        update(world, node_id)
    world.until(lambda: world.cluster.level == 2)
    host = world.hosts[3]
    host.kill_daemon()
    if world.leader_id == 3:
        world.elect()
    host.release = 1
    world.start(3)
    daemon = host.daemon
    assert daemon is not None
    world.until(lambda: daemon.refusal)
    assert daemon.refusal is not None
    assert daemon.refusal.code is Code.RELEASE_TOO_OLD
    assert world.cluster.nodes[3].level == 2
