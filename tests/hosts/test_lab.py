"""The lab itself: what it promises to the scripts that run on it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hosts.conftest import OpenLab
from hosts.enter import cgroups
from hosts.lab import GUEST, Lab, sweep
from hosts.layers import ROOT, Layer, hosts_layers
from hosts.machine import Machine, RequestedAssertionFailed, retry

SLEEPER = """
[Service]
ExecStart=/bin/sleep infinity
ExecStop=/bin/sh -c 'echo stopped >/var/lib/stopped'
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture(scope="module")
def lab(new_lab: OpenLab) -> Lab:
    """Four hosts that run; on the first, a unit that never ends."""
    lab = new_lab({"node1": {"/etc/systemd/system/sleeper.service": SLEEPER}})
    lab.start_all()
    return lab


@pytest.fixture
def node1(lab: Lab) -> Machine:
    return lab.machines[0]


@pytest.fixture
def node2(lab: Lab) -> Machine:
    return lab.machines[1]


def test_a_command_gives_its_status_and_its_output(node1: Machine) -> None:
    assert node1.execute("echo out; echo err >&2; exit 7") == (7, "out\n")
    assert node1.execute("exit 7", check_return=False) == (-1, "")
    assert node1.execute("echo out", check_output=False) == (-2, "")
    assert node1.execute("sleep 30", timeout=1)[0] == 124
    assert node1.execute("false | true")[0] == 1, "a pipe hides no failure"
    assert node1.succeed("hostname", "whoami") == "node1\nroot\n"
    assert node1.fail("echo out; false") == "out\n"
    with pytest.raises(RequestedAssertionFailed, match="failed with 3"):
        node1.succeed("exit 3")
    with pytest.raises(RequestedAssertionFailed, match="succeeded"):
        node1.fail("true")


def test_every_unit_of_a_host_starts(lab: Lab) -> None:
    for machine in lab.machines:
        machine.wait_for_unit("multi-user.target")
        assert machine.succeed("systemctl list-units --failed --no-legend") == ""
        assert machine.succeed("systemctl is-system-running --wait").strip() == "running"


def test_units_are_awaited(node1: Machine) -> None:
    run = "systemd-run --unit"
    node1.succeed(f"{run} later -p ExecStartPre='/bin/sleep 1' --no-block sleep infinity")
    node1.wait_for_unit("later.service")
    assert node1.get_unit_info("later.service")["SubState"] == "running"
    node1.require_unit_state("later.service")

    assert node1.systemctl("stop later.service")[0] == 0
    with pytest.raises(RequestedAssertionFailed, match="is inactive"):
        node1.wait_for_unit("later.service")

    node1.fail(f"{run} broken --wait false")
    with pytest.raises(RequestedAssertionFailed, match="is failed"):
        node1.wait_for_unit("broken.service")
    with pytest.raises(RequestedAssertionFailed, match="is failed, not active"):
        node1.require_unit_state("broken.service")
    node1.succeed("systemctl reset-failed")


def test_conditions_are_awaited(node1: Machine) -> None:
    node1.succeed(
        "systemd-run --unit listener -p ExecStartPre='/bin/sleep 1' nc -lk 127.0.0.1 4000"
    )
    node1.wait_for_open_port(4000)
    node1.succeed("systemctl stop listener.service")
    node1.wait_for_closed_port(4000)
    node1.succeed("systemd-run sh -c 'sleep 1; touch /tmp/late'")
    node1.wait_for_file("/tmp/late", timeout=30)
    with pytest.raises(RequestedAssertionFailed, match="gave up after 1"):
        node1.wait_until_succeeds("false", timeout=1)
    node1.wait_for_console_text("Reached target.*multi-user.target")


