"""What goes wrong with disks."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blixard.sim.faults import Faults
    from blixard.sim.host import Host


def _victim(faults: "Faults") -> "Host | None":
    """A host whose disk may lie: one at a time, and only where the others are a majority."""
    hosts = list(faults.world.hosts.values())
    if not faults.is_whole():
        return None
    # Mostly one without VMs: a host that holds some cannot be removed.
    empty = [host for host in hosts if not host.hypervisor.units]
    host = faults.random.choice(empty if empty and faults.random.random() < 0.9 else hosts)
    host.stop("its disk fails", again=False)
    faults.lasting((0.5, 5), host.start)
    return host


def wipe(faults: "Faults") -> None:
    host = _victim(faults)
    if host is not None and host.disk.image is not None:
        host.wipe()
        host.is_unfit = True
        faults.world.bit("wipe")


def lost_tail(faults: "Faults") -> None:
    host = _victim(faults)
    if host is not None and host.disk.lose_tail():
        host.is_unfit = True
        faults.world.bit("lost-tail")


def bit_flip(faults: "Faults") -> None:
    host = _victim(faults)
    if host is not None and host.disk.flip_bit():
        host.is_unfit = True
        faults.world.bit("bit-flip")


def full_disk(faults: "Faults") -> None:
    disk = faults.host().disk
    disk.full = True

    def ending() -> None:
        disk.full = False

    faults.lasting((1, 10), ending)


def fsync_error(faults: "Faults") -> None:
    disk = faults.host().disk
    disk.failing = True

    def ending() -> None:
        disk.failing = False

    faults.lasting((0.5, 5), ending)


def slow_fsync(faults: "Faults") -> None:
    disk = faults.host().disk
    disk.slow = faults.random.choice((20, 200, 1_000))

    def ending() -> None:
        disk.slow = 1

    faults.lasting((1, 10), ending)
