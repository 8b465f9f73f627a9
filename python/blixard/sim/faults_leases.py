"""What goes wrong with leases: whatever keeps a host from renewing, or from fencing."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blixard.sim.faults import Faults
    from blixard.sim.host import Host

BEYOND_S = (12.0, 30.0)
"""Longer than a lease, and longer than it takes until the host is declared down."""


def _with_vms(faults: "Faults") -> "Host | None":
    """A host whose daemon runs, mostly one that runs VMs."""
    hosts = list(faults.running())
    return next((host for host in hosts if host.hypervisor.slice()), hosts[0] if hosts else None)


def _without_daemon(faults: "Faults", host: "Host") -> None:
    """For longer than a lease nobody renews."""
    host.stop("killed, for longer than its lease", again=False)
    faults.lasting(BEYOND_S, host.start)


def _at_the_deadline(faults: "Faults", host: "Host", act: Callable[[], None]) -> None:
    """Nobody renews, and something happens shortly before the fence."""
    computer = host.computer
    _without_daemon(faults, host)
    before_us = faults.random.randrange(600_000)
    computer.at(computer.when_us(computer.keeper.deadline_ms) - before_us, act)


def daemon_dead(faults: "Faults") -> None:
    host = _with_vms(faults)
    if host is not None:
        if host.hypervisor.slice():
            faults.world.bit("daemon-dead")
        _without_daemon(faults, host)


def agent_pause(faults: "Faults") -> None:
    host = _with_vms(faults)
    if host is not None:
        seconds = faults.random.uniform(*BEYOND_S)
        host.paused_until_us = faults.world.now_us + int(seconds * 1e6)
        if host.hypervisor.slice():
            faults.world.bit("agent-pause")


def keeper_dead(faults: "Faults") -> None:
    host = _with_vms(faults)
    if host is not None:
        _at_the_deadline(faults, host, host.computer.keeper.kill)


def keeper_stopped(faults: "Faults") -> None:
    host = _with_vms(faults)
    if host is not None:
        _at_the_deadline(faults, host, host.computer.keeper.stop)


def freeze(faults: "Faults") -> None:
    host = _with_vms(faults)
    if host is not None:
        host.computer.freeze(faults.random.choice((2.0, 7.0, 15.0, 30.0)), "freeze")


def suspend(faults: "Faults") -> None:
    host = _with_vms(faults)
    if host is not None:
        host.computer.freeze(faults.random.choice((2.0, 7.0, 15.0, 30.0)), "suspend")


def self_restart(faults: "Faults") -> None:
    """Somebody's drop-in lets units restart themselves, and nobody renews."""
    host = _with_vms(faults)
    if host is None:
        return
    hypervisor = host.hypervisor
    hypervisor.restarts = True
    _without_daemon(faults, host)

    def ending() -> None:
        hypervisor.restarts = False

    faults.lasting((20, 40), ending)


def late_start(faults: "Faults") -> None:
    """The next start job waits behind others, while the lease ends."""
    _queue(faults, "late-start", faults.random.uniform(9, 20))


def queued_start(faults: "Faults") -> None:
    """The next start job is left in the queue."""
    _queue(faults, "queued-start", faults.random.uniform(30, 55))


def _queue(faults: "Faults", kind: str, seconds: float) -> None:
    for host in faults.running():
        hypervisor = host.hypervisor
        hypervisor.queued_starts.append((kind, seconds))

        def queued(host: "Host" = host) -> None:
            faults.world.later(1_000, lambda: _without_daemon(faults, host))

        hypervisor.queued = queued


def unkillable(faults: "Faults") -> None:
    """A process is stuck in the kernel while its host has to fence it."""
    host = _with_vms(faults)
    if host is None:
        return
    hypervisor = host.hypervisor
    stuck = next(iter(hypervisor.slice()), None)
    if stuck is not None:
        stuck.is_unkillable = True
        _without_daemon(faults, host)
        faults.lasting((10, 40), lambda: hypervisor.unstick(stuck))


def two_reboots(faults: "Faults") -> None:
    """The second within a lease of the first."""
    for host in faults.running():

        def again(host: "Host" = host) -> None:
            if host.is_on:
                host.lose_power()
                faults.world.bit("two-reboots")
                faults.lasting((0.5, 3), host.switch_on)

        host.lose_power()
        faults.lasting((0.5, 2), host.switch_on)
        faults.world.later(faults.random.uniform(2, 7) * 1e6, again)
        return


def disk_moved(faults: "Faults") -> None:
    """The disk goes on in another computer, while the old one still runs its VMs."""
    host = _with_vms(faults)
    if host is None or sum(one.is_on for one in host.computers) > 1:
        return
    if host.hypervisor.slice():
        faults.world.bit("disk-moved")
    host.move()
    faults.lasting((1, 5), host.switch_on)


def confirm_down(faults: "Faults") -> None:
    """An operator switches a host off, and says so at once, and again until he is heard."""
    host = faults.host()
    host.lose_power()
    faults.world.administrator.switch_off_old(host)
    faults.world.administrator.confirm(host, faults.random.uniform(5, 25))
    faults.lasting((2, 25), host.switch_on)
