"""What a host says of itself, and what it remembers of its life."""

import os
import shutil
from pathlib import Path

import pytest

from blixard.drivers import host
from blixard.drivers.lives import LifeFile
from blixard.model import Capacity

HERE = Path(__file__).parent


def test_a_life_is_remembered_until_the_next_boot(tmp_path: Path) -> None:
    path = tmp_path / "life"
    life = LifeFile(path, "boot-1")
    assert life.load() is None
    life.save(7)
    life.save(9)
    assert LifeFile(path, "boot-1").load() == 9
    assert LifeFile(path, "boot-2").load() is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["life"]


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"incarnation": "x", "boot_id": "b"}'])
def test_a_damaged_life_is_as_good_as_none(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "life"
    path.write_text(damage)
    assert LifeFile(path, "b").load() is None
    LifeFile(path, "b").save(3)
    assert LifeFile(path, "b").load() == 3


def test_capacity_counts_the_cpus_that_may_be_used() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert host.capacity(HERE).vcpus == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_capacity_leaves_a_reserve() -> None:
    whole = host.capacity(HERE)
    total_kib = int(Path("/proc/meminfo").read_text().split()[1])
    assert whole.memory_mib == total_kib // 1024
    usage = shutil.disk_usage(HERE)
    assert whole.disk_mib == usage.total // 1024**2
    less = host.capacity(HERE, 1024, 100)
    assert less == Capacity(whole.vcpus, whole.memory_mib - 1024, whole.disk_mib - 100)
    nothing = host.capacity(HERE, 10**9, 10**9)
    assert (nothing.memory_mib, nothing.disk_mib) == (0, 0)


def test_a_host_knows_its_processor() -> None:
    has_flag = bool(set(Path("/proc/cpuinfo").read_text().split()) & {"vmx", "svm"})
    arch = os.uname().machine
    assert host.labels()["arch"] == arch
    if arch == "x86_64":
        assert host.labels()["kvm"] == ("yes" if has_flag else "no")


def test_the_machine_id_tells_data_directories_apart(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    one = host.machine_id(tmp_path)
    assert one == host.machine_id(tmp_path / "link")
    assert one != host.machine_id(tmp_path / "other")
    assert len(one) == 64
    assert Path("/etc/machine-id").read_text().strip() not in one


def test_the_clock_goes_on() -> None:
    clock = host.SystemClock()
    first = clock.boot_ms(), clock.wall_ms()
    assert first <= (clock.boot_ms(), clock.wall_ms())
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    assert abs(clock.boot_ms() / 1000 - uptime_s) < 1


def test_the_boot_id_stays() -> None:
    assert host.boot_id() == host.boot_id()
    assert len(host.boot_id()) == 36
