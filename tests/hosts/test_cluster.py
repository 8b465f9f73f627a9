"""Blixard as an operator meets it: `blixard.service` on hosts with systemd, Nix and QEMU.

The scripts speak to the hosts in the words of the NixOS test driver alone.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from hosts.configuration import configuration
from hosts.conftest import NAMES, OpenLab
from hosts.lab import GUEST, Lab
from hosts.layers import ROOT
from hosts.machine import Machine, retry

CONFIG = "/etc/blixard/blixard.toml"
TINY = "/root/tiny#tiny"
PATIENCE = 90
"""Seconds that anything may take on a busy machine, an emulated guest's boot included."""


@pytest.fixture(scope="module")
def lab(new_lab: OpenLab) -> Lab:
    """Three hosts that form a cluster, each with the tiny template; a fourth is off."""
    assert (GUEST / "vmlinuz").exists(), "the guest's kernel is missing: run `make guest`"
    lab = new_lab(
        {name: {CONFIG: configuration(id_, vcpus=4)} for id_, name in enumerate(NAMES, start=1)}
    )
    for machine in lab.machines[:3]:
        machine.start()
    for machine in lab.machines[:3]:
        machine.wait_for_unit("blixard.service", timeout=PATIENCE)
        machine.copy_from_host(str(ROOT / "vm-templates/tiny"), "/root/tiny")
    settled(lab.machines[:3])
    return lab


@pytest.fixture
def nodes(lab: Lab) -> Iterator[list[Machine]]:
    """The three hosts of the cluster, which holds no VMs before and after."""
    nodes = lab.machines[:3]
    yield nodes
    names = nodes[0].succeed("blixard vm list -o name").split()
    if names:
        nodes[0].succeed(f"blixard vm delete {' '.join(names)} --yes --kill --wait")


def ask(machine: Machine, command: str) -> dict[str, Any]:
    """What `blixard COMMAND -o json` answers on a host."""
    answer: dict[str, Any] = json.loads(machine.succeed(f"blixard {command} -o json"))
    return answer


@pytest.fixture
def web_host(nodes: list[Machine]) -> Machine:
    """The host of a VM `web` that runs."""
    nodes[0].succeed(f"blixard vm create web --config {TINY} --memory 256 --wait")
    prints(nodes, "web", "web: heartbeat 1")
    [host] = hosts_of(nodes, "web")
    return host


def node_name(machine: Machine) -> str:
    """What the cluster calls the node on a host."""
    return f"node-{machine.name.removeprefix('node')}"


def settled(machines: Sequence[Machine]) -> None:
    """Wait until just these hosts are the cluster's nodes, and all are ready."""
    wanted = {node_name(machine): "up" for machine in machines}

    def agrees(last_try: bool) -> bool:
        status, answer = machines[0].execute("blixard cluster status -o json")
        nodes = json.loads(answer)["nodes"] if status == 0 else []
        seen = {node["name"]: node["state"] for node in nodes}
        if last_try:
            machines[0].log(f"wanted {wanted}, seen {seen}")
        return seen == wanted

    retry(agrees, PATIENCE)


def reaches_state(machine: Machine, name: str, state: str) -> None:
    """Wait until the cluster, asked on this host, says so of a VM."""
    command = f'blixard vm status {name} -o json | grep -E \'"state": *"{state}"\''
    machine.wait_until_succeeds(command, timeout=PATIENCE)


def hosts_of(machines: Sequence[Machine], name: str) -> list[Machine]:
    """The one host that holds a VM, or none."""
    node = ask(machines[0], f"vm status {name}")["node"]
    return [machine for machine in machines if node_name(machine) == node]


def console(name: str) -> str:
    """The command that shows what a VM's guest has printed in this life of its unit."""
    unit = f"microvm@{name}.service"
    invocation = f"$(systemctl show {unit} --property InvocationID --value)"
    return f"journalctl --all --output cat _SYSTEMD_INVOCATION_ID={invocation}"


