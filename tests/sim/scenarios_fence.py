"""Short stories about the fence and the gate: on a host that was cut off, something happens shortly
before its deadline. Each fails without its rule."""

from blixard.model import State
from blixard.sim.host import Host
from sim.stage import Stage, daemon


def cut_off(stage: Stage, host: Host, before_ms: int) -> None:
    """Cut a host off, and wait until shortly before its deadline."""
    stage.cut_off(host)
    stage.until_ms(host, host.computer.keeper.deadline_ms - before_ms)


def restart_guests(host: Host) -> None:
    """Somebody's drop-in says `Restart=always`, and all guests die: they come back after a tenth of
    a second, if their gates let them."""
    host.hypervisor.restarts = True
    for name in list(host.hypervisor.units):
        host.hypervisor.crash_guest(name)


def a_start_that_waits(stage: Stage) -> Host:
    """A host that could start a VM now, but systemd does not answer."""
    stage.let_another_lead(stage.hosts[1])
    host = stage.create()
    stage.until(lambda: stage.vm().state is State.STARTING and stage.vm().runner)
    host.hypervisor.blind_until_us = 2**62
    stage.until(lambda: daemon(host).log.cluster().vms["web"].state is State.STARTING)
    return host


def guests_come_back_as_the_fence_begins() -> None:
    """Their gates let them through just before; their processes are there just after."""
    stage = Stage()
    hosts = {stage.bring_up(f"web-{number}") for number in range(8)}
    (host,) = hosts
    cut_off(stage, host, 101)
    restart_guests(host)
    stage.run(15)


def a_keeper_is_killed() -> None:
    stage = Stage()
    host = stage.bring_up()
    cut_off(stage, host, 10)
    host.computer.keeper.kill()
    stage.run(15)


def a_keeper_stands_still() -> None:
    stage = Stage()
    host = stage.bring_up()
    cut_off(stage, host, 10)
    host.computer.keeper.stop()
    stage.run(15)


def a_host_with_a_watchdog_freezes() -> None:
    """Shortly before its deadline, and until its lease is over."""
    stage = Stage(guaranteed=True)
    host = stage.bring_up()
    cut_off(stage, host, 10)
    host.computer.freeze(1.2, "freeze")
    stage.run(30)


def a_vm_starts_as_a_lease_ends() -> None:
    """Nothing ran before, so the watchdog was petted whatever the lease; then the host freezes."""
    stage = Stage(guaranteed=True)
    host = a_start_that_waits(stage)
    cut_off(stage, host, 2_000)
    host.hypervisor.blind_until_us = 0
    stage.until(lambda: host.hypervisor.units)
    stage.until_ms(host, host.computer.keeper.deadline_ms - 10)
    host.computer.freeze(1.2, "freeze")
    stage.run(30)


def guests_come_back_when_nobody_fences() -> None:
    """The keeper stands still, so the gates are there beyond the deadline."""
    stage = Stage()
    host = stage.bring_up()
    cut_off(stage, host, 60)
    host.computer.keeper.stop()
    restart_guests(host)
    stage.run(15)


def guests_come_back_after_the_fence() -> None:
    stage = Stage()
    host = stage.bring_up()
    cut_off(stage, host, 0)
    host.hypervisor.restarts = True
    stage.run(15)


def a_guest_dies_and_comes_back_by_itself() -> None:
    """It is reported gone only when it can not."""
    stage = Stage()
    host = stage.bring_up()
    restart_guests(host)
    stage.run(15)


def a_host_that_was_declared_down_hears_no_log() -> None:
    """Its disk hangs. It could start its VM, which another host runs by now."""
    stage = Stage()
    host = a_start_that_waits(stage)
    host.disk.slow = 1_000_000
    others = [(host.node_id, other) for other in stage.hosts if other != host.node_id]
    stage.world.network.block(*others)
    stage.until(stage.runs_at)
    stage.world.network.release(*others)
    host.hypervisor.blind_until_us = 0
    stage.run(10)
