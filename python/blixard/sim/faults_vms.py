"""What goes wrong with builds and guests, and with what runs them."""

from typing import TYPE_CHECKING

from blixard.ports import UnitState

if TYPE_CHECKING:
    from blixard.sim.faults import Faults


def build_failure(faults: "Faults") -> None:
    faults.host().computer.builds.failing += 1


def build_hang(faults: "Faults") -> None:
    faults.host().computer.builds.hanging += 1


def start_failure(faults: "Faults") -> None:
    faults.host().hypervisor.failing_starts += 1


def vm_crash(faults: "Faults") -> None:
    hosts = list(faults.world.hosts.values())
    faults.random.shuffle(hosts)
    for host in hosts:
        active = [
            n
            for n, u in host.hypervisor.units.items()
            if u.state is UnitState.ACTIVE and u.is_there
        ]
        if active:
            host.hypervisor.crash_guest(faults.random.choice(active))
            faults.world.bit("vm-crash")
            return


def guest_stall(faults: "Faults") -> bool:
    """A guest that is checked serves no more."""
    cluster = faults.world.checks.canon.cluster
    for host in faults.running():
        for name, unit in sorted(host.hypervisor.units.items()):
            vm = cluster.vms.get(name)
            checked = vm is not None and vm.policy.check is not None
            if checked and unit.is_there and unit.serves:
                host.hypervisor.stall_guest(name)
                faults.world.bit("guest-stall")
                return True
    return False


def driver_hang(faults: "Faults") -> None:
    hypervisor = faults.host().hypervisor
    if faults.random.random() < 0.3:
        hypervisor.hanging_starts += 1
    else:
        seconds = faults.random.uniform(1, 20)
        hypervisor.blind_until_us = faults.world.now_us + int(seconds * 1e6)
