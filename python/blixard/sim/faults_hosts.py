"""What goes wrong with processes, hosts, clocks and the membership."""

from typing import TYPE_CHECKING

from blixard.model import Accepted

if TYPE_CHECKING:
    from blixard.sim.faults import Faults


def crash(faults: "Faults") -> None:
    for host in faults.running():
        host.stop("killed", again=faults.random.random() < 0.8)
        faults.world.bit("crash")
        faults.lasting((0.5, 15), host.start)
        return


def crash_several(faults: "Faults") -> None:
    hosts = list(faults.running())
    for host in hosts[: max(2, len(hosts) // 2)]:
        host.stop("killed with others")
        faults.world.bit("crash-several")


def crash_all(faults: "Faults") -> None:
    for host in faults.running():
        host.stop("killed with all")
        faults.world.bit("crash-all")


def crash_at_message(faults: "Faults") -> None:
    for host in faults.running():
        host.fuse = ("message", faults.random.randint(1, 40))
        return


def crash_at_journal(faults: "Faults") -> None:
    for host in faults.running():
        kind = faults.random.choice(("journal", "journal", "journal, in a mark"))
        host.fuse = (kind, faults.random.randint(1, 12))
        return


def crash_at_snapshot(faults: "Faults") -> None:
    """The next snapshots that are sent are cut short; one host is away until it needs one."""
    for host in faults.running():
        host.fuse = ("snapshot", faults.random.randint(1, 3))
    away = faults.host()
    away.stop("killed, to fall behind", again=False)
    faults.lasting((6, 15), away.start)
    faults.calm(15)


def pause(faults: "Faults") -> None:
    for host in faults.running():
        seconds = faults.random.choice((0.3, 1.5, 4, 12))
        host.paused_until_us = faults.world.now_us + int(seconds * 1e6)
        return


def slow_node(faults: "Faults") -> None:
    host = faults.host()
    host.slowness = faults.random.choice((2, 5, 15))

    def ending() -> None:
        host.slowness = 1

    faults.lasting((1, 10), ending)


def reboot(faults: "Faults") -> None:
    for host in faults.running():
        host.lose_power()
        faults.world.bit("reboot")
        faults.lasting((1, 20), host.switch_on)
        return


def power_cut(faults: "Faults") -> None:
    for host in faults.world.hosts.values():
        if host.is_on:
            host.lose_power()
            faults.lasting((1, 6), host.switch_on)
            faults.world.bit("power-cut")


def clock_step(faults: "Faults") -> None:
    faults.host().wall_offset_ms += faults.random.choice((-3_600_000, -1_000, 1_000, 3_600_000))
    faults.world.bit("clock-step")


def membership(faults: "Faults") -> bool:
    """A node leaves; it comes back as a new member."""
    if not faults.is_whole():
        return False

    def asked(outcome: object) -> None:
        if isinstance(outcome, Accepted):
            faults.world.bit("membership")

    vms = faults.world.checks.canon.cluster.vms.values()
    holders = {vm.holder.node_id for vm in vms if vm.holder is not None}
    free = [node_id for node_id in faults.world.hosts if node_id not in holders]
    if free:
        faults.world.administrator.remove(faults.random.choice(free), asked)
    return bool(free)


def transfer(faults: "Faults") -> None:
    for host in faults.running():
        node = host.node
        if node is not None and node.is_open and node.engine.leads:
            node.enter(node.engine.transfer_leadership)
            faults.world.bit("transfer")
            return


def upgrade(faults: "Faults") -> None:
    """One node at a time gets the next release, and starts again."""
    old = [host for host in faults.world.hosts.values() if host.release == 1]
    if old:
        host = faults.random.choice(old)
        host.stop("is upgraded")
        host.release = 2
        faults.world.bit("upgrade")
