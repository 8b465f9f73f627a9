"""What goes wrong with leases: whatever keeps a host from renewing, or from fencing."""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING

from blixard.errors import Code
from blixard.model import LEASE_MS, Rejected
from blixard.sim.network import Detention

if TYPE_CHECKING:
    from blixard.sim.faults import Faults
    from blixard.sim.host import Host

FREEZE_S = (2.0, 7.0, 9.5, 15.0, 30.0)
DETAINED_S = (4.0, 8.0)
"""Longer than a second boot takes to register."""
SENT_US = 20_000_000
"""For so long a boot may take until it says something."""
BEYOND_S = (12.0, 30.0)
"""Longer than a lease, and longer than it takes until the host is declared down."""
LEASE_S = LEASE_MS / 1000


def _with_vms(faults: "Faults") -> "Host | None":
    """A host whose daemon runs, and that runs VMs that the fence has to end."""
    return next((host for host in faults.running() if host.hypervisor.slice()), None)


def _of_a_host_with_vms(act: Callable[["Faults", "Host"], None]) -> Callable[["Faults"], bool]:
    """A fault that strikes such a host, if there is one."""

    @wraps(act)
    def strike(faults: "Faults") -> bool:
        host = _with_vms(faults)
        if host is not None:
            act(faults, host)
        return host is not None

    return strike


def _without_daemon(faults: "Faults", host: "Host") -> None:
    """For longer than a lease nobody renews."""
    host.stop("killed, for longer than its lease", again=False)
    faults.calm(LEASE_S)
    faults.lasting(BEYOND_S, host.start)


def _at_the_deadline(
    faults: "Faults", host: "Host", longest_us: int, act: Callable[[], None]
) -> None:
    """Nobody renews, and something happens shortly before the fence."""
    computer = host.computer
    _without_daemon(faults, host)
    before_us = faults.random.randrange(longest_us)
    computer.at(computer.when_us(computer.keeper.deadline_ms) - before_us, act)


@_of_a_host_with_vms
def daemon_dead(faults: "Faults", host: "Host") -> None:
    faults.world.bit("daemon-dead")
    _without_daemon(faults, host)


@_of_a_host_with_vms
def agent_pause(faults: "Faults", host: "Host") -> None:
    seconds = faults.random.uniform(*BEYOND_S)
    host.paused_until_us = faults.world.now_us + int(seconds * 1e6)
    faults.world.bit("agent-pause")


@_of_a_host_with_vms
def keeper_dead(faults: "Faults", host: "Host") -> None:
    _at_the_deadline(faults, host, 250_000, host.computer.keeper.kill)


@_of_a_host_with_vms
def keeper_stopped(faults: "Faults", host: "Host") -> None:
    _at_the_deadline(faults, host, 600_000, host.computer.keeper.stop)


@_of_a_host_with_vms
def freeze(faults: "Faults", host: "Host") -> None:
    _freeze(faults, host, "freeze")


@_of_a_host_with_vms
def suspend(faults: "Faults", host: "Host") -> None:
    _freeze(faults, host, "suspend")


def _freeze(faults: "Faults", host: "Host", kind: str) -> None:
    seconds = faults.random.choice(FREEZE_S)
    host.computer.freeze(seconds, kind)
    faults.calm(seconds)


@_of_a_host_with_vms
def self_restart(faults: "Faults", host: "Host") -> None:
    """Somebody's drop-in lets units restart themselves, and nobody renews."""
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
    _queue(faults, "queued-start", faults.random.uniform(20, 40))


def _queue(faults: "Faults", kind: str, seconds: float) -> None:
    for host in faults.running():
        hypervisor = host.hypervisor
        hypervisor.queued_starts.append((kind, seconds))

        def queued(host: "Host" = host) -> None:
            faults.world.later(1_000, lambda: _without_daemon(faults, host))

        hypervisor.queued = queued


@_of_a_host_with_vms
def unkillable(faults: "Faults", host: "Host") -> None:
    """A process is stuck in the kernel while its host has to fence it."""
    hypervisor = host.hypervisor
    stuck = hypervisor.slice()[0]
    stuck.is_unkillable = True
    _without_daemon(faults, host)
    faults.lasting((10, 40), lambda: hypervisor.unstick(stuck))


def late_register(faults: "Faults") -> None:
    """What a host says in the first of two boots arrives when the second one has registered."""
    host = next((host for host in faults.running() if host.computer.life is not None), None)
    if host is None:
        return
    world, until_us = faults.world, faults.world.now_us + SENT_US

    def answered(answer: object) -> None:
        known = world.checks.canon.cluster.nodes.get(host.node_id)
        is_stale = isinstance(answer, Rejected) and answer.code is Code.STALE
        if is_stale and known is not None and known.incarnation == host.computer.life:
            world.bit("late-register")

    def again() -> None:
        """Once something is on its way."""
        if not detention.calls and world.now_us < until_us:
            world.later(500_000, again)
            return
        faults.network.detained.pop(host.node_id, None)
        if detention.calls and host.is_on:
            host.lose_power()
            faults.lasting((0.5, 1), host.switch_on)

    host.lose_power()
    late_us = int(faults.random.uniform(*DETAINED_S) * 1e6)
    faults.network.detained[host.node_id] = detention = Detention(late_us, answered)
    faults.lasting((0.5, 2), host.switch_on)
    again()


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


def disk_moved(faults: "Faults") -> bool:
    """The disk goes on in another computer, while the old one still runs its VMs."""
    host = _with_vms(faults)
    if host is None or sum(one.is_on for one in host.computers) > 1:
        return False
    faults.world.bit("disk-moved")
    host.move()
    faults.lasting((1, 5), host.switch_on)
    return True


def confirm_down(faults: "Faults") -> None:
    """An operator switches a host off, and says so at once, and again until he is heard."""
    host = faults.host()
    host.lose_power()
    faults.world.administrator.switch_off_old(host)
    faults.world.administrator.confirm(host, faults.random.uniform(5, 25))
    faults.lasting((2, 25), host.switch_on)
