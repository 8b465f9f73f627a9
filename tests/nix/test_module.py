"""`services.blixard` inside the whole of NixOS: units, users, files, and the words for mistakes."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import pytest

from blixard import config
from blixard.config.declared import DeclaredVm, load_vms
from blixard.config.keys import KEYS
from blixard.drivers import keeper
from blixard.lease import LONGEST_ELECTION_MS, LeaseTimes
from nix.conftest import ROOT, Evaluate
from nix.golden import toml

Unit = Mapping[str, list[str]]


def parsed(unit: str) -> Unit:
    """The values of every key, as `Section.Key`."""
    values: dict[str, list[str]] = defaultdict(list)
    section = ""
    for line in unit.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            values[f"{section}.{key}"].append(value)
    return values


def test_service_is_supervised_by_systemd(evaluate: Evaluate) -> None:
    unit = parsed(evaluate("founder")["units"]["blixard.service"])
    (start,) = unit["Service.ExecStart"]
    program, *arguments = start.split()
    assert program.endswith("-blixard-0.1.0/bin/blixard")
    assert arguments == ["node", "--config", "/etc/blixard/blixard.toml"]
    assert unit["Install.WantedBy"] == ["multi-user.target"]
    assert unit["Service.Type"] == ["notify"]
    assert unit["Service.WatchdogSec"] == ["30"]
    assert unit["Service.Restart"] == ["always"]
    assert unit["Unit.StartLimitIntervalSec"] == ["0"]
    assert unit["Service.RestartPreventExitStatus"] == ["2 3"]


def test_service_finds_nix_and_git(evaluate: Evaluate) -> None:
    unit = parsed(evaluate("founder")["units"]["blixard.service"])
    (path,) = [value for value in unit["Service.Environment"] if value.startswith('"PATH=')]
    assert "-nix-" in path
    assert "-git-" in path


def test_service_runs_as_its_own_user_with_its_own_directories(evaluate: Evaluate) -> None:
    host = evaluate("founder")
    unit = parsed(host["units"]["blixard.service"])
    assert unit["Service.User"] == unit["Service.Group"] == ["blixard"]
    assert unit["Service.StateDirectory"] == ["blixard"]
    assert unit["Service.RuntimeDirectory"] == ["blixard"]
    assert unit["Service.RuntimeDirectoryPreserve"] == ["true"]
    assert unit["Service.ReadWritePaths"] == ["/var/lib/microvms"]
    assert "blixard" in host["groups"]
    assert host["user"]["blixard"] == {
        "extraGroups": ["kvm", "systemd-journal"],
        "group": "blixard",
        "home": "/var/lib/blixard",
        "isSystemUser": True,
    }


def test_service_may_do_no_more_than_it_must(evaluate: Evaluate) -> None:
    unit = parsed(evaluate("founder")["units"]["blixard.service"])
    assert unit["Service.CapabilityBoundingSet"] == [""]
    assert unit["Service.ProtectSystem"] == ["strict"]
    assert unit["Service.PrivateDevices"] == ["true"]
    assert unit["Service.SystemCallFilter"] == [
        *("@system-service", "~@privileged @resources", "@chown")
    ]
    assert unit["Service.RestrictAddressFamilies"] == [
        "AF_INET",
        "AF_INET6",
        "AF_NETLINK",
        "AF_UNIX",
    ]


@pytest.mark.parametrize(("host", "mode"), [("founder", "mixed"), ("process", "process")])
def test_restart_ends_no_guard(evaluate: Evaluate, host: str, mode: str) -> None:
    assert parsed(evaluate(host)["units"]["blixard.service"])["Service.KillMode"] == [mode]


def test_guests_of_the_process_driver_have_their_devices(evaluate: Evaluate) -> None:
    host = evaluate("process")
    unit = parsed(host["units"]["blixard.service"])
    assert not {"Service.PrivateDevices", "Service.SystemCallFilter"} & unit.keys()
    assert host["units"].keys() == {"blixard.service", "blixard-declare.service"}
    assert host["polkit"] is None


def test_options_become_a_configuration_that_the_daemon_reads(
    evaluate: Evaluate, tmp_path: Path
) -> None:
    host = evaluate("joiner")
    assert host["configFile"].endswith("-blixard.toml")
    file = tmp_path / "blixard.toml"
    file.write_text(toml(host["settings"]))
    assert config.load(file, {}) == config.NodeConfig(
        node_id=2,
        bind="10.0.0.2:7100",
        advertise="node-b:7100",
        peers=((1, "10.0.0.1:7001"),),
        founding=False,
        data_dir=Path("/srv/blixard"),
        socket=config.load(None, {"node": {"id": 2, "data_dir": "/srv/blixard"}}).socket,
        driver="systemd",
        log_level="debug",
        capacity=config.CapacityConfig(memory_mib=24576),
        nix=config.NixConfig(options={"cores": "2"}),
    )


def test_founder_founds_though_it_has_peers(evaluate: Evaluate, tmp_path: Path) -> None:
    file = tmp_path / "blixard.toml"
    file.write_text(toml(evaluate("founder")["settings"]))
    founder = config.load(file, {})
    assert founder.peers == ((2, "[fd00::2]:7001"), (3, "node-c:7001"))
    assert founder.founding is True


def test_data_may_lie_elsewhere(evaluate: Evaluate) -> None:
    host = evaluate("joiner")
    unit = parsed(host["units"]["blixard.service"])
    assert "Service.StateDirectory" not in unit
    assert unit["Service.ReadWritePaths"] == ["/srv/blixard", "/var/lib/microvms"]
    assert host["tmpfiles"]["10-blixard"]["/srv/blixard"]["d"] | {"age": "-"} == {
        "age": "-",
        "argument": "",
        "group": "blixard",
        "mode": "0700",
        "type": "d",
        "user": "blixard",
    }


def test_firewall_opens_only_when_asked(evaluate: Evaluate) -> None:
    assert evaluate("founder")["ports"] == []
    assert evaluate("joiner")["ports"] == [7100]


def test_operators_have_the_command(evaluate: Evaluate) -> None:
    assert evaluate("founder")["command"] is True


def test_polkit_rule_reaches_the_host(evaluate: Evaluate) -> None:
    rule = (ROOT / "nixos-modules/polkit.rules").read_text()
    assert rule in evaluate("founder")["polkit"]


def test_vm_units_wait_for_the_guest_and_leave_restarts_to_blixard(evaluate: Evaluate) -> None:
    unit = parsed(evaluate("founder")["units"]["microvm@.service"])
    assert unit["Service.Restart"] == ["no"]
    (stop,) = unit["Service.ExecStop"]
    assert stop.endswith("/bin/microvm-stop /var/lib/microvms/%i")
    cleared, start = unit["Service.ExecStart"]
    assert cleared == ""
    socket = "/run/blixard-console/%i/console.sock"
    runner = "/var/lib/microvms/%i/current/bin/microvm-run"
    assert start.endswith(f"/blixard/drivers/console_tee.py {socket} {runner}")
    # The rest of the unit is still that of microvm.nix.
    assert unit["Service.User"] == ["microvm"]


def test_vms_that_the_host_declares_for_itself_restart_as_before(evaluate: Evaluate) -> None:
    own = parsed(evaluate("withOwnVm")["units"]["microvm@own.service"])
    assert own["Service.Restart"] == ["always"]


def test_vm_directories_come_from_microvm_nix(evaluate: Evaluate) -> None:
    directory = evaluate("founder")["tmpfiles"]["10-microvm"]["/var/lib/microvms"]["d"]
    assert (directory["user"], directory["group"], directory["mode"]) == ("microvm", "kvm", "0775")


@pytest.mark.parametrize("unit", ["microvm@.service", "microvm-virtiofsd@.service"])
def test_no_vm_starts_past_its_gate(evaluate: Evaluate, unit: str) -> None:
    rules = parsed(evaluate("founder")["units"][unit])
    (condition,) = rules["Service.ExecCondition"]
    assert condition.endswith("/keeper.py gate %i")
    assert rules["Service.Restart"] == ["no"]
    assert rules["Service.Slice"] == ["blixard-vms.slice"]
    for key in ("Unit.Wants", "Unit.After"):
        assert "blixard-keeper.service" in " ".join(rules[key])


@pytest.mark.parametrize(
    ("host", "watchdog", "mode"),
    [("founder", "", "auto"), ("guarded", "/dev/watchdog1", "guaranteed")],
)
def test_node_and_keeper_keep_to_the_same_times(
    evaluate: Evaluate, tmp_path: Path, host: str, watchdog: str, mode: str
) -> None:
    file = tmp_path / "blixard.toml"
    file.write_text(toml(evaluate(host)["settings"]))
    node = config.load(file, {})
    (start,) = parsed(evaluate(host)["units"]["blixard-keeper.service"])["Service.ExecStart"]
    settings = keeper.parse(start.partition(" serve ")[2].split())
    assert settings == {
        **keeper.SETTINGS,
        "--boot-id": "%b",
        "--max-ms": str(node.lease.fence_after_ms),
        "--budget-ms": str(node.lease.kill_ms),
        "--watchdog": watchdog,
        "--watchdog-ms": str(node.lease.watchdog_ms),
    }
    assert node.watchdog_mode == mode


def test_the_keeper_has_its_watchdog_and_no_other_device(evaluate: Evaluate) -> None:
    for name, allowed, private in (
        ("founder", None, "true"),
        ("guarded", ["/dev/watchdog1 rw"], "false"),
    ):
        unit = parsed(evaluate(name)["units"]["blixard-keeper.service"])
        assert unit.get("Service.DeviceAllow") == allowed
        assert unit["Service.DevicePolicy"] == ["closed"]
        assert unit["Service.PrivateDevices"] == [private]


def test_declared_vms_become_a_file_and_a_unit_that_applies_it(
    evaluate: Evaluate, tmp_path: Path
) -> None:
    host = evaluate("declaring")
    file = tmp_path / "vms.toml"
    file.write_text(toml({"vms": host["declared"]}))
    assert load_vms(file) == (
        DeclaredVm("db", "/srv/db", 2, 512, "keep", "auto", 0),
        DeclaredVm("web", "github:me/infra#web", 1, 1024, "stop", "always", 5),
    )
    unit = parsed(host["units"]["blixard-declare.service"])
    (start,) = unit["Service.ExecStart"]
    assert start.endswith("/bin/blixard vm apply /etc/blixard/vms.toml --owner 1")
    assert unit["Service.Type"] == ["oneshot"]
    assert unit["Service.RestartPreventExitStatus"] == ["2 3"]
    assert unit["Unit.After"] == ["blixard.service"]


def test_where_nothing_is_declared_any_more_the_cluster_learns_that(evaluate: Evaluate) -> None:
    host = evaluate("founder")
    assert host["declared"] == {}
    assert "blixard-declare.service" in host["units"]


def test_disabled_module_changes_nothing(evaluate: Evaluate) -> None:
    host = evaluate("disabled")
    assert host["units"] == {}
    assert host["configFile"] is None
    assert host["user"] == {}
    assert "blixard" not in host["groups"]
    assert host["command"] is False
    assert host["polkit"] is None


COMPLAINTS = {
    "founder": [],
    "process": [],
    "lonely": ["Set bootstrap = true on exactly one node of the cluster, and list peers"],
    "muddled": [
        '"1:10.0.0.1" is not of the form id:host:port, with a port',
        "a node id occurs twice among 2, 1, 2 (this node's own is the first)",
        'nobody can be reached at "0.0.0.0:7001". Say in services.blixard.advertise',
    ],
    "portless": [
        '"2:10.0.0.2:0" is not of the form id:host:port, with a port from 1 to 65535',
        'services.blixard.bind: "10.0.0.1:70000" has no valid port. A port is 1 to 65535',
    ],
    "misspelt": [
        "settings.node.log-level: the daemon knows no such key or table. There are advertise, bi",
    ],
    "tableless": [
        "settings.nodes: the daemon knows no such key or table. There are capacity, lease"
    ],
    "flat": ["settings.nix: the daemon knows no such key or table. There are capacity, lease"],
    "hasty": [
        "killBudget 1000 + renewal 1000 + election 4000 = 6000 ms must be less than duration 6000",
        "duration 6000 - lease.renewal 1000 = 5000 ms must be at least timeout 5001 ms",
    ],
    "unguarded": ["Name one in services.blixard.watchdog.device, which takes driver ="],
    "processGuarded": ["nothing can be guaranteed without a watchdog"],
    "misnamed": ['services.blixard.vms: "Web" is no DNS label'],
    "declaredTwice": ["microvm.vms.own is started by this host itself, so it could run twice"],
    "noVmUnits": ["Import nixosModules.default of Blixard"],
    "vmUnitsOff": ["leave microvm.host.enable at true"],
}


@pytest.mark.parametrize("host", COMPLAINTS)
def test_contradictions_are_answered_with_a_remedy(evaluate: Evaluate, host: str) -> None:
    complaints = [" ".join(text.split()) for text in evaluate("complaints")[host]]
    assert len(complaints) == len(COMPLAINTS[host])
    for complaint, words in zip(complaints, COMPLAINTS[host], strict=True):
        assert words in complaint


WRONG = {
    "nodeIdZero": "`services.blixard.nodeId' is not of type `integer between 1 and 65535",
    "noNodeId": "`services.blixard.nodeId' was accessed but has no value defined",
    "bindWithoutPort": "`services.blixard.bind' is not of type `address with a port, host:port'",
    "unknownDriver": """`services.blixard.driver' is not of type `one of "systemd", "process"'""",
    "noSource": "`services.blixard.vms.web.source' was accessed but has no value defined",
    "unknownFailover": """`services.blixard.vms.web.failover' is not of type `one of "auto", "al""",
    "hastyKill": "`services.blixard.lease.killBudget' is not of type `integer between 1000 and",
    "unknownMode": """`services.blixard.watchdog.mode' is not of type `one of "auto", "guar""",
    "unknownOption": "The option `services.blixard.nodeID' does not exist",
    "contradiction": "`services.blixard.settings.node.id' has conflicting definition values",
}


