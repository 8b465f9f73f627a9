"""Short stories about leases, for rules that random histories seldom need: how a lease is counted,
and what ends a host's life. Each fails without its rule."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from blixard.commands import (
    ConfirmDown,
    DeclareNodeDown,
    PlaceVm,
    RegisterNode,
    Renewal,
    RenewLeases,
    SetPolicy,
    StartVm,
    StopVm,
)
from blixard.model import (
    State,
)
from blixard.policy import Policy
from blixard.sim.host import Host
from blixard.sim.hypervisor import Unit
from sim.stage import Stage

# --- how a lease is counted -----------------------------------------------------------------------


@contextmanager
def slow_kills(host: Host) -> Iterator[None]:
    """Each kill takes what the budget allows."""
    kill = host.hypervisor.sigkill

    def kill_slowly(unit: Unit, _after_us: int) -> None:
        kill(unit, 980_000)

    with patch.object(host.hypervisor, "sigkill", kill_slowly):
        yield


def answers_are_slow() -> None:
    """The answer to a renewal takes two seconds; then the host is cut off."""
    stage = Stage()
    host = stage.bring_up()
    stage.world.network.slowed[stage.leader.node_id, host.node_id] = 2_000_000
    stage.run(8)
    stage.cut_off(host)
    stage.run(15)


def hosts_were_switched_on_at_different_times() -> None:
    """The stamps of the youngest are far behind the clock of whoever leads next."""
    stage = Stage()
    host = stage.bring_up()
    stage.run(15)
    assert stage.runs_at() == [host.node_id]


def a_leader_is_cut_off() -> None:
    """It hears its own renewals until it steps down, but can commit none. The kill takes the whole
    budget."""
    stage = Stage()
    host = stage.bring_up()
    stage.let_lead(host)
    stage.hurry(host)
    with slow_kills(host):
        stage.cut_off(host)
        stage.run(15)


def a_renewal_of_an_earlier_boot_lands_late() -> None:
    """Its stamp is ahead of all that follow. And the leader's disk is so slow that renewals share
    their entries."""
    stage = Stage()
    host = stage.hosts[1]
    earlier = stage.node(host)
    host.lose_power()
    host.switch_on()
    stage.until(lambda: stage.node(host).incarnation > earlier.incarnation)
    stage.bring_up()
    stage.leader.disk.slow = 100
    stage.hurry(stage.leader)
    late = Renewal(host.node_id, earlier.incarnation, earlier.seq + 1)
    assert late.seq > stage.node(host).seq
    stage.ask(RenewLeases((late,)))
    stage.run(12)


def clocks_are_as_wrong_as_they_may_be() -> None:
    """The host's is slow, the leader's is fast. The kill takes the whole budget, and the leader
    misses no moment."""
    stage = Stage(rates=(0.995, 1.005, 1.005))
    host = stage.bring_up()
    stage.hurry(stage.leader)
    stage.run(2)
    with slow_kills(host):
        stage.cut_off(host)
        stage.until(lambda: stage.is_down(host))


# --- what ends a life -----------------------------------------------------------------------------


def a_word_that_a_host_is_down_lands_late() -> None:
    """It has renewed in the meantime."""
    stage = Stage()
    host = stage.bring_up()
    before = stage.node(host)
    stage.until(lambda: stage.node(host).seq > before.seq)
    stage.ask(DeclareNodeDown(host.node_id, before.incarnation, before.seq))
    stage.run(1)


def a_word_that_an_earlier_life_is_over_lands_late() -> None:
    """And it so happens that the stamps of two boots are the same."""
    stage = Stage()
    host = stage.bring_up()
    before = stage.node(host)
    stage.until(lambda: stage.node(host).seq > before.seq)
    seq = stage.node(host).seq
    stage.ask(DeclareNodeDown(host.node_id, before.incarnation - 1, seq))
    assert stage.node(host).seq == seq
    stage.run(1)


def a_placement_lands_late() -> None:
    """Its host was declared down in the meantime, and never comes back."""
    stage = Stage()
    host = stage.bring_up()
    stage.ask(StopVm("web"))
    stage.until(lambda: stage.vm().state is State.STOPPED)
    stage.cut_off(host)
    stage.until(lambda: stage.is_down(host))
    place = PlaceVm("web", stage.vm().uid, host.node_id, stage.node(host).incarnation)
    stage.ask(StartVm("web"), place)
    stage.run(30)
    assert stage.vm().state is State.RUNNING, "convergence: web waits for a host that is lost"


def a_placement_is_overtaken() -> None:
    """Its host has filled up meanwhile."""
    stage = Stage()
    host = stage.bring_up()
    stage.ask(StopVm("web"))
    stage.until(lambda: stage.vm().state is State.STOPPED)
    names = (f"other-{number}" for number in range(100))
    while stage.room_on(host):
        name = next(names)
        stage.create(name)
        stage.until(lambda: stage.vm(name).state is State.RUNNING)  # noqa: B023 - asked at once
    place = PlaceVm("web", stage.vm().uid, host.node_id, stage.node(host).incarnation)
    stage.ask(StartVm("web"), place)
    stage.run(5)


def a_disk_is_put_into_another_machine() -> None:
    """The old one runs on until its lease ends."""
    stage = Stage()
    host = stage.bring_up()
    host.move()
    stage.run(2)
    host.switch_on()
    stage.until(lambda: host.computer.life)
    stage.until(stage.runs_at)


def an_emptied_data_directory_registers() -> None:
    """Under the id of its machine, on which a VM runs."""
    stage = Stage()
    host = stage.bring_up()
    node = stage.node(host)
    stage.ask(
        RegisterNode(
            node.node_id,
            node.machine_id,
            "another",
            node.address,
            node.incarnation,
            node.capacity,
            node.version,
        )
    )
    stage.run(1)


def a_daemon_has_lost_the_note_of_its_life() -> None:
    """Nothing says that its host was not booted anew. What runs is stopped, although it might go
    on: the price of the lost note."""
    stage = Stage(allows="undisturbed")
    host = stage.bring_up()
    host.stop("killed")
    host.computer.life = None
    stage.until(lambda: host.computer.life)
    stage.until(stage.runs_at)


# --- what frees a VM, and what does not -----------------------------------------------------------


def a_daemon_is_stopped_and_started() -> None:
    stage = Stage()
    host = stage.bring_up()
    host.stop("is restarted")
    stage.run(15)
    assert stage.runs_at() == [host.node_id]


def an_operator_takes_a_host_for_dead() -> None:
    """It is only cut off, and its lease still runs."""
    stage = Stage()
    host = stage.bring_up()
    stage.cut_off(host)
    stage.ask(ConfirmDown(host.node_id, stage.node(host).incarnation, "operator"))
    stage.run(15)


def kept_and_lost(stage: Stage) -> Host:
    """A host that was declared down with a VM that it keeps."""
    host = stage.bring_up(keep=True)
    stage.cut_off(host)
    stage.until(lambda: stage.is_down(host))
    stage.run(15)
    assert stage.runs_at() == [host.node_id]
    return host


def a_host_is_lost_with_what_it_keeps() -> None:
    kept_and_lost(Stage())


def a_host_comes_back_with_what_it_kept() -> None:
    stage = Stage()
    host = kept_and_lost(stage)
    stage.rejoin(host)
    stage.until(lambda: stage.vm().state is State.RUNNING)
    assert stage.runs_at() == [host.node_id]


def a_policy_is_changed_while_a_host_is_cut_off() -> None:
    stage = Stage()
    host = stage.bring_up(keep=True)
    stage.cut_off(host)
    stage.ask(SetPolicy("web", Policy()))
    stage.until(lambda: stage.is_down(host))
    stage.run(15)
    assert stage.runs_at() == [host.node_id]


def an_operators_word_lands_late() -> None:
    """The host was back in the meantime, with what it kept, and is cut off again."""
    stage = Stage()
    host = kept_and_lost(stage)
    seen = stage.node(host).incarnation
    stage.rejoin(host)
    stage.until(lambda: stage.vm().state is State.RUNNING)
    stage.cut_off(host)
    stage.until(lambda: stage.is_down(host))
    stage.ask(ConfirmDown(host.node_id, seen, "operator"))
    stage.run(15)
