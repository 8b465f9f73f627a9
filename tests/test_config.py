"""The configuration of a node: what is understood, and how everything else is told."""

import sys
from dataclasses import fields
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from blixard import config
from blixard.cli import main
from blixard.cli.failure import Failure, tell
from blixard.cli.node import _as_tables, node
from blixard.cli.terminal import Options
from blixard.config import CapacityConfig, Misconfigured, NixConfig, NodeConfig
from blixard.errors import Code
from blixard.lease import LeaseTimes

FULL = """
    [node]
    id = 2
    bind = "10.0.0.2:7001"
    advertise = "node-b.example:7001"
    peers = ["1:10.0.0.1:7001", "3:[fd00::3]:7001"]
    bootstrap = true
    data_dir = "/srv/blixard"
    socket = "/run/blixard/b.sock"
    driver = "process"
    log_level = "debug"

    [capacity]
    vcpus = 6
    memory_mib = 24576
    reserve_memory_mib = 1024

    [nix]
    binary = "/usr/bin/nix"
    build_timeout_s = 600

    [nix.options]
    sandbox = "false"
    cores = "2"

    [lease]
    lease_ms = 12000
    renew_ms = 500
    kill_ms = 1500
    watchdog_ms = 8000

    [watchdog]
    mode = "guaranteed"

    [metrics]
    bind = "[fd00::2]:9101"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "blixard.toml"


def written(file: Path, text: str) -> Path:
    file.write_text(dedent(text).lstrip("\n"))
    return file


def refused(path: Path | None, flags: dict[str, dict[str, Any]] | None = None) -> Misconfigured:
    with pytest.raises(Misconfigured) as caught:
        config.load(path, flags or {})
    return caught.value


def messages(wrong: Misconfigured) -> list[str]:
    return [problem.rejected.message for problem in wrong.problems]


# --- what is understood -------------------------------------------------------------------------


def test_a_full_file(file: Path) -> None:
    assert config.load(written(file, FULL), {}) == NodeConfig(
        node_id=2,
        bind="10.0.0.2:7001",
        advertise="node-b.example:7001",
        peers=((1, "10.0.0.1:7001"), (3, "[fd00::3]:7001")),
        founding=True,
        data_dir=Path("/srv/blixard"),
        socket=Path("/run/blixard/b.sock"),
        driver="process",
        log_level="debug",
        capacity=CapacityConfig(6, 24576, 1024),
        nix=NixConfig("/usr/bin/nix", 600, {"cores": "2", "sandbox": "false"}),
        lease=LeaseTimes(12_000, 500, 1_500, 8_000),
        watchdog_mode="guaranteed",
        metrics_bind="[fd00::2]:9101",
    )


def test_an_id_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "RUNTIME_DIR", tmp_path / "none")
    loaded = config.load(None, {"node": {"id": 1}})
    assert loaded == NodeConfig(
        node_id=1,
        bind="127.0.0.1:7001",
        advertise="127.0.0.1:7001",
        peers=(),
        founding=True,
        data_dir=Path("/var/lib/blixard"),
        socket=Path("/var/lib/blixard/api.sock"),
        driver="auto",
        log_level="info",
        capacity=CapacityConfig(None, None, 512),
        nix=NixConfig("nix", 3600, {}),
    )
    monkeypatch.setattr(config, "RUNTIME_DIR", tmp_path)
    assert config.load(None, {"node": {"id": 1}}).socket == tmp_path / "api.sock"


@pytest.mark.parametrize(
    ("peers", "bootstrap", "founding"),
    [
        ([], None, True),
        ([], False, False),
        ([], True, True),
        (["2:b:7001"], None, False),
        (["2:b:7001"], False, False),
        (["2:b:7001"], True, True),
    ],
)
def test_who_founds_a_cluster(peers: list[str], bootstrap: bool | None, founding: bool) -> None:
    keys: dict[str, Any] = {"id": 1, "peers": peers}
    if bootstrap is not None:
        keys["bootstrap"] = bootstrap
    assert config.load(None, {"node": keys}).founding is founding


def test_flags_win_over_the_file(file: Path) -> None:
    flags: dict[str, dict[str, Any]] = {
        "node": {"id": 9, "peers": ["1:a:1"], "driver": "systemd"},
        "capacity": {"vcpus": 1},
        "nix": {"options": {"cores": "8"}},
    }
    loaded = config.load(written(file, FULL), flags)
    assert (loaded.node_id, loaded.peers, loaded.driver) == (9, ((1, "a:1"),), "systemd")
    assert loaded.capacity == CapacityConfig(1, 24576, 1024)
    assert loaded.nix.options == {"cores": "8"}
    assert loaded.bind == "10.0.0.2:7001"


def test_every_key_has_its_flag_and_every_flag_its_key() -> None:
    flags = {option for parameter in node.params for option in parameter.opts}
    keys = {key.flag for table in config.KEYS.values() for key in table.values()}
    assert flags - keys == {"--check", "--config"}
    assert keys <= flags


def test_every_flag_reaches_its_key() -> None:
    given = [
        *("--id", "2", "--bind", "b:1", "--advertise", "c:1", "--peer", "1:a:1", "--peer", "3:d:1"),
        *("--bootstrap", "--data-dir", "/d", "--socket", "/s", "--driver", "process"),
        *("--log-level", "debug", "--vcpus", "1", "--memory-mib", "64"),
        *("--reserve-memory-mib", "0", "--nix-binary", "n", "--nix-build-timeout-s", "5"),
        *("--nix-option", "cores", "1", "--nix-option", "sandbox", "false"),
        *("--lease-ms", "10000", "--renew-ms", "900", "--kill-ms", "1100"),
        *("--watchdog-ms", "7000", "--watchdog-mode", "best-effort"),
    ]
    params = node.make_context("node", given).params
    params.pop("file")
    assert config.load(None, _as_tables(params)) == NodeConfig(
        node_id=2,
        bind="b:1",
        advertise="c:1",
        peers=((1, "a:1"), (3, "d:1")),
        founding=True,
        data_dir=Path("/d"),
        socket=Path("/s"),
        driver="process",
        log_level="debug",
        capacity=CapacityConfig(1, 64, 0),
        nix=NixConfig("n", 5, {"cores": "1", "sandbox": "false"}),
        lease=LeaseTimes(10_000, 900, 1_100, 7_000),
        watchdog_mode="best-effort",
    )


def test_every_key_of_a_table_is_a_field() -> None:
    assert set(config.KEYS["capacity"]) == {field.name for field in fields(CapacityConfig)}
    assert set(config.KEYS["nix"]) == {field.name for field in fields(NixConfig)}
    assert set(config.KEYS["lease"]) == {field.name for field in fields(LeaseTimes)}


def test_relative_paths_of_flags_are_those_of_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = node.make_context("node", ["--id", "1", "--data-dir", "data"]).params
    params.pop("file")
    assert config.load(None, _as_tables(params)).data_dir == tmp_path / "data"


# --- what is not --------------------------------------------------------------------------------


def test_everything_wrong_with_a_file_is_shown_at_once(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(
        file,
        """
        [node]
        id = 70000
        peers = "2:b:7001"

        [capacity]
          memroy_mib = 24576

        [nx]
        binary = "nix"
        """,
    )
    for problem in refused(file).problems:
        tell(Failure(problem.rejected, facts=problem.facts), Options())
    assert capsys.readouterr().err == dedent(f"""\
        error[BLX-2032]: node.id: 70000 is out of range
          --> {file}:2:1
             |
           1 | [node]
           2 | id = 70000
             | ^^ 70000 is out of range
          fix: write a number, 1 to 65535
        error[BLX-2032]: node.peers: "2:b:7001" is no list
          --> {file}:3:1
             |
           2 | id = 70000
           3 | peers = "2:b:7001"
             | ^^^^^ "2:b:7001" is no list
          fix: write ["2:10.0.0.2:7001", "3:10.0.0.3:7001"]
        error[BLX-2031]: unknown key "memroy_mib" in blixard.toml
          --> {file}:6:3
             |
           5 | [capacity]
           6 |   memroy_mib = 24576
             |   ^^^^^^^^^^ did you mean "memory_mib"?
          keys of [capacity]: disk_mib, memory_mib, reserve_disk_mib, reserve_memory_mib, vcpus
        error[BLX-2031]: unknown table or key "nx" in blixard.toml
          --> {file}:8:2
             |
           7 |
           8 | [nx]
             |  ^^ did you mean "nix"?
          tables: capacity, lease, metrics, nix, node, watchdog
        """)


def test_a_syntax_error_is_shown_where_it_is(file: Path) -> None:
    wrong = refused(written(file, '[node]\nid = 1\nbind = "127.0.0.1:7001\n'))
    [problem] = wrong.problems
    assert problem.rejected.code is Code.CONFIG_SYNTAX
    assert problem.facts[0] == f"--> {file}:3:23"
    assert problem.facts[3] == ' 3 | bind = "127.0.0.1:7001'


@pytest.mark.parametrize("content", [None, b"\xff\xfe", "folder"])
def test_an_unreadable_file_is_named(file: Path, content: bytes | str | None) -> None:
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content == "folder":
        file.mkdir()
    [problem] = refused(file).problems
    assert problem.rejected.code is Code.CONFIG_UNREADABLE
    assert str(file) in problem.rejected.message
    assert problem.rejected.why


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("nodes = 1", Code.CONFIG_KEY, 'unknown table or key "nodes"'),
        ("node = 1", Code.CONFIG_VALUE, "node: 1 is no table"),
        ("[node]\nid = true", Code.CONFIG_VALUE, "node.id: true is no whole number"),
        ("[node]\nid = 1.5", Code.CONFIG_VALUE, "node.id: 1.5 is no whole number"),
        ('[node]\nid = "1"', Code.CONFIG_VALUE, 'node.id: "1" is no whole number'),
        ('[node]\nbootstrap = "no"', Code.CONFIG_VALUE, "is neither true nor false"),
        ("[node]\nbind = 7001", Code.CONFIG_VALUE, "7001 is no address with a port"),
        ('[node]\nbind = "fd00::1:7001"', Code.CONFIG_VALUE, "is no address with a port"),
        ('[node]\nbind = "a:0"', Code.CONFIG_VALUE, '"a:0" has no valid port'),
        ('[node]\nbind = "a:65536"', Code.CONFIG_VALUE, "has no valid port"),
        ('[node]\nbind = "a:7001\\n"', Code.CONFIG_VALUE, "is no address with a port"),
        ('[node]\nbind = "http://a:7001"', Code.CONFIG_VALUE, "is no address with a port"),
        ('[node]\npeers = ["b:7001"]', Code.CONFIG_VALUE, '"b:7001" is no peer'),
        ('[node]\npeers = ["0:b:7001"]', Code.CONFIG_VALUE, "0 is out of range"),
        ('[node]\npeers = ["2:b"]', Code.CONFIG_VALUE, '"b" is no address'),
        ("[node]\npeers = [2]", Code.CONFIG_VALUE, "2 is no peer"),
        ('[node]\npeers = ["2:b:1", "2:c:1"]', Code.CONFIG_VALUE, '"2" occurs twice'),
        ('[node]\npeers = ["2:b:1", "3:b:1"]', Code.CONFIG_VALUE, '"b:1" occurs twice'),
        ('[node]\ndata_dir = "data"', Code.CONFIG_VALUE, '"data" is no absolute path'),
        (f'[node]\nsocket = "/{"s" * 107}"', Code.CONFIG_VALUE, "is too long"),
        ('[node]\ndriver = "docker"', Code.CONFIG_VALUE, '"docker" is not known'),
        ('[node]\nlog_level = "INFO"', Code.CONFIG_VALUE, '"INFO" is not known'),
        ("[capacity]\nvcpus = 0", Code.CONFIG_VALUE, "0 is out of range"),
        ("[capacity]\nmemory_mib = -1", Code.CONFIG_VALUE, "-1 is out of range"),
        ('[capacity]\nmemory_mib = "2GiB"', Code.CONFIG_VALUE, '"2GiB" is no whole number'),
        ("[lease]\nkill_ms = 999", Code.CONFIG_VALUE, "999 is out of range"),
        ('[watchdog]\nmode = "on"', Code.CONFIG_VALUE, '"on" is not known'),
        ('[nix]\nbinary = "--help"', Code.CONFIG_VALUE, '"--help" is no program'),
        ("[nix]\nbuild_timeout_s = 0", Code.CONFIG_VALUE, "0 is out of range"),
        ('[nix]\noptions = "a"', Code.CONFIG_VALUE, '"a" is no table'),
        ("[nix.options]\nsandbox = false", Code.CONFIG_VALUE, "sandbox = false is no string"),
        ('[nix.options]\n"--x" = "1"', Code.CONFIG_VALUE, '"--x" is no name of a Nix option'),
    ],
)
def test_what_is_not_understood_is_refused(file: Path, text: str, code: Code, told: str) -> None:
    problem = refused(written(file, text), {"node": {"id": 1}}).problems[0]
    assert problem.rejected.code is code
    assert told in problem.rejected.message
    assert problem.facts, "the place in the file is shown"
    assert problem.facts[0].startswith(f"--> {file}:")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, "node.id is missing"),
        ({"id": 1, "bind": "0.0.0.0:7001"}, 'nobody can be reached at "0.0.0.0:7001"'),
        ({"id": 1, "bind": "[::]:7001"}, 'nobody can be reached at "[::]:7001"'),
        ({"id": 1, "peers": ["1:b:7001"]}, "1 is this node's own id"),
        ({"id": 1, "bind": "b:1", "peers": ["2:b:1"]}, '"b:1" is this node itself'),
    ],
)
def test_keys_that_contradict_each_other(keys: dict[str, Any], told: str) -> None:
    [message] = messages(refused(None, {"node": keys}))
    assert told in message


def test_times_that_break_the_arithmetic_are_all_told_with_it() -> None:
    lease = {"lease_ms": 6_000, "watchdog_ms": 6_000}
    wrong = refused(None, {"node": {"id": 1}, "lease": lease})
    election, watchdog = messages(wrong)
    assert "kill 1000 + renew 1000 + election 4000 = 6000 ms" in election
    assert "lease 6000 - renew 1000 = 5000 ms, which must be at least watchdog 6000" in watchdog
    assert all(problem.rejected.code is Code.CONFIG_VALUE for problem in wrong.problems)
    assert "lease_ms = 9000, renew_ms = 1000" in wrong.problems[0].rejected.fixes[0].text
    assert (
        config.load(None, {"node": {"id": 1}, "lease": {"lease_ms": 7_000}}).lease.kill_ms == 1000
    )


def test_any_address_may_be_bound_if_another_is_advertised() -> None:
    keys = {"id": 1, "bind": "0.0.0.0:7001", "advertise": "b:7001"}
    assert config.load(None, {"node": keys}).bind == "0.0.0.0:7001"


def test_a_wrong_flag_is_named_as_a_flag() -> None:
    wrong = refused(None, {"node": {"id": 0, "peers": ["x"]}})
    assert messages(wrong) == ["--id: 0 is out of range", '--peer: "x" is no peer']


def test_ten_problems_are_enough(file: Path) -> None:
    keys = "\n".join(f"key_{number} = 1" for number in range(30))
    assert len(refused(written(file, f"[node]\n{keys}")).problems) == 10


def test_an_ipv6_address_without_brackets_gets_the_advice() -> None:
    [problem] = refused(None, {"node": {"id": 1, "bind": "fd00::1:7001"}}).problems
    assert problem.rejected.fixes[0].text == "put the IPv6 address in brackets: [ADDRESS]:PORT"


def test_the_daemon_is_not_begun_with_a_wrong_configuration(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["blixard", "node", "--config", str(file), "--id", "0"])
    written(file, "[capcity]\n")
    assert main() == 2
    told = capsys.readouterr().err
    assert told.count("error[") == 2