def test_files_are_copied_both_ways(node1: Machine, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_text("content")
    node1.copy_from_host(str(tmp_path / "folder"), "/srv/deep/folder")
    assert node1.succeed("cat /srv/deep/folder/file") == "content"
    node1.copy_from_machine("/srv/deep/folder/file", str(tmp_path))
    assert (tmp_path / "file").read_text() == "content"


def test_a_crash_loses_run_and_keeps_the_disk(node1: Machine) -> None:
    node1.succeed("systemctl enable --now sleeper.service", "touch /run/kept /var/lib/kept")
    machine_id = node1.succeed("cat /etc/machine-id")
    boot = node1.succeed("systemctl show --property=KernelTimestampMonotonic; ls -i /run/systemd")

    node1.crash()
    assert not node1.is_up()
    node1.start()

    assert (
        node1.succeed("systemctl show --property=KernelTimestampMonotonic; ls -i /run/systemd")
        != boot
    )
    node1.succeed("test -e /var/lib/kept", "! test -e /run/kept", "! test -e /var/lib/stopped")
    assert node1.succeed("cat /etc/machine-id") == machine_id
    node1.wait_for_unit("sleeper.service")


def test_a_shutdown_stops_every_unit(node1: Machine) -> None:
    node1.succeed("systemctl enable --now sleeper.service", "rm -f /var/lib/stopped")
    node1.shutdown()
    assert not node1.is_up()
    node1.start()
    assert node1.succeed("cat /var/lib/stopped") == "stopped\n"
    node1.wait_for_unit("sleeper.service")


def test_a_reboot_starts_a_new_life(node1: Machine) -> None:
    node1.succeed("touch /run/old")
    node1.reboot()
    node1.succeed("! test -e /run/old")
    node1.wait_for_unit("multi-user.target")


def reaches(source: Machine, target: Machine) -> bool:
    """Whether a new connection between two hosts can be made."""
    return source.execute(f"nc -z -w 1 {target.name} 4001")[0] == 0


def test_block_cuts_a_host_off_and_unblock_reconnects_it(lab: Lab) -> None:
    node1, node2, node3, _ = lab.machines
    for machine in (node1, node2, node3):
        machine.succeed("systemd-run --unit echo nc -lk 0.0.0.0 4001")
        machine.wait_for_open_port(4001)
    pairs = [(a, b) for a in lab.machines[:3] for b in lab.machines[:3] if a is not b]
    assert all(reaches(a, b) for a, b in pairs)

    node1.block()
    assert {(a.name, b.name) for a, b in pairs if reaches(a, b)} == {
        ("node2", "node3"),
        ("node3", "node2"),
    }
    assert "NO-CARRIER" not in node1.succeed("ip link show eth1"), "a cut is no unplugged cable"

    node1.unblock()
    assert all(reaches(a, b) for a, b in pairs)


def test_a_cut_may_be_one_way(lab: Lab) -> None:
    node1, node2, _, _ = lab.machines
    # Datagrams, since a connection needs both ways.
    listen = "systemd-run --unit {0} sh -c 'nc -u -l 4002 >/run/{0}'"
    send = "echo {0} | nc -u -w 1 {1} 4002"
    lab.network.cut("node1", "node2")
    try:
        for machine in (node1, node2):
            machine.succeed(listen.format("one-way"))
            machine.wait_until_succeeds("ss -Hlun sport = 4002 | grep .")
        node1.execute(send.format("lost", "node2"))
        node2.execute(send.format("found", "node1"))
        node1.wait_until_succeeds("grep found /run/one-way", timeout=10)
        node2.fail("grep lost /run/one-way")
    finally:
        lab.network.mend("node1", "node2")
    node1.execute(send.format("mended", "node2"))
    node2.wait_until_succeeds("grep mended /run/one-way", timeout=10)


def test_limits_are_applied(node1: Machine) -> None:
    eater = "python3 -c 'print(len(bytearray(200 << 20)))'"
    node1.succeed(f"systemd-run --quiet --wait --pipe -p MemoryMax=400M {eater}")
    node1.fail(f"systemd-run --quiet --wait --pipe -p MemoryMax=64M {eater}")

    busy = "import time; t = time.monotonic()\nwhile time.monotonic() < t + 2: pass"
    measure = f"{busy}\nprint(time.process_time())"
    slowed = node1.succeed(
        f"systemd-run --quiet --wait --pipe -p CPUQuota=20% python3 -c '{measure}'"
    )
    assert float(slowed) < 0.8, "two seconds at a fifth of a CPU"


def test_no_command_can_set_the_clock(node1: Machine) -> None:
    before = time.time() - time.monotonic()
    for attempt in ("date --set @0", "python3 -c 'import time; time.clock_settime(0, 0)'"):
        node1.fail(attempt)
    assert abs(time.time() - time.monotonic() - before) < 60


def test_commands_have_the_privileges_of_the_hosts_init(node1: Machine) -> None:
    bounds = "grep -E 'Cap(Prm|Eff|Bnd)' /proc/{}/status"
    assert node1.succeed(bounds.format("self")) == node1.succeed(bounds.format(1))
    effective = int(node1.succeed("awk '/CapEff/ { print $2 }' /proc/self/status"), 16)
    for forbidden in (16, 17, 25):
        assert not effective >> forbidden & 1, "CAP_SYS_MODULE, CAP_SYS_RAWIO or CAP_SYS_TIME"


def test_hosts_leave_no_trace_in_the_network_of_this_machine(lab: Lab) -> None:
    links = subprocess.run(["ip", "-br", "addr"], capture_output=True, text=True, check=True).stdout
    assert "198.18.7." not in links
    assert all(machine.name not in links for machine in lab.machines)


def without_a_fence(machine: Machine, vm: str) -> None:
    """Let a VM start that no lease covers, as one that is not Blixard's."""
    folder = f"/etc/systemd/system/microvm@{vm}.service.d"
    free = "[Service]\\nExecCondition=\\nSlice=system.slice\\n"
    machine.succeed(
        f"mkdir -p {folder}", f"printf '{free}' >{folder}/90-lab.conf", "systemctl daemon-reload"
    )


def test_the_daemons_user_may_run_vms_and_nothing_else(node1: Machine) -> None:
    without_a_fence(node1, "fake")
    node1.succeed(
        "mkdir -p /srv/runner/bin",
        "printf '#!/bin/sh\\nexec sleep infinity' >/srv/runner/bin/microvm-run",
        "chmod +x /srv/runner/bin/microvm-run",
        "install -d -o microvm -g kvm -m 775 /var/lib/microvms/fake",
        "ln -s /srv/runner /var/lib/microvms/fake/current",
    )
    as_daemon = "runuser -u blixard -- busctl call org.freedesktop.systemd1"
    manager = f"{as_daemon} /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager"
    vm = "microvm@fake.service"

    node1.succeed(f"{manager} StartUnit ss {vm} replace")
    node1.wait_for_unit(vm)
    node1.succeed(f"{manager} RestartUnit ss {vm} replace")
    node1.wait_until_succeeds("systemctl list-jobs | grep 'No jobs'", timeout=30)
    node1.succeed(f"{manager} KillUnit ssi {vm} all 9")
    node1.wait_until_fails(f"systemctl is-active {vm}", timeout=30)
    node1.succeed(f"{manager} ResetFailedUnit s {vm}", f"{manager} StopUnit ss {vm} replace")

    for forbidden in (
        "StartUnit ss sleeper.service replace",
        "StopUnit ss dbus.service replace",
        "StartUnit ss microvm-set-booted@fake.service replace",
        "Reload",
        "PowerOff",
        f"SetUnitProperties 'sba(sv)' {vm} true 1 MemoryMax t 0",
        f"EnableUnitFiles asbb 1 {vm} true false",
        "StartTransientUnit 'ssa(sv)a(sa(sv))' root.service replace 0 0",
    ):
        refusal = node1.fail(f"{manager} {forbidden} 2>&1")
        assert re.search("Access denied|authentication required", refusal), (forbidden, refusal)
    # The rule allows the name, but the template has it: no other program can be put behind it.
    evil = "StartTransientUnit 'ssa(sv)a(sa(sv))' microvm@evil.service replace 0 0"
    assert "has a fragment file" in node1.fail(f"{manager} {evil} 2>&1")


def test_the_daemons_user_builds_and_starts_a_guest(node2: Machine) -> None:
    assert (GUEST / "vmlinuz").exists(), "the guest's kernel is missing: run `make guest`"
    node2.copy_from_host(str(ROOT / "vm-templates/tiny"), "/srv/tiny")
    as_daemon = "runuser -u blixard --"
    without_a_fence(node2, "tiny")
    runner = node2.succeed(
        f"{as_daemon} env HOME=/tmp nix build --no-link --print-out-paths "
        "path:/srv/tiny#nixosConfigurations.tiny.config.microvm.declaredRunner"
    ).strip()
    node2.succeed(
        f"{as_daemon} install -d -m 2775 -g kvm /var/lib/microvms/tiny",
        f"{as_daemon} ln -s {runner} /var/lib/microvms/tiny/current",
        f"{as_daemon} busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 "
        "org.freedesktop.systemd1.Manager StartUnit ss microvm@tiny.service replace",
    )
    node2.wait_for_unit("microvm@tiny.service")
    console = "journalctl --unit microvm@tiny --all --output cat | grep -F"
    node2.wait_until_succeeds(f"{console} 'tiny: heartbeat 1'", timeout=90)
    assert node2.succeed("readlink /var/lib/microvms/tiny/booted").strip() == runner

    node2.succeed("systemctl stop microvm@tiny.service", f"{console} 'tiny: powers off'")
    assert node2.get_unit_property("microvm@tiny.service", "Result") == "success"
    node2.fail("pgrep qemu", "test -L /var/lib/microvms/tiny/booted")


def test_what_a_killed_run_left_is_swept(tmp_path: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from hosts.lab import open_lab
from hosts.layers import hosts_layers
with hosts_layers() as layers, open_lab(layers, Path(sys.argv[1]), ["lost"], {}) as lab:
    lab.machines[0].succeed("true")
    print(lab.machines[0]._container.leader, flush=True)
    time.sleep(600)
"""
    run = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT / "tests")),
    )
    with run:
        assert run.stdout is not None
        leader = Path("/proc") / run.stdout.readline().strip()
        [folder] = tmp_path.glob("blixard-*")
        sweep(tmp_path)
        assert leader.exists(), "the run is alive"
        run.send_signal(signal.SIGKILL)

    retry(lambda _: not leader.exists(), 10)
    assert folder.name in namespaces()
    sweep(tmp_path)
    assert folder.name not in namespaces()
    assert not folder.exists()
    assert not any(path.exists() for path in cgroups(folder.name))


def namespaces() -> str:
    return subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout


def test_an_interrupted_build_leaves_no_layer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(folder: Path, below: list[Path]) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("hosts.layers.CACHE", tmp_path)
    monkeypatch.setattr("hosts.layers._layers", lambda: (Layer(interrupted, ()),))
    with pytest.raises(KeyboardInterrupt), hosts_layers():
        raise AssertionError("there is no layer to use")
    assert not list(tmp_path.glob("interrupted-*"))
