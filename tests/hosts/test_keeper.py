"""The fence on a host with systemd: whatever dies or hangs, every VM is gone K after its deadline.

The VMs are shell scripts, in three units. This machine renews, as the daemon would, and sees each
process end through a pidfd. `BLIXARD_ROUNDS` rounds of each fault; their figures are printed.
"""

import contextlib
import os
import select
import socket
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hosts.conftest import NAMES, OpenLab
from hosts.machine import Machine, retry

ROUNDS = int(os.environ.get("BLIXARD_ROUNDS", "1"))
PATIENCE = 30
MS = 1_000_000
K_NS = 1_000 * MS
VMS = ("vm0", "vm1", "vm2")
UNITS = " ".join(f"microvm@{name}" for name in VMS)
SLICE = "blixard.slice/blixard-vms.slice"
LEASE_MS = 2_000
KEEPER = "blixard-keeper.service"
DEPUTY = "blixard-keeper-deputy.service"
BUSY = "while :; do :; done"


def now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wait_until_ns(moment_ns: int) -> None:
    """The fault strikes at a moment, not after something has happened."""
    while (left_ns := moment_ns - now_ns()) > 0:
        time.sleep(left_ns / 1e9)


class Host:
    """A host, seen and renewed from this machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._epoch = 0
        self._boot_id = machine.succeed("cat /proc/sys/kernel/random/boot_id").strip()
        self._slice = machine.outside(f"/sys/fs/cgroup/unified/{SLICE}")
        if not machine.outside("/sys/fs/cgroup/unified").exists():
            self._slice = machine.outside(f"/sys/fs/cgroup/{SLICE}")

    def ask(self, request: str) -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
            asking.settimeout(PATIENCE)
            asking.connect(str(self.machine.outside("/run/blixard-keeper.sock")))
            asking.send(request.encode())
            return asking.recv(1 << 18).decode()

    def renew(self, ahead_ms: int) -> int:
        """Renew, and return the deadline. A fence may still be at work."""
        retry(lambda _: self._renews(now_ns() + ahead_ms * MS), PATIENCE)
        return self._deadline_ns

    def _renews(self, deadline_ns: int) -> bool:
        self._deadline_ns = deadline_ns
        return self.ask(f"renew {self._boot_id} {deadline_ns}") == "ok"

    def permit(self, *names: str, keep: bool = False) -> None:
        self._epoch += 1
        for name in names:
            request = f"permit {name} {self._epoch} 1{' keep' if keep else ''}"
            assert self.ask(request) == "ok"

    def pids(self, unit: str = "*") -> set[int]:
        """The processes of one VM, or of all, by this machine's numbers."""
        found = set()
        for procs in self._slice.glob(f"{unit}/cgroup.procs"):
            with contextlib.suppress(OSError):
                found |= {int(pid) for pid in procs.read_text().split()}
        return found

    def _have_begun(self) -> bool:
        """Whether the guest of every unit runs: before it there is what starts it."""
        return all(any(map(_is_guest, self.pids(f"microvm@{name}.service"))) for name in VMS)

    def run_vms(self, lease_ms: int = LEASE_MS) -> tuple[int, list[int]]:
        """Start the VMs anew. Return the deadline, and a pidfd of each process."""
        self.machine.execute(f"systemctl stop {UNITS}; systemctl reset-failed")
        self.renew(lease_ms)
        self.permit(*VMS)
        self.machine.succeed(f"systemctl start {UNITS}")
        deadline_ns = self._deadline_ns
        retry(lambda _: self._have_begun(), PATIENCE)
        pids = self.pids()
        return deadline_ns, [os.pidfd_open(pid) for pid in sorted(pids)]

    def late_ns(self, fault: str, before_ms: int, deadline_ns: int, pidfds: list[int]) -> int:
        """Inflict a fault so long before the deadline, and return how long after it the last
        process ended. Nothing may have come back within K."""
        delay_s = max(0, deadline_ns - before_ms * MS - now_ns()) / 1e9
        with ThreadPoolExecutor() as beside:
            inflicted = beside.submit(self.machine.succeed, f"sleep {delay_s:.3f}; {fault}")
            late_ns = last_end_ns(pidfds) - deadline_ns
            inflicted.result()
        retry(lambda _: not self.pids(), PATIENCE)
        wait_until_ns(deadline_ns + K_NS)
        assert not self.pids()
        return late_ns