def prints(machines: Sequence[Machine], name: str, text: str) -> None:
    """Wait until a VM's guest has printed a text in this life of its unit."""

    def printed(_last_try: bool) -> bool:
        # Asked anew each time: a VM whose host comes back may be placed on another.
        command = f"{console(name)} | grep -F '{text}'"
        return any(host.execute(command)[0] == 0 for host in hosts_of(machines, name))

    retry(printed, PATIENCE)


def life(host: Machine, name: str) -> tuple[str, str]:
    """What changes whenever the VM's unit starts anew."""
    unit = f"microvm@{name}.service"
    host.require_unit_state(unit)
    return host.get_unit_property(unit, "MainPID"), host.get_unit_property(unit, "InvocationID")


def lives_on(
    machines: Sequence[Machine], host: Machine, name: str, before: tuple[str, str]
) -> None:
    """Demand that a VM runs on in the same life, long after its daemon has come back."""
    settled(machines)
    beats = host.succeed(f"{console(name)} | grep -c heartbeat || true")
    prints(machines, name, f"{name}: heartbeat {int(beats) + 3}")
    assert hosts_of(machines, name) == [host]
    assert ask(machines[0], f"vm status {name}")["state"] == "running"
    assert life(host, name) == before


def test_a_vm_lives_as_a_unit_of_one_host(lab: Lab, nodes: list[Machine]) -> None:
    unit = "microvm@web.service"
    with lab.subtest("created, it runs on one host and nowhere else"):
        nodes[0].succeed(f"blixard vm create --name web --config {TINY} --memory 256 --wait")
        assert ask(nodes[1], "vm status web")["state"] == "running"
        [host] = hosts_of(nodes, "web")
        running = [m for m in nodes if m.execute(f"systemctl is-active {unit}")[0] == 0]
        assert running == [host]
        assert host.get_unit_property(unit, "User") == "microvm"
        prints(nodes, "web", "web: a tiny guest of Blixard")
        prints(nodes, "web", "web: heartbeat 2")

    with lab.subtest("stopped, it has powered itself off"):
        nodes[2].succeed("blixard vm stop web --wait")
        host.succeed(f"journalctl --unit {unit} --output cat --all | grep -F 'web: powers off'")
        host.fail(f"systemctl is-active {unit}", "pgrep qemu")
        assert ask(nodes[0], "vm status web")["state"] == "stopped"

    with lab.subtest("started again, it boots anew"):
        nodes[0].succeed("blixard vm start web --wait")
        prints(nodes, "web", "web: heartbeat 1")

    with lab.subtest("deleted, nothing of it runs"):
        nodes[1].succeed("blixard vm delete web --yes --wait")
        assert nodes[0].execute("blixard vm status web")[0] == 4
        for machine in nodes:
            machine.fail("pgrep qemu")


@pytest.mark.parametrize(
    "interruption",
    [
        "systemctl kill --signal=KILL blixard.service",
        "systemctl restart blixard.service",
        "systemctl stop blixard.service; systemctl start blixard.service",
    ],
)
def test_a_vm_outlives_the_daemon_which_finds_it_again(
    nodes: list[Machine], web_host: Machine, interruption: str
) -> None:
    before = life(web_host, "web")
    daemon = web_host.get_unit_property("blixard.service", "InvocationID")

    web_host.succeed(interruption)
    web_host.wait_until_fails(
        f"systemctl show blixard.service --property=InvocationID | grep {daemon}", PATIENCE
    )
    web_host.wait_for_unit("blixard.service", timeout=PATIENCE)
    lives_on(nodes, web_host, "web", before)

    nodes[0].succeed("blixard vm stop web --wait")
    web_host.fail("pgrep qemu")


def test_vms_outlive_the_death_of_every_daemon_at_once(
    nodes: list[Machine], web_host: Machine
) -> None:
    before = life(web_host, "web")
    for machine in nodes:
        machine.succeed("systemctl kill --signal=KILL blixard.service")
    lives_on(nodes, web_host, "web", before)