@pytest.mark.parametrize("host", WRONG)
def test_wrong_values_end_the_evaluation(evaluate_failing: Callable[[str], str], host: str) -> None:
    assert WRONG[host] in evaluate_failing(f"wrong.{host}")


def test_an_even_number_of_voters_is_a_warning(evaluate: Evaluate) -> None:
    warnings = evaluate("warnings")
    assert warnings["odd"] == []
    assert "2 nodes survive no more losses than 1 would" in warnings["even"][0]


def test_the_keys_of_the_file_are_those_that_the_daemon_reads() -> None:
    """An assertion names the others: here it is asked for every key, as written in Nix."""
    text = (ROOT / "nixos-modules/assertions.nix").read_text()
    (known,) = re.findall(r"  known = \{\n(.*?)\n  \};", text, re.DOTALL)
    tables = re.findall(r"(\w+) = \[(.*?)\]", known, re.DOTALL)
    assert {table: set(re.findall(r'"(.*?)"', keys)) for table, keys in tables} == {
        table: set(keys) for table, keys in KEYS.items()
    }


def test_its_times_are_those_of_the_daemon(evaluate: Evaluate) -> None:
    assert evaluate("founder")["settings"]["lease"] == asdict(LeaseTimes())
    text = (ROOT / "nixos-modules/assertions.nix").read_text()
    assert f"electionMs = {LONGEST_ELECTION_MS};" in text


def test_a_host_with_vms_does_not_sleep(evaluate: Evaluate) -> None:
    targets = {"hibernate", "hybrid-sleep", "sleep", "suspend", "suspend-then-hibernate"}
    assert {f"{name}.target" for name in targets} <= set(evaluate("founder")["masked"])
