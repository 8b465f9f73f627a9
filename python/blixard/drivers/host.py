"""What this host says of itself. Reads /proc (proc(5)) and /etc, at once and rarely."""

import hashlib
import os
import time
from pathlib import Path

from blixard.model import Capacity

_MIB = 1024 * 1024


class SystemClock:
    """Implements `ports.Clock`."""

    def boot_ms(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000


def boot_id() -> str:
    """Names the time from one boot of this host to the next."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def machine_id(data_dir: Path) -> str:
    """Names this machine and the data directory on it, as 64 hexadecimal digits.

    Built on machine-id(5), which is not told to others as it is. A machine without one is known by
    its boot: to the cluster it is another machine after each.
    """
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except FileNotFoundError:
        machine = ""
    identity = f"blixard\0{machine or boot_id()}\0{data_dir.resolve()}"
    return hashlib.sha256(identity.encode()).hexdigest()


def capacity(reserve_memory_mib: int = 0) -> Capacity:
    """What this host can give to VMs: the CPUs on which this process may run, and
    its memory less `reserve_memory_mib`."""
    memory_mib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MIB
    return Capacity(len(os.sched_getaffinity(0)), max(0, memory_mib - reserve_memory_mib))


def has_systemd() -> bool:
    """Whether systemd is this host's init (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()