def test_a_guest_that_dies_has_failed_where_it_may_not_be_restarted(
    nodes: list[Machine], web_host: Machine
) -> None:
    nodes[0].succeed("blixard vm set web --restart-limit 0")
    web_host.succeed("pkill -KILL qemu")
    reaches_state(nodes[0], "web", "failed")
    reason = ask(nodes[0], "vm status web")["reason"]["text"]
    assert "KILL" in reason, "how it ended"
    assert "web: heartbeat" in reason, "its last words"
    assert web_host.get_unit_property("microvm@web.service", "NRestarts") == "0"
    nodes[0].succeed("blixard vm start web --wait")
    prints(nodes, "web", "web: heartbeat 1")


def test_systemd_shows_what_the_node_is_doing(nodes: list[Machine], web_host: Machine) -> None:
    said = {node: node.get_unit_property("blixard.service", "StatusText") for node in nodes}
    assert sum(text.startswith("leader, term ") for text in said.values()) == 1
    assert [node for node in nodes if "1 of 1 VMs here" in said[node]] == [web_host]
    assert "Status:" in nodes[0].succeed("systemctl status --no-pager blixard.service")


def test_the_journal_tells_a_vms_story(nodes: list[Machine], web_host: Machine) -> None:
    story = "journalctl BLIXARD_VM=web SYSLOG_IDENTIFIER=blixard --output cat"
    for machine in nodes:
        machine.wait_until_succeeds(f"{story} | grep -i running", timeout=PATIENCE)


def test_a_vm_of_a_host_that_lost_power_runs_elsewhere(
    nodes: list[Machine], web_host: Machine
) -> None:
    rest = [machine for machine in nodes if machine is not web_host]
    web_host.crash()
    prints(rest, "web", "web: heartbeat 1")

    web_host.start()
    settled(nodes)
    assert web_host not in hosts_of(nodes, "web")
    prints(nodes, "web", "web: heartbeat 1")


def test_a_host_that_is_shut_down_powers_its_guests_off(
    nodes: list[Machine], web_host: Machine
) -> None:
    web_host.reboot()
    console = "journalctl --boot=-1 --unit microvm@web --output cat --all"
    web_host.succeed(f"{console} | grep 'web: powers off'")
    settled(nodes)
    prints(nodes, "web", "web: heartbeat 1")


def test_what_was_acknowledged_survives_the_power_cut_of_every_host(
    nodes: list[Machine], web_host: Machine
) -> None:
    names = ["web"]
    for number in range(9):
        names.append(f"vm-{number}")
        nodes[number % 3].succeed(f"blixard vm create {names[-1]} --config {TINY} --stopped")

    for machine in nodes:
        machine.crash()
    for machine in nodes:
        machine.start()
    settled(nodes)
    assert [vm["name"] for vm in ask(nodes[0], "vm list")["items"]] == sorted(names)
    prints(nodes, "web", "web: heartbeat 1")


def test_a_node_that_is_cut_off_answers_no_question_that_matters(nodes: list[Machine]) -> None:
    lonely, *rest = nodes
    lonely.block()
    try:
        rest[0].wait_until_succeeds("blixard vm list", timeout=PATIENCE)
        assert lonely.execute("blixard vm list --timeout 5s", timeout=PATIENCE)[0] == 5
        lonely.succeed("blixard vm list --stale")
    finally:
        lonely.unblock()
    settled(nodes)


def test_a_fourth_node_joins_and_an_old_one_leaves_while_vms_are_created(lab: Lab) -> None:
    *old, fourth = lab.machines
    created: list[str] = []

    def create() -> None:
        created.append(f"vm-{len(created)}")
        old[1].succeed(f"blixard vm create {created[-1]} --config {TINY} --stopped")

    create()
    fourth.start()
    for _ in range(4):
        create()
    settled(lab.machines)

    old[1].succeed("blixard cluster leave --node 1 --yes")
    for _ in range(4):
        create()
    settled([old[1], old[2], fourth])
    listed = [vm["name"] for vm in ask(fourth, "vm list")["items"]]
    assert listed == sorted(created)

    fourth.copy_from_host(str(ROOT / "vm-templates/tiny"), "/root/tiny")
    fourth.succeed(f"blixard vm create last --config {TINY} --memory 256 --wait")
    prints(lab.machines[1:], "last", "last: heartbeat 1")
