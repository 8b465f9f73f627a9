"""Daemons that die, hosts that reboot, leaders that change: what runs stays right."""

from dataclasses import replace
from random import Random

import pytest

from blixard.agent import Agent
from blixard.commands import (
    CheckIn,
    Command,
    CreateVm,
    DeleteVm,
    RegisterNode,
    RemoveNode,
    ReportVm,
    RestartVm,
    StartVm,
    StopVm,
)
from blixard.errors import Code
from blixard.model import (
    Accepted,
    Membership,
    Outcome,
    Rejected,
    State,
    Wanted,
)
from blixard.policy import OnQuorumLoss, Policy
from core.world import SPEC, TICK_MS, World

# --- what goes wrong with a node ----------------------------------------------------------------


def restart_daemon(world: World, node_id: int, applied: int) -> None:
    world.hosts[node_id].kill_daemon()
    if world.leader_id == node_id:
        world.elect()
    world.run(2_000)
    world.start(node_id, applied)


@pytest.mark.parametrize("lost", [0, 1, 5, 10_000])
def test_a_daemon_that_restarts_with_an_older_log_stops_nothing(world: World, lost: int) -> None:
    node_id = world.bring_up()
    unit = world.hosts[node_id].units["web"]
    host = world.hosts[node_id]
    host.lagging = True
    restart_daemon(world, node_id, applied=max(0, world.law.index - lost))
    world.run(5_000)
    host.lagging = False
    world.run(10_000)
    assert host.units["web"] is unit
    assert (host.stopped, world.vm("web").state) == ([], State.RUNNING)


def test_a_daemon_that_trusted_its_old_log_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sabotage: without the wait for the index of its check-in, the VM is stopped."""

    def checked_in(agent: Agent, outcome: Outcome) -> None:
        assert isinstance(outcome, Accepted)
        agent._fresh_index = 0

    monkeypatch.setattr(Agent, "_checked_in", checked_in)
    with pytest.raises(AssertionError):
        test_a_daemon_that_restarts_with_an_older_log_stops_nothing(World(0), lost=10_000)


def test_a_rebooted_host_gets_its_vm_again(world: World) -> None:
    node_id = world.bring_up()
    host, before = world.hosts[node_id], world.vm("web").holder
    if world.leader_id == node_id:
        world.elect()
    host.reboot()
    world.run(5_000)
    assert world.vm("web").holder == before, "until it is back, nothing is known of it"
    world.start(node_id, world.law.index)
    world.until(lambda: world.vm("web").holder not in (before, None))
    world.until(lambda: world.vm("web").state is State.RUNNING)
    assert world.running("web") == [node_id]


def test_a_life_that_was_overtaken_ends_before_the_next_begins(world: World) -> None:
    """Someone registered under the node's id: what it runs is not its own any more."""
    node_id = world.bring_up()
    overtaken = world.hosts[node_id].life
    node = world.cluster.nodes[node_id]
    world.ask(
        RegisterNode(
            node_id,
            node.machine_id,
            node.join_id,
            node.address,
            node.incarnation,
            replace(node.capacity, vcpus=0),
            "1.0",
        )
    )
    world.until(lambda: world.vm("web").state is State.RUNNING)
    world.run(3_000)
    assert world.hosts[node_id].life not in (None, overtaken)
    assert len(world.running("web")) == 1


def test_units_that_cannot_be_seen_are_left_alone(world: World) -> None:
    node_id = world.bring_up()
    host = world.hosts[node_id]
    host.blind = True
    world.ask(StopVm("web"))
    world.run(10_000)
    assert world.vm("web").state is State.STOPPING
    host.blind = False
    world.until(lambda: world.vm("web").state is State.STOPPED)


# --- who belongs to the cluster -----------------------------------------------------------------


def test_a_node_that_leaves_is_gone_and_may_come_again(world: World) -> None:
    leaving = next(node_id for node_id in (3, 2) if node_id != world.leader_id)
    assert isinstance(world.ask(RemoveNode(leaving)), Accepted)
    world.until(lambda: leaving not in world.cluster.nodes)
    assert leaving not in world.members
    world.hosts[leaving].kill_daemon()
    world.join(leaving)
    assert world.cluster.nodes[leaving].membership is Membership.MEMBER


def test_a_leader_that_leaves_hands_over_first(world: World) -> None:
    leaving = world.leader_id
    assert isinstance(world.ask(RemoveNode(leaving)), Accepted)
    world.until(lambda: leaving not in world.cluster.nodes)
    assert world.leader_id != leaving
    assert set(world.members) == set(world.cluster.nodes)


def test_a_node_that_holds_a_vm_stays(world: World) -> None:
    node_id = world.bring_up()
    refused = world.ask(RemoveNode(node_id))
    assert isinstance(refused, Rejected)
    assert refused.code is Code.NODE_HOLDS_VMS
    world.ask(StopVm("web"))
    world.until(lambda: world.vm("web").holder is None)
    assert isinstance(world.ask(RemoveNode(node_id)), Accepted)
    world.until(lambda: node_id not in world.cluster.nodes)


# --- all at once --------------------------------------------------------------------------------


FAULTS = ["daemon", "host", "lag", "cut", "lead", "guest", "member", "ask", "ask", "ask"]


