"""The systemd driver on a host with systemd; the guests are shell scripts.

The driver runs as the daemon does: as user blixard, under polkit's rule, as a unit. It is moved by
`units_console`, because on the host of a cluster the agent would interfere.
"""

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hosts.conftest import NAMES, OpenLab
from hosts.layers import VENV
from hosts.machine import Machine, retry

PATIENCE = 30
CONSOLE = "/srv/units_console.py"
FOLDER = "/run/console"
LEASE_MS = 7_900

FOREVER = "echo up; exec sleep infinity"
STUBBORN = "trap 'echo asked' TERM; echo up; while :; do sleep 0.1; done"


class Console:
    """The driver on a host, and what it sees."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def open(self) -> None:
        self.machine.succeed(
            f"systemd-run --collect --unit=console --property=User=blixard"
            f" --property=RuntimeDirectory='blixard console'"
            f" --property=RuntimeDirectoryPreserve=yes"
            f" --property=ExecStartPre='/bin/sh -c \"rm -f {FOLDER}/*; mkfifo {FOLDER}/orders\"'"
            f" {VENV}/bin/python {CONSOLE} {FOLDER}"
        )
        self.machine.wait_for_file(f"{FOLDER}/seen", PATIENCE)
        self.order("hold", LEASE_MS)

    def kill(self) -> None:
        self.machine.succeed("systemctl kill --signal=KILL console")
        self.machine.wait_until_fails("systemctl is-active console", PATIENCE)

    def order(self, *words: object) -> None:
        self.machine.succeed(f"echo {shlex.quote(json.dumps(words))} >{FOLDER}/orders")

    def look(self) -> dict[str, Any]:
        looked: dict[str, Any] = json.loads(self.machine.succeed(f"cat {FOLDER}/seen"))
        return looked

    def until(self, holds: Callable[[Any], object], timeout: float = PATIENCE) -> Any:
        """Wait until `holds` of what is seen."""

        def look(last_try: bool) -> bool:
            seen = self.look()["units"]
            if last_try:
                self.machine.log(f"seen last: {seen}")
            return bool(holds(seen))

        retry(look, timeout)
        return self.look()["units"]

    def reaches(self, name: str, state: str) -> dict[str, Any]:
        """Wait until a VM is in a state."""
        seen = self.until(lambda seen: seen and name in seen and seen[name]["state"] == state)
        unit: dict[str, Any] = seen[name]
        return unit

    def runner(self, name: str, script: str, shutdown: str = "") -> str:
        """Make a runner on the host."""
        folder = f"/srv/{name}/bin"
        self.machine.succeed(f"mkdir -p {folder}")
        for program, text in (("microvm-run", script), ("microvm-shutdown", shutdown)):
            if text:
                path = f"{folder}/{program}"
                content = shlex.quote(f"#!/bin/sh\n{text}\n")
                self.machine.succeed(f"printf %s {content} >{path}; chmod 755 {path}")
        return f"/srv/{name}"


@pytest.fixture(scope="module")
def machine(new_lab: OpenLab) -> Machine:
    lab = new_lab({name: {} for name in NAMES})
    machine = lab.machines[0]
    machine.start()
    machine.wait_for_unit("multi-user.target", timeout=90)
    machine.copy_from_host(str(Path(__file__).with_name("units_console.py")), CONSOLE)
    return machine


@pytest.fixture
def console(machine: Machine) -> Iterator[Console]:
    """A driver that sees nothing yet."""
    machine.execute("systemctl stop console 'microvm@*' 'microvm-set-booted@*'")
    machine.succeed("systemctl reset-failed")
    machine.succeed("rm -rf /run/blixard /var/lib/microvms/*")
    console = Console(machine)
    console.open()
    console.until(lambda seen: seen == {})
    yield console
    machine.log(
        machine.succeed("journalctl --since=-2min --no-pager --all -u console -u 'microvm@*'")
    )


def test_a_vm_is_started_and_gracefully_stopped(console: Console) -> None:
    machine = console.machine
    script = "echo up; while [ ! -e stop ]; do sleep 0.1; done; echo bye"
    runner = console.runner("graceful", script, "touch stop; exit 0")
    console.order("start", "my-vm", 3, 7, runner)
    seen = console.reaches("my-vm", "active")
    assert (seen["uid"], seen["epoch"], seen["detail"]) == (3, 7, "")
    machine.require_unit_state("microvm@my-vm.service")
    directory = "/var/lib/microvms/my-vm"
    assert machine.succeed(f"readlink {directory}/current {directory}/booted").split() == [
        runner,
        runner,
    ]
    assert machine.succeed(f"stat -c '%U:%G %a' {directory}").strip() == "blixard:kvm 775"
    console.until(lambda seen: seen["my-vm"]["active_ms"] >= 500)
    console.order("stop", "my-vm", 20_000, False)
    assert console.reaches("my-vm", "exited")["detail"] == "exited with status 0\nup\nbye"
    machine.fail("systemctl is-active microvm@my-vm.service")
    console.order("discard", "my-vm")
    console.until(lambda seen: seen == {})
    machine.wait_until_fails(f"readlink {directory}/current", PATIENCE)
    machine.execute("systemctl start microvm@my-vm.service")
    machine.fail("systemctl is-active microvm@my-vm.service")


# journald may not know whose words they were if the process is gone when it reads them.
@pytest.mark.parametrize(
    ("script", "detail"),
    [
        ("echo up; sleep 0.5; exit 3", "exited with status 3\nup"),
        ("kill -9 $$", "killed by signal 9 (SIGKILL)"),
        (
            r"printf '\033[2J\033[31mpanic\033[0m \377\n'; sleep 0.5; exit 1",
            "exited with status 1\npanic \ufffd",
        ),
        ("seq 1 30; sleep 0.5", "exited with status 0\n" + "\n".join(map(str, range(11, 31)))),
    ],
    ids=["status", "signal", "escape-codes", "long"],
)
def test_how_it_ended_is_told_in_words(console: Console, script: str, detail: str) -> None:
    for epoch in (7, 8):
        console.order("start", "web", 3, epoch, console.runner("ends", script))
        seen = console.reaches("web", "exited")
        assert (seen["epoch"], seen["detail"]) == (epoch, detail), "of this life only"
        console.order("discard", "web")
        console.until(lambda seen: seen == {})
    console.machine.wait_until_fails("systemctl is-failed microvm@web.service", PATIENCE)


def test_how_it_ended_is_known_after_its_unit_is_unloaded(console: Console) -> None:
    machine = console.machine
    runner = console.runner("brief", "echo up; while [ ! -e stop ]; do sleep 0.1; done; exit 4")
    console.order("start", "brief", 3, 7, runner)
    console.reaches("brief", "active")
    # While the keeper is slow to shut the gate, the driver waits to look at the unit once more.
    machine.succeed("systemctl kill --kill-whom=main --signal=STOP blixard-keeper")
    try:
        machine.succeed("touch /var/lib/microvms/brief/stop")
        machine.wait_until_succeeds("systemctl is-failed microvm@brief", PATIENCE)
        machine.succeed("systemctl stop microvm@brief", "systemctl reset-failed microvm@brief")
        machine.wait_until_fails(
            "systemctl list-units --all --plain --no-legend microvm@brief.service | grep .",
            PATIENCE,
        )
    finally:
        machine.succeed("systemctl kill --kill-whom=main --signal=CONT blixard-keeper")
    assert console.reaches("brief", "exited")["detail"] == "exited with status 4\nup"


def test_what_does_not_obey_is_terminated_and_then_killed(console: Console) -> None:
    console.order("start", "web", 3, 7, console.runner("stubborn", STUBBORN, "sleep 60"))
    console.reaches("web", "active")
    console.order("stop", "web", 500, False)
    assert console.reaches("web", "stopping")["epoch"] == 7
    detail = console.reaches("web", "exited")["detail"]
    assert detail.startswith("killed by signal 9 (SIGKILL)\nup\n")
    assert "asked" in detail
    console.machine.fail("pgrep -f '[s]leep 60'")


def test_after_a_guest_that_died_the_next_one_is_stopped_its_own_way(console: Console) -> None:
    console.order("start", "web", 3, 7, console.runner("dies", "exit 1", "echo wrong"))
    console.reaches("web", "exited")
    console.order("discard", "web")
    console.until(lambda seen: seen == {})
    script = "echo up; while [ ! -e stop ]; do sleep 0.1; done; exit 4"
    console.order("start", "web", 3, 8, console.runner("lives", script, "touch stop"))
    console.reaches("web", "active")
    console.order("stop", "web", 20_000, False)
    assert console.reaches("web", "exited")["detail"] == "exited with status 4\nup"


def test_a_kill_cuts_a_graceful_stop_short(console: Console) -> None:
    console.order("start", "web", 3, 7, console.runner("stubborn", STUBBORN, "sleep 60"))
    console.reaches("web", "active")
    console.order("stop", "web", 3_600_000, False)
    console.reaches("web", "stopping")
    console.machine.wait_until_succeeds("pgrep -f '[s]leep 60'", PATIENCE)
    console.order("stop", "web", 3_600_000, True)
    assert console.reaches("web", "exited")["detail"] == "killed by signal 9 (SIGKILL)\nup"


def test_a_stop_that_follows_a_start_at_once(console: Console) -> None:
    runner = console.runner("forever", FOREVER)
    for epoch in range(3):
        console.order("start", "web", 3, epoch, runner)
        console.order("stop", "web", 0, True)
        console.reaches("web", "exited")
        console.machine.fail("systemctl is-active microvm@web.service")
        console.order("discard", "web")
        console.until(lambda seen: seen == {})


def test_a_start_that_comes_to_nothing(console: Console) -> None:
    machine = console.machine
    console.order("start", "none", 3, 7, "/srv/nowhere")
    assert "a condition of its unit is not met" in console.reaches("none", "exited")["detail"]

    machine.succeed("mkdir /var/lib/microvms/declared; touch /var/lib/microvms/declared/toplevel")
    console.order("start", "declared", 3, 7, console.runner("forever", FOREVER))
    detail = console.reaches("declared", "exited")["detail"]
    assert "belongs to a VM that is not Blixard's" in detail
    machine.fail("test -e /var/lib/microvms/declared/current")

    machine.succeed("systemctl mask --runtime microvm-set-booted@helpless.service")
    console.order("start", "helpless", 3, 7, console.runner("forever", FOREVER))
    assert "could not be started: " in console.reaches("helpless", "exited")["detail"]


def test_daemons_come_and_go(console: Console) -> None:
    machine = console.machine
    runner = console.runner("forever", FOREVER)
    for epoch, name in enumerate(["stays", "ends", "fails"], start=7):
        console.order("start", name, 3, epoch, runner)
        console.reaches(name, "active")
    pid = machine.get_unit_property("microvm@stays.service", "MainPID")
    console.kill()
    machine.succeed("systemctl stop microvm@ends", "systemctl kill -s KILL microvm@fails")
    console.open()
    seen = console.reaches("stays", "active")
    assert (seen["uid"], seen["epoch"]) == (3, 7)
    assert machine.get_unit_property("microvm@stays.service", "MainPID") == pid
    assert console.reaches("ends", "exited")["epoch"] == 8
    assert console.reaches("fails", "exited")["detail"] == "killed by signal 9 (SIGKILL)\nup"


def test_what_is_not_ours_is_left_alone_and_what_is_ours_is_never_adopted(
    console: Console,
) -> None:
    machine = console.machine
    runner = console.runner("forever", FOREVER)
    console.order("start", "ours", 3, 7, runner)
    console.reaches("ours", "active")
    console.kill()
    own = "/run/systemd/system/microvm@theirs.service.d"
    machine.succeed(
        "install -d -o microvm -g kvm -m 775 /var/lib/microvms/theirs",
        f"ln -s {runner} /var/lib/microvms/theirs/current",
        f"mkdir -p {own}; printf '[Service]\nExecCondition=\nSlice=system.slice\n' >{own}/60.conf",
        "systemctl daemon-reload",
        "systemctl start microvm@theirs",
        "rm -r /run/blixard",
    )
    console.open()
    seen = console.until(lambda seen: seen)
    assert sorted(seen) == ["ours"]
    assert (seen["ours"]["uid"], seen["ours"]["epoch"]) == (0, 0), "what it runs for is forgotten"
    console.order("stop", "ours", 0, True)
    console.reaches("ours", "exited")
    machine.require_unit_state("microvm@theirs.service")


def test_systemd_and_the_bus_come_and_go(console: Console) -> None:
    machine = console.machine
    console.order("start", "web", 3, 7, console.runner("forever", FOREVER))
    console.reaches("web", "active")
    pid = machine.get_unit_property("microvm@web.service", "MainPID")

    machine.succeed("systemctl daemon-reexec")
    console.reaches("web", "active")
    machine.succeed("systemctl kill --kill-whom=main --signal=KILL dbus.service")
    console.until(lambda seen: seen is None)
    console.reaches("web", "active")
    assert machine.get_unit_property("microvm@web.service", "MainPID") == pid

    machine.succeed("systemctl kill --signal=KILL microvm@web")
    assert console.reaches("web", "exited")["detail"] == "killed by signal 9 (SIGKILL)\nup"


def test_a_bus_that_hangs_does_not_hold_up_the_loop(console: Console) -> None:
    machine = console.machine
    console.order("start", "web", 3, 7, console.runner("forever", FOREVER))
    console.reaches("web", "active")
    bus = machine.get_unit_property("dbus.service", "MainPID")
    before_ms = console.look()["pause_ms"]
    machine.succeed(f"kill -STOP {bus}")
    try:
        console.order("stop", "web", 0, True)
        assert console.look()["units"]["web"]["state"] == "stopping"
        console.until(lambda seen: seen is None)
    finally:
        machine.succeed(f"kill -CONT {bus}")
    console.reaches("web", "exited")
    assert console.look()["pause_ms"] <= max(before_ms, 200)


def test_many_at_once(console: Console) -> None:
    runner = console.runner("forever", FOREVER)
    names = [f"vm-{n}" for n in range(10)]
    for epoch, name in enumerate(names):
        console.order("start", name, epoch, epoch, runner)
    console.until(lambda seen: [seen[name]["state"] for name in names] == ["active"] * 10)
    for name in names:
        console.order("stop", name, 0, True)
    console.until(lambda seen: [seen[name]["state"] for name in names] == ["exited"] * 10)
    for name in names:
        console.order("discard", name)
    console.until(lambda seen: seen == {})
