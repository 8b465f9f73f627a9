"""What this host says of itself. Reads /proc (proc(5)) and /etc, at once and rarely."""

import hashlib
import os
import time
from pathlib import Path

from blixard.model import Capacity

_MIB = 1024 * 1024
_KVM = Path("/dev/kvm")


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


def capacity(directory: Path, reserve_memory_mib: int = 0, reserve_disk_mib: int = 0) -> Capacity:
    """What this host can give to VMs: the CPUs on which this process may run, its memory, and the
    size of the file system at `directory` (statvfs(3)), less what is kept for the host."""
    memory_mib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MIB
    system = os.statvfs(directory)
    disk_mib = system.f_blocks * system.f_frsize // _MIB
    return Capacity(
        vcpus=len(os.sched_getaffinity(0)),
        memory_mib=max(0, memory_mib - reserve_memory_mib),
        disk_mib=max(0, disk_mib - reserve_disk_mib),
    )


def labels() -> dict[str, str]:
    """What this host finds out about itself. Hardware virtualisation is a flag of the CPU
    (cpuid(4)): the device /dev/kvm may be there without it."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    has_kvm = bool(flags & {"vmx", "svm"}) or (os.uname().machine == "aarch64" and _KVM.exists())
    return {"arch": os.uname().machine, "kvm": "yes" if has_kvm else "no"}


def has_systemd() -> bool:
    """Whether systemd is this host's init (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()