def disturb(world: World, random: Random) -> None:
    """One fault or one command of an operator, then a moment of time."""
    node_id = random.choice(sorted(world.hosts))
    host = world.hosts[node_id]
    running = [other for other in world.hosts.values() if other.daemon is not None]
    match random.choice(FAULTS):
        case "daemon" | "host" as what if host.daemon is not None and len(running) > 2:
            host.reboot() if what == "host" else host.kill_daemon()
        case "daemon" | "host":
            if host.daemon is None:
                world.start(node_id, random.randint(0, world.law.index))
        case "lag":
            host.lagging = not host.lagging and node_id != world.leader_id
        case "cut":
            host.reachable = not host.reachable
        case "lead":
            world.elect()
        case "guest" if host.units:
            world.crash_guest(host, random.choice(sorted(host.units)))
        case "ask":
            name = random.choice(["ci", "db", "web"])
            verbs = (StartVm, StopVm, RestartVm, DeleteVm)
            create = CreateVm(name, SPEC, policy=Policy(random.choice(list(OnQuorumLoss))))
            world.tell(random.choice([create, create, *(verb(name) for verb in verbs)]))
        case "member":
            leaves = random.random() < 0.5
            world.tell(RemoveNode(node_id) if leaves else world.admission(node_id))
    if world.hosts[world.leader_id].daemon is None or not world.hosts[world.leader_id].reachable:
        world.elect()
    world.run(random.randint(1, 15) * TICK_MS)


def heal(world: World) -> None:
    world.loss = 0.0
    for node_id, host in world.hosts.items():
        host.lagging, host.reachable = False, True
        if host.daemon is None:
            world.start(node_id, 0)
    world.run(20_000)
    for node_id in world.hosts:
        if node_id not in world.cluster.nodes:
            world.ask(world.admission(node_id))
    world.run(20_000)


@pytest.mark.parametrize("seed", range(60))
def test_after_any_faults_the_cluster_runs_what_is_wanted(seed: int) -> None:
    """At most one at every moment; and when the faults end, what the log says is what runs."""
    world, random = World(seed, loss=0.1), Random(seed)
    for _ in range(40):
        disturb(world, random)
    heal(world)
    assert set(world.members) == set(world.cluster.nodes) == set(world.hosts)
    for name, vm in world.cluster.vms.items():
        if vm.state is State.FAILED:
            assert vm.reason.code == "guest-exited"
            world.ask(StartVm(name))
    world.run(20_000)
    for name, vm in world.cluster.vms.items():
        expected = {Wanted.RUNNING: State.RUNNING, Wanted.STOPPED: State.STOPPED}[vm.wanted]
        assert vm.state is expected, vm
        assert len(world.running(name)) == (vm.wanted is Wanted.RUNNING)
    assert {name for host in world.hosts.values() for name in host.units} <= set(world.cluster.vms)


def test_a_report_of_an_earlier_daemon_that_lands_late_releases_nothing() -> None:
    """A failed build was reported and the report got stuck on its way; the daemon restarted and
    built the VM after all. When the old report lands now, the VM runs: it must keep its holder."""
    world = World(0)
    world.failing_builds.add("web")
    world.ask(CreateVm("web", SPEC))
    stuck: list[ReportVm] = []

    def detain(command: Command) -> bool:
        if isinstance(command, ReportVm) and command.state is State.FAILED:
            stuck.append(command)
        return bool(stuck)

    world.detain = detain
    world.until(lambda: stuck)
    restart_daemon(world, stuck[0].node_id, applied=world.law.index)
    world.detain = lambda _command: False
    world.failing_builds.clear()
    world.until(lambda: world.vm("web").state is State.RUNNING)
    world.ask(stuck[0])
    assert world.vm("web").state is State.RUNNING


def test_a_sign_in_that_lands_late_does_not_silence_the_daemon(world: World) -> None:
    """A daemon signed in, got no answer, and signed in again. When its first attempt lands now, the
    cluster takes that for a newer daemon: this one must notice, or nobody hears it again."""
    node_id = world.bring_up()
    node = world.cluster.nodes[node_id]
    world.ask(CheckIn(node_id, node.incarnation, node.address, node.capacity, node.version))
    world.ask(StopVm("web"))
    world.until(lambda: world.vm("web").state is State.STOPPED)


def test_a_leader_that_has_not_applied_its_log_changes_no_membership() -> None:
    """Node 3 leaves and comes again; a leader that has applied only the leaving throws it out."""
    world = World(0)
    world.elect(1)
    world.ask(RemoveNode(3))
    behind = world.hosts[2]
    behind.catch_up(world.law.index)
    behind.lagging = True
    world.until(lambda: 3 not in world.cluster.nodes)
    world.hosts[3].kill_daemon()
    world.join(3)
    assert behind.replica.nodes[3].membership is Membership.LEAVING
    world.elect(2, caught_up=False)
    world.run(5_000)
    behind.lagging = False
    world.run(20_000)
    assert set(world.members) == set(world.cluster.nodes) == {1, 2, 3}


def test_a_node_that_is_refused_does_not_fill_the_log(world: World) -> None:
    refused = next(node_id for node_id in (3, 2) if node_id != world.leader_id)
    world.ask(RemoveNode(refused))
    world.until(lambda: refused not in world.cluster.nodes)
    world.hosts[refused].kill_daemon()
    world.hosts[refused].life = None
    said = world.said
    world.start(refused, applied=world.law.index)
    world.run(60_000)
    assert world.said - said <= 12
