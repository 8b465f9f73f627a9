"""What a node is equipped with, as its configuration and its host have it."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from blixard import __version__
from blixard.agent import Self
from blixard.config import RUNTIME_DIR, NodeConfig
from blixard.drivers import host
from blixard.drivers.lives import LifeFile
from blixard.drivers.process import ProcessUnits
from blixard.drivers.process_consoles import ProcessConsoles
from blixard.drivers.systemd import SystemdUnits
from blixard.drivers.systemd_consoles import SystemdConsoles
from blixard.drivers.systemd_files import UnitFiles
from blixard.model import LEVEL, Capacity
from blixard.ports import Clock, Consoles, Units

MICROVMS: Final = Path("/var/lib/microvms")
"""Where microvm.nix keeps VMs (its doc/src/conventions.md)."""


class BestEffortUnits(SystemdUnits):
    """Runs VMs on a host whose watchdog, if it has one, nobody is to rely on."""

    @property
    def guaranteed(self) -> bool:
        return False


def units(
    config: NodeConfig, wake: Callable[[], None], clock: Clock
) -> ProcessUnits | SystemdUnits:
    """What runs the VMs. `wake` is called when something has changed."""
    if config.driver == "systemd" or (config.driver == "auto" and host.has_systemd()):
        files = UnitFiles(MICROVMS, RUNTIME_DIR / "units")
        kind = BestEffortUnits if config.watchdog_mode == "best-effort" else SystemdUnits
        return kind(files, wake=wake)
    directory = config.data_dir / "vms"
    return ProcessUnits(directory, wake=wake, clock=clock, boot_id=host.boot_id())


def consoles(config: NodeConfig, units: Units) -> Consoles:
    """What reaches the consoles of those VMs."""
    if isinstance(units, SystemdUnits):
        return SystemdConsoles(RUNTIME_DIR / "units")
    return ProcessConsoles(config.data_dir / "vms")


def lives(config: NodeConfig) -> LifeFile:
    """What remembers the present life of the node."""
    return LifeFile(config.data_dir / "life.json", host.boot_id())


def self_of(config: NodeConfig, join_id: str) -> Self:
    """What the node says of itself: what its configuration leaves out, its host tells."""
    wanted = config.capacity
    here = host.capacity(config.data_dir, wanted.reserve_memory_mib, wanted.reserve_disk_mib)
    return Self(
        node_id=config.node_id,
        address=config.advertise,
        machine_id=host.machine_id(config.data_dir),
        join_id=join_id,
        capacity=Capacity(
            vcpus=wanted.vcpus or here.vcpus,
            memory_mib=wanted.memory_mib or here.memory_mib,
            disk_mib=wanted.disk_mib or here.disk_mib,
        ),
        version=__version__,
        labels={**config.labels, **host.labels()},
        level=LEVEL,
        times=config.lease,
    )