def _is_guest(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    return False


def last_end_ns(pidfds: list[int]) -> int:
    """When the last of these processes ended."""
    ending = select.poll()
    left = set(pidfds)
    for pidfd in pidfds:
        ending.register(pidfd, select.POLLIN)
    end_ns = 0
    while left:
        ended = ending.poll(PATIENCE * 1000)
        assert ended, "they live on"
        end_ns = now_ns()
        for pidfd, _ in ended:
            ending.unregister(pidfd)
            left.discard(pidfd)
            os.close(pidfd)
    return end_ns


@pytest.fixture(scope="module")
def host(new_lab: OpenLab) -> Host:
    lab = new_lab({name: {} for name in NAMES})
    machine = lab.machines[0]
    machine.start()
    machine.wait_for_unit("multi-user.target", timeout=90)
    machine.wait_for_unit(KEEPER, timeout=PATIENCE)
    for name in (*VMS, "kept"):
        machine.succeed(
            f"mkdir -p /srv/{name}/bin; install -d -g kvm -m 775 /var/lib/microvms/{name}",
            f"printf '#!/bin/sh\\nexec sleep infinity\\n' >/srv/{name}/bin/microvm-run",
            f"chmod 755 /srv/{name}/bin/microvm-run",
            f"ln -sfT /srv/{name} /var/lib/microvms/{name}/current",
        )
    return Host(machine)


@contextlib.contextmanager
def stress(host: Host, loops: int) -> Iterator[None]:
    """Busy loops beside the VMs, in the host's own cgroups."""
    host.machine.succeed(
        *(f"systemd-run --unit=busy{n} --collect sh -c '{BUSY}'" for n in range(loops))
    )
    try:
        yield
    finally:
        host.machine.succeed("systemctl stop 'busy*'")


STORM = f"for _ in $(seq 20); do systemctl start {UNITS} || true; done"

FAULTS: dict[str, tuple[str, int, int]] = {
    "no renewals": ("true", 0, 0),
    "no renewals, stress": ("true", 0, 4),
    "keeper kill -9": (f"systemctl kill -s KILL {KEEPER}", 200, 0),
    "keeper kill -9, stress": (f"systemctl kill -s KILL {KEEPER}", 200, 4),
    "keeper SIGSTOP": (f"systemctl kill -s STOP {KEEPER}", 100, 0),
    "keeper SIGSTOP, stress": (f"systemctl kill -s STOP {KEEPER}", 100, 4),
    "keeper SIGSTOP, overload": (f"systemctl kill -s STOP {KEEPER}", 100, 12),
    "deputy SIGSTOP": (f"systemctl kill -s STOP {DEPUTY}", 100, 0),
    "start storm": (STORM, 300, 0),
    "D-Bus stopped": ("systemctl kill -s STOP dbus.service", 500, 0),
    "journald stopped": ("systemctl kill -s STOP systemd-journald.service", 500, 0),
}
"""By name: what strikes, so many ms before the deadline, beside so many busy loops."""


@pytest.mark.parametrize("fault", [*FAULTS])
def test_no_vm_outlives_its_lease(host: Host, fault: str) -> None:
    command, before_ms, loops = FAULTS[fault]
    late_ms = []
    with stress(host, loops):
        for _ in range(ROUNDS):
            deadline_ns, pidfds = host.run_vms(2 * LEASE_MS if loops else LEASE_MS)
            try:
                late_ms.append(host.late_ns(command, before_ms, deadline_ns, pidfds) / MS)
            finally:
                host.machine.execute(f"systemctl kill -s CONT dbus systemd-journald {DEPUTY}")
    print(
        f"FENCE {fault}: n {len(late_ms)}, median {statistics.median(late_ms):.1f} ms, "
        f"worst {max(late_ms):.1f} ms"
    )
    journal = f"journalctl --no-pager --lines=80 -o short-precise -u {KEEPER} -u {DEPUTY}"
    host.machine.log(f"{[round(late) for late in late_ms]}\n{host.machine.succeed(journal)}")
    assert min(late_ms) * MS >= 0
    assert max(late_ms) * MS <= K_NS


def test_a_start_that_waits_behind_another_unit_comes_too_late(host: Host) -> None:
    machine = host.machine
    machine.succeed(
        "systemctl stop microvm@vm0",
        "mkdir -p /run/systemd/system/microvm@vm0.service.d",
        "printf '[Unit]\nAfter=slow.service\n'"
        " >/run/systemd/system/microvm@vm0.service.d/slow.conf",
        "systemctl daemon-reload",
        "systemd-run --no-block --unit=slow --property=Type=oneshot sleep 2",
    )
    try:
        deadline_ns = host.renew(1_000)
        host.permit("vm0")
        machine.succeed("systemctl start --no-block microvm@vm0")
        assert now_ns() < deadline_ns
        machine.wait_until_fails("systemctl list-jobs | grep microvm@vm0", PATIENCE)
        # Failed, if the fence was faster than the gate: that, too, is a process in the slice.
        assert machine.get_unit_property("microvm@vm0", "ActiveState") in {"inactive", "failed"}
        assert not host.pids()
    finally:
        machine.succeed("rm -r /run/systemd/system/microvm@vm0.service.d; systemctl daemon-reload")


@contextlib.contextmanager
def changed(host: Host, unit: str, text: str) -> Iterator[None]:
    """Somebody's own drop-in of the VMs' units, until the host has had enough of it."""
    folder = f"/run/systemd/system/{unit}.d"
    host.machine.succeed(
        f"mkdir -p {folder}", f"printf %b '{text}' >{folder}/90.conf; systemctl daemon-reload"
    )
    try:
        yield
    finally:
        host.machine.succeed(f"rm -r {folder}; systemctl daemon-reload")


def test_the_gate_alone_stops_a_unit_that_would_restart_itself(host: Host) -> None:
    with changed(host, "microvm@.service", "[Service]\nRestart=always\nRestartSec=0\n"):
        deadline_ns, pidfds = host.run_vms()
        assert host.late_ns("true", 0, deadline_ns, pidfds) <= K_NS
        for name in VMS:
            assert host.machine.get_unit_property(f"microvm@{name}", "ActiveState") == "inactive"


def test_what_a_unit_runs_once_its_vm_was_killed_is_killed_as_well(host: Host) -> None:
    """systemd starts it in the slice, after the first kill."""
    with changed(host, "microvm@.service", "[Service]\nExecStopPost=/bin/sleep infinity\n"):
        deadline_ns, pidfds = host.run_vms()
        assert host.late_ns("true", 0, deadline_ns, pidfds) <= K_NS
        for name in VMS:
            ended = host.machine.get_unit_property(f"microvm@{name}", "ExecStopPost")
            assert "code=killed" in ended, ended


def test_what_writes_to_the_shares_of_a_vm_has_its_gate_and_ends_with_it(host: Host) -> None:
    machine, unit = host.machine, "microvm-virtiofsd@shared"
    stand_in = "Type=simple\nWorkingDirectory=/\nExecStart=\nExecStart=/bin/sleep infinity\n"
    machine.succeed(f"systemctl stop {UNITS}")
    with changed(
        host, "microvm-virtiofsd@.service", f"[Unit]\nConditionPathExists=\n[Service]\n{stand_in}"
    ):
        host.renew(LEASE_MS)
        machine.succeed(f"systemctl start {unit}")
        assert machine.get_unit_property(unit, "ActiveState") == "inactive"
        host.permit("shared")
        deadline_ns = host.renew(LEASE_MS)
        machine.succeed(f"systemctl start {unit}")
        pidfds = [os.pidfd_open(pid) for pid in host.pids()]
        assert len(pidfds) == 1
        assert host.late_ns("true", 0, deadline_ns, pidfds) <= K_NS


def test_a_kept_vm_and_its_keeper_outlive_what_does_not_concern_them(host: Host) -> None:
    machine = host.machine
    host.renew(5_000)
    host.permit("kept", keep=True)
    machine.succeed("systemctl start microvm@kept")
    deadline_ns, pidfds = host.run_vms(6_000)
    before = host.pids()
    machine.succeed(
        f"systemctl restart {KEEPER}",
        "systemctl restart blixard-keeper.socket",
        "systemctl daemon-reexec",
        f"systemctl kill -s KILL {KEEPER}",
        f"systemctl stop {KEEPER}",
    )
    assert host.ask("status").startswith("ok"), "the slice upholds its keeper"
    assert host.pids() == before
    kept = int(machine.get_unit_property("microvm@kept", "MainPID"))
    for pidfd in pidfds:
        os.close(pidfd)
    kept_pids = host.pids("microvm@kept.service")
    assert kept_pids
    retry(lambda _: host.pids() == kept_pids, PATIENCE)
    assert now_ns() - deadline_ns < 2 * K_NS
    assert int(machine.get_unit_property("microvm@kept", "MainPID")) == kept
    host.renew(LEASE_MS)
    assert host.ask("revoke kept") == "ok open"
    machine.succeed("systemctl stop microvm@kept")


def test_a_keeper_that_is_gone_for_good_costs_its_host(host: Host) -> None:
    """The last test: the host reboots, and would have no keeper."""
    machine = host.machine
    program = machine.succeed(f"systemctl cat {KEEPER} | grep -o '/opt.*/keeper.py'").strip()
    _, pidfds = host.run_vms(6_000)
    machine.succeed(f"rm {program}")
    struck_ns = now_ns()
    machine.execute(f"systemctl kill -s KILL {KEEPER}")
    late_ms = (last_end_ns(pidfds) - struck_ns) / MS
    print(f"FENCE keeper gone: every VM ended {late_ms:.0f} ms after its death")
    assert late_ms * MS < 2 * K_NS
    # Its init is gone, whether or not another has taken its place by now.
    retry(lambda _: not machine.outside("/").exists(), PATIENCE)
