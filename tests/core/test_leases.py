"""Leases with real agents: who is lost, what that frees, and what goes on."""

from dataclasses import replace

import pytest

from blixard.agent import Agent
from blixard.commands import (
    ConfirmDown,
    CreateVm,
    DeclareNodeDown,
    DeleteVm,
    RegisterNode,
    RemoveNode,
    Renewal,
    RenewLeases,
    SetPolicy,
    StopVm,
)
from blixard.decide.node import Start
from blixard.errors import Code
from blixard.lease import LeaseTimes, down_after_ms, flaws
from blixard.model import (
    Accepted,
    Capacity,
    Outcome,
    Readiness,
    Rejected,
    State,
)
from blixard.policy import Failover, OnQuorumLoss, Policy
from blixard.ports import Done, Run, Unavailable, UnitState
from core.host import Host
from core.world import SPEC, World

KEEP = Policy(on_quorum_loss=OnQuorumLoss.KEEP)

# --- the arithmetic -----------------------------------------------------------------------------


def test_the_usual_times_are_sound() -> None:
    times = LeaseTimes()
    assert flaws(times) == []
    assert times.fence_after_ms == 8_000
    assert down_after_ms(times.lease_ms) == 9_000 + 90 + 200


@pytest.mark.parametrize(
    ("changes", "arithmetic"),
    [
        ({"lease_ms": 6_000}, "kill 1000 + renew 1000 + election 4000 = 6000 ms"),
        ({"renew_ms": 4_000}, "kill 1000 + renew 4000 + election 4000 = 9000 ms"),
        ({"kill_ms": 5_000}, "kill 5000 + renew 1000 + election 4000 = 10000 ms"),
        ({"watchdog_ms": 8_001}, "lease 9000 - renew 1000 = 8000 ms"),
    ],
)
def test_times_that_break_the_arithmetic(changes: dict[str, int], arithmetic: str) -> None:
    assert any(arithmetic in flaw for flaw in flaws(replace(LeaseTimes(), **changes)))


@pytest.mark.parametrize("drift", [-0.005, 0.0, 0.005])
@pytest.mark.parametrize("other", [-0.005, 0.0, 0.005])
@pytest.mark.parametrize("lease_ms", [7_000, 9_000, 60_000])
def test_no_clocks_within_the_drift_let_two_hosts_overlap(
    drift: float, other: float, lease_ms: int
) -> None:
    """The host sends, the leader applies at once: the worst case. In true time the host's lease
    ends before the leader's count does."""
    assert lease_ms / (1 + drift) <= down_after_ms(lease_ms) / (1 + other)


# --- a host is lost -----------------------------------------------------------------------------


def cut_off(world: World) -> Host:
    """Bring up a VM, and cut its host off from the others."""
    host = world.hosts[world.bring_up()]
    if world.leader_id == host.node_id:
        world.elect()
    world.until(lambda: world.vm("web").standby is not None)
    host.reachable = False
    return host


def test_the_vm_of_a_lost_host_runs_elsewhere(world: World) -> None:
    host, cut_ms = cut_off(world), world.now_ms
    world.until(lambda: world.vm("web").state is State.PENDING)
    assert world.vm("web").reason.code == "host-lost"
    assert world.running("web") == []
    world.until(lambda: world.vm("web").state is State.RUNNING)
    assert world.running("web") != [host.node_id]
    assert world.now_ms - cut_ms < 18_000
    host.reachable = True
    world.until(lambda: not world.cluster.nodes[host.node_id].is_down)
    world.run(5_000)
    assert world.running("web") != [host.node_id]


def test_a_lost_host_that_comes_back_in_time_keeps_its_vm(world: World) -> None:
    host = cut_off(world)
    unit = host.units["web"]
    world.run(5_000)
    host.reachable = True
    world.run(20_000)
    assert host.units["web"] is unit
    assert world.vm("web").state is State.RUNNING


def test_a_lease_that_ended_without_a_leader_to_say_so_is_no_failure(world: World) -> None:
    """The whole cluster stands still; every host fences itself. Then it goes on."""
    node_id = world.bring_up()
    for host in world.hosts.values():
        host.reachable = False
    world.run(9_000)
    assert world.running("web") == []
    for host in world.hosts.values():
        host.reachable = True
    world.until(lambda: world.vm("web").state is State.RUNNING)
    assert (world.vm("web").failures, world.vm("web").failed_on) == (0, None)
    assert world.hosts[node_id].fences == 1


