"""What a VM writes, its console and its death, on hosts with systemd.

The guest is a shell script that repeats what is typed.
"""

import json
from datetime import datetime

import pytest

from cluster.runners import flake_of_runner
from cluster.test_console import ECHO
from cluster.test_crash import LONGEST_MS
from hosts.configuration import configuration
from hosts.conftest import NAMES, OpenLab
from hosts.machine import Machine

PATIENCE = 45
FOLDER = "/srv/console"


@pytest.fixture(scope="module")
def nodes(new_lab: OpenLab, tmp_path_factory: pytest.TempPathFactory) -> list[Machine]:
    """Three hosts of a cluster in which `web` runs."""
    echoing = tmp_path_factory.mktemp("flakes") / "echoing"
    flake_of_runner(echoing, ECHO)
    guest = {f"{FOLDER}/echoing/{file.name}": file.read_text() for file in echoing.iterdir()}
    settings = {
        name: {"/etc/blixard/blixard.toml": configuration(id_, vcpus=2), **guest}
        for id_, name in enumerate(NAMES, 1)
    }
    nodes = new_lab(settings).machines[:3]
    for machine in nodes:
        machine.start()
    for machine in nodes:
        machine.wait_for_unit("blixard.service", timeout=PATIENCE)
    nodes[0].wait_until_succeeds(
        '[ $(blixard node list -o json | grep -o \'"state": *"up"\' | wc -l) = 3 ]', PATIENCE
    )
    nodes[0].succeed(
        f"blixard vm create web --config {FOLDER}/echoing#guest --on-quorum-loss keep --wait 2>&1"
    )
    return nodes


def host_of(nodes: list[Machine]) -> int:
    """The number of the node on which it runs."""
    seen = json.loads(nodes[0].succeed("blixard vm status web -o json"))
    return int(seen["node"].removeprefix("node-"))


def type_in(machine: Machine, text: str) -> None:
    machine.succeed(f"printf '{text}' >{FOLDER}/typed")


def shows(machine: Machine, file: str, text: str) -> None:
    """Wait for a text in a file; if it does not come, the end of the file is printed."""
    look = f"grep -F '{text}' {FOLDER}/{file} || {{ tail -n 5 {FOLDER}/{file} | cat -v; false; }}"
    machine.wait_until_succeeds(look, PATIENCE)


def test_it_outlives_the_daemon_and_what_shares_its_console(nodes: list[Machine]) -> None:
    host = nodes[host_of(nodes) - 1]
    runs = host.get_unit_property("microvm@web.service", "MainPID")
    command = host.succeed(f"tr '\\0' ' ' </proc/{runs}/cmdline")
    assert "microvm-run" in command
    assert "console_tee" not in command
    socket = "/run/blixard-console/web/console.sock"
    assert host.succeed(f"stat -c '%U:%G %a' {socket}").strip() == "microvm:kvm 660"
    host.succeed("systemctl stop blixard")
    heard = host.succeed(f"(echo alone; sleep 1) | nc -N -U {socket}")
    assert "heard alone" in heard
    host.succeed("systemctl start blixard")
    host.wait_until_succeeds("blixard vm list", PATIENCE)
    assert host.get_unit_property("microvm@web.service", "MainPID") == runs
    shown = nodes[0].succeed("blixard vm logs web")
    assert "up in /var/lib/microvms/web" in shown
    assert "heard alone" in shown


def test_who_follows_goes_on_where_it_goes(nodes: list[Machine]) -> None:
    host = host_of(nodes)
    elsewhere, third = (id_ for id_ in (1, 2, 3) if id_ != host)
    at = nodes[third - 1]
    at.succeed(
        f"mkfifo {FOLDER}/typed",
        f"systemd-run --unit=follower sh -c 'blixard vm logs web -f >{FOLDER}/followed 2>&1'",
        "systemd-run --unit=person sh -c "
        f'\'exec script --quiet --flush --command "blixard vm console web" {FOLDER}/seen'
        f" <>{FOLDER}/typed >/dev/null'",
    )
    shows(at, "seen", f"at the console of web on node-{host}")
    type_in(at, r"one\n")
    for file in ("seen", "followed"):
        shows(at, file, "heard one")
    at.log(at.succeed(f"blixard vm move web --to node-{elsewhere} --wait 2>&1"))
    for file in ("seen", "followed"):
        shows(at, file, f"web has moved from node-{host} to node-{elsewhere}")
    shows(at, "seen", f"at the console of web on node-{elsewhere}")
    type_in(at, r"two\n")
    for file in ("seen", "followed"):
        shows(at, file, "heard two")
    followed = at.succeed(f"cat {FOLDER}/followed")
    at.log(followed)
    assert followed.count("up in ") == 2, "all of the new life, once"
    assert "stops now" in followed
    assert "input has ended" not in followed
    type_in(at, r"\035")
    at.wait_until_fails("systemctl is-active person", PATIENCE)
    at.succeed("systemctl stop follower")


def test_a_guest_without_what_shares_its_console_runs_on(nodes: list[Machine]) -> None:
    host = nodes[host_of(nodes) - 1]
    runs = host.get_unit_property("microvm@web.service", "MainPID")
    host.succeed(f"kill -KILL $(pgrep --parent {runs} --full console_tee.py)")
    attach = "script --quiet --return --command 'blixard vm console web' /dev/null </dev/null"
    refused = host.fail(attach)
    assert "there is no console to attach to" in refused
    assert "blixard vm restart web" in refused
    host.require_unit_state("microvm@web.service")
    assert host.get_unit_property("microvm@web.service", "MainPID") == runs


def test_its_death_is_in_the_log_at_once(nodes: list[Machine]) -> None:
    host = nodes[host_of(nodes) - 1]
    runs = host.get_unit_property("microvm@web.service", "MainPID")
    killed_s = float(host.succeed(f"date +%s.%N; kill -KILL {runs}"))
    restarts = "blixard events --vm web -n 50 -o json | grep vm-restarts"
    nodes[0].wait_until_succeeds(restarts, PATIENCE)
    events = json.loads(nodes[0].succeed("blixard events --vm web -n 50 -o json"))["items"]
    (told,) = [event for event in events if event["code"] == "vm-restarts"]
    took_ms = 1_000 * (datetime.fromisoformat(told["at"]).timestamp() - killed_s)
    print(f"from kill -9 to the log's word, ms: {took_ms:.0f}")
    assert took_ms <= LONGEST_MS