def test_a_new_leader_counts_anew(world: World) -> None:
    """What the old one saw is not known to it: nobody is declared down within a lease of it."""
    host = cut_off(world)
    for _ in range(5):
        world.run(4_000)
        others = [i for i in world.hosts if i not in (host.node_id, world.leader_id)]
        world.elect(others[0])
    assert not world.cluster.nodes[host.node_id].is_down


def test_a_life_that_was_declared_over_never_goes_on(world: World) -> None:
    host = cut_off(world)
    world.until(lambda: world.cluster.nodes[host.node_id].is_down)
    node = world.cluster.nodes[host.node_id]
    late = RenewLeases((Renewal(node.node_id, node.incarnation, node.seq + 60_000),))
    assert isinstance(world.ask(late), Rejected)
    assert isinstance(
        world.ask(DeclareNodeDown(node.node_id, node.incarnation, node.seq)), Rejected
    )


def test_the_standby_has_built_when_it_is_needed(world: World) -> None:
    world.bring_up()

    def ready() -> bool:
        standby = world.vm("web").standby
        return standby is not None and standby.readiness is Readiness.BUILT

    world.until(ready)
    standby = world.vm("web").standby
    assert standby is not None
    assert "web" in world.hosts[standby.node_id].builds


# --- what is not failed over by itself ----------------------------------------------------------


@pytest.mark.parametrize("volumes", [("data.img",), None])
def test_a_vm_with_volumes_waits_for_its_host_unless_told(
    world: World, volumes: tuple[str, ...] | None
) -> None:
    for host in world.hosts.values():
        host.volumes = volumes  # type: ignore[assignment]
    host = world.hosts[world.bring_up()]
    if world.leader_id == host.node_id:
        world.elect()
    host.reachable = False
    world.until(lambda: world.vm("web").state is State.PENDING)
    world.run(20_000)
    assert world.vm("web").state is State.PENDING
    assert f"tied to node-{host.node_id}" in world.vm("web").reason.text
    world.ask(SetPolicy("web", Policy(failover=Failover.ALWAYS)))
    world.until(lambda: world.vm("web").state is State.RUNNING)


def test_a_vm_with_volumes_starts_again_on_its_host(world: World) -> None:
    for host in world.hosts.values():
        host.volumes = ("data.img",)
    host = world.hosts[world.bring_up()]
    if world.leader_id == host.node_id:
        world.elect()
    host.reachable = False
    world.until(lambda: world.cluster.nodes[host.node_id].is_down)
    host.reachable = True
    world.until(lambda: world.vm("web").state is State.RUNNING)
    assert world.running("web") == [host.node_id]


def kept_and_cut_off(world: World) -> Host:
    world.ask(CreateVm("web", SPEC, policy=KEEP))
    world.until(lambda: world.vm("web").state is State.RUNNING)
    (node_id,) = world.running("web")
    if world.leader_id == node_id:
        world.elect()
    world.hosts[node_id].reachable = False
    world.until(lambda: world.vm("web").state is State.UNREACHABLE)
    return world.hosts[node_id]


def test_a_vm_that_is_to_be_kept_runs_on_and_is_taken_over(world: World) -> None:
    host = kept_and_cut_off(world)
    unit, before = host.units["web"], world.vm("web").holder
    world.run(30_000)
    assert world.running("web") == [host.node_id]
    host.reachable = True
    world.until(lambda: world.vm("web").state is State.RUNNING)
    assert host.units["web"] is unit
    after = world.vm("web").holder
    assert before is not None
    assert after is not None
    assert (after.epoch, after.node_id) == (before.epoch, before.node_id)
    assert after.incarnation > before.incarnation


def test_only_a_person_frees_what_may_still_run(world: World) -> None:
    host = kept_and_cut_off(world)
    refused = world.ask(RemoveNode(host.node_id))
    assert isinstance(refused, Rejected)
    assert "confirm-down" in refused.fixes[0].command
    host.reboot()
    lost = world.cluster.nodes[host.node_id].incarnation
    earlier = world.ask(ConfirmDown(host.node_id, lost - 1, "root@here"))
    assert isinstance(earlier, Rejected)
    assert "was back in the meantime" in earlier.message
    accepted = world.ask(ConfirmDown(host.node_id, lost, "root@here"))
    assert isinstance(accepted, Accepted)
    assert accepted.note == "freed: web"
    world.until(lambda: world.vm("web").state is State.RUNNING)
    assert world.running("web") != [host.node_id]
    assert isinstance(world.ask(RemoveNode(host.node_id)), Accepted)


def test_a_kept_vm_that_is_to_stop_stops_when_its_host_is_back(world: World) -> None:
    host = kept_and_cut_off(world)
    world.ask(StopVm("web"))
    assert world.vm("web").state is State.STOPPING
    host.reachable = True
    world.until(lambda: world.vm("web").state is State.STOPPED)
    assert world.running("web") == []


def test_a_kept_vm_that_was_deleted_leaves_its_name_when_its_host_is_back(world: World) -> None:
    host = kept_and_cut_off(world)
    world.ask(DeleteVm("web"))
    refused = world.ask(CreateVm("web", SPEC))
    assert isinstance(refused, Rejected)
    assert refused.code is Code.BUSY
    host.reachable = True
    world.until(lambda: "web" not in world.cluster.vms)


def test_a_rebooted_host_does_not_claim_what_it_kept(world: World) -> None:
    host = kept_and_cut_off(world)
    host.reboot()
    host.reachable = True
    world.start(host.node_id, world.law.index)
    world.until(lambda: world.vm("web").state is State.RUNNING)
    assert len(world.running("web")) == 1


def test_a_policy_that_was_changed_while_cut_off_holds_from_the_next_placement(
    world: World,
) -> None:
    host = kept_and_cut_off(world)
    accepted = world.ask(SetPolicy("web", Policy()))
    assert isinstance(accepted, Accepted)
    assert "once it is started anew" in accepted.note
    world.run(30_000)
    assert world.vm("web").state is State.UNREACHABLE
    assert world.running("web") == [host.node_id]


# --- another machine ----------------------------------------------------------------------------


def test_another_machine_takes_the_id_only_when_the_lease_is_over(world: World) -> None:
    host = cut_off(world)
    node = world.cluster.nodes[host.node_id]

    def elsewhere() -> RegisterNode:
        return RegisterNode(
            node.node_id,
            "another machine",
            node.join_id,
            node.address,
            node.incarnation,
            Capacity(4, 4096),
            "1.0",
        )

    refused = world.ask(elsewhere())
    assert isinstance(refused, Rejected)
    assert refused.code is Code.NODE_TAKEN
    host.reboot()
    world.until(lambda: world.cluster.nodes[host.node_id].is_down)
    assert isinstance(world.ask(elsewhere()), Accepted)
    assert world.cluster.nodes[host.node_id].machine_id == "another machine"


# --- one renewal --------------------------------------------------------------------------------


def test_a_renewal_counts_from_when_it_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer comes late; the fence is told what was left of it, and never less than before."""
    world = World(0)
    host = world.hosts[1]
    agent = host.daemon
    assert agent is not None
    answers: list[Done] = []
    monkeypatch.setattr(agent._log, "submit", lambda _command, done: answers.append(done))
    sent_ms = world.now_ms
    agent.renew()
    world.now_ms += 3_000
    agent.renew()
    world.now_ms += 500
    answers[1](Accepted(world.law.index))
    assert host.deadline_ms == sent_ms + 3_000 + 8_000
    answers[0](Accepted(world.law.index))
    assert host.deadline_ms == sent_ms + 3_000 + 8_000
    assert agent.lease_left_ms == 7_500


def test_nothing_starts_before_the_log_is_as_far_as_the_renewal() -> None:
    """The renewal was accepted at an index that this host has not applied yet."""
    world = World(0)
    world.run(3_000)
    host = world.hosts[1]
    agent = host.daemon
    assert agent is not None
    start = Start("web", Run(1, 2, 3, "/nix/store/0-web"))
    agent._act(start, agent._renewed_index - 1)
    assert host.units == {}
    agent._act(start, agent._renewed_index)
    assert host.units["web"].state is UnitState.STARTING


def test_nothing_starts_without_a_lease() -> None:
    world = World(0)
    world.run(3_000)
    host = world.hosts[1]
    agent = host.daemon
    assert agent is not None
    world.now_ms += 9_000
    agent._act(Start("web", Run(1, 2, 3, "/nix/store/0-web")), agent._renewed_index)
    assert host.units == {}


# --- what would happen otherwise ----------------------------------------------------------------


def test_a_renewal_counted_from_its_answer_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sabotage: the lease is counted from the acknowledgement."""
    original = Agent._renewed

    def late(agent: Agent, renewal: Renewal, outcome: Outcome | Unavailable) -> None:
        original(agent, replace(renewal, seq=agent._clock.boot_ms()), outcome)

    monkeypatch.setattr(Agent, "_renewed", late)
    with pytest.raises(AssertionError):
        test_a_renewal_counts_from_when_it_was_sent(monkeypatch)
