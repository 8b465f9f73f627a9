"""Help, wrong usage, addresses, completion, and what a command costs before it asks anybody."""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import click
import pytest

from blixard import __version__
from blixard.cli import connect, root
from blixard.errors import BlixardError, Code
from cli.conftest import BLIXARD, Run, spawn
from cli.fake_node import FakeNode, a_vm, no_leader

HEAVY = ("grpc", "google.protobuf", "asyncio", "tomli", "difflib", "tarfile", "rich", "msgspec")
MOST_MODULES = 400
"""A ceiling for `vm list`, so that no import creeps in unseen."""


# --- wrong usage --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("vm lst", '"blixard vm lst" is no command\n  fix: did you mean "list"?  blixard vm list'),
        ("vn list", '"blixard vn" is no command\n  fix: did you mean "vm"?  blixard vm'),
        ("vm sta web", '"blixard vm sta" is no command\n  fix: did you mean "start"?'),
        ("vm zzz", '"blixard vm zzz" is no command\n  fix: see blixard vm --help'),
        ("vm list --stal", '"blixard vm list" has no flag --stal\n  fix: did you mean --stale?'),
        ("vm list --zzz", '"blixard vm list" has no flag --zzz\n  fix: all flags: blixard vm list'),
        ("vm start", "Missing argument 'NAME...'\n  fix: how it is used: blixard vm start --help"),
        ("vm list --timeout 5", '"5" is no duration; write 90s, 10m or 2h'),
        ("vm list -o yaml", "'yaml' is not one of 'table', 'wide', 'name', 'json'"),
        ("completion tcsh", "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ],
)
def test_wrong_usage_says_what_was_probably_meant(run: Run, arguments: str, told: str) -> None:
    ran = run(*arguments.split())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error[BLX-2001]: ")
    assert told in ran.err


def test_what_is_no_utf8_is_refused(run: Run) -> None:
    ran = run("vm", "start", os.fsdecode(b"\xff"))
    assert ran.code == 2
    assert ran.err == "error[BLX-2001]: '\\udcff' is not UTF-8\n"


@pytest.mark.parametrize("arguments", ["vm list -o json --zzz", "-o json vm lst"])
def test_wrong_usage_for_programs(run: Run, arguments: str) -> None:
    told = json.loads(run(*arguments.split()).err)
    assert told["schema"] == "blixard.v1/error"
    assert (told["code"], told["exit_code"]) == ("BLX-2001", 2)
    assert told["fixes"]


@pytest.mark.parametrize("arguments", ["", "-h", "vm", "vm --help", "cluster", "vm create -h"])
def test_help_goes_to_stdout(run: Run, arguments: str) -> None:
    ran = run(*arguments.split())
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("Usage: blixard")


def test_every_command_of_the_table_exists_and_has_help() -> None:
    ctx = click.Context(root)
    for name, lazy in root.table.items():
        command = root.get_command(ctx, name)
        assert command is not None
        assert command.name == name
        assert lazy.help
    commands: list[click.Command] = [root]
    for command in commands:
        assert command.help
        if isinstance(command, click.Group):
            ctx = click.Context(command)
            found = [command.get_command(ctx, name) for name in command.list_commands(ctx)]
            commands += [one for one in found if one is not None]
    assert len(commands) > 15


# --- addresses ----------------------------------------------------------------------------------


def test_without_an_address_everything_tried_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "SOCKET", tmp_path / "api.sock")
    ran = run("vm", "list")
    assert ran.code == 5
    headline, *tried = ran.err.splitlines()[:4]
    assert headline == "error[BLX-5001]: no address to ask"
    sources = ["--address", "BLIXARD_ADDRESS", f"{tmp_path}/api.sock"]
    assert [line.split()[0] for line in tried] == sources
    assert "systemctl start blixard" in ran.err


def test_the_first_address_that_is_given_wins(
    run: Run, node: FakeNode, other: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "SOCKET", Path(node.socket.removeprefix("unix:")))
    assert "this host: unix:" in run("vm", "list", "-v").err
    monkeypatch.setenv("BLIXARD_ADDRESS", f"{node.address}, {other.address}")
    assert f"BLIXARD_ADDRESS: {node.address}, {other.address}" in run("vm", "list", "-v").err
    ran = run("--address", other.address, "vm", "list", "-v")
    assert f"--address: {other.address}\n{other.address} ListVms: ok (" in ran.err
    assert len(node.called("ListVms")) == 2
    ran = run("--address", node.address, "vm", "list", "--address", other.address)
    assert len(other.called("ListVms")) == 2


@pytest.mark.parametrize("address", ["node-a", "unix:", "http://a:1/", "fd00::1:7001", "a:b", ""])
def test_what_is_no_address_is_refused(run: Run, address: str) -> None:
    ran = run("vm", "list", "--address", address)
    assert ran.code == 2
    assert f'error[BLX-2050]: --address: "{address}" is no address' in ran.err


def test_a_cluster_without_a_leader_is_unavailable(ask: Run, node: FakeNode) -> None:
    node.script["ListVms"] = [no_leader] * 99
    ran = ask("vm", "list", "--timeout", "100ms", "-q")
    assert (ran.code, ran.out) == (5, "")
    assert ran.err.startswith("error[BLX-5002]: no leader is known\n")
    node.script["ListVms"] = [no_leader]
    assert ask("vm", "list").err.startswith("no node can serve this yet; trying for 10 s\n")
    node.script["ListVms"] = [no_leader]
    assert ask("vm", "list", "-o", "json").err == ""


def test_a_lost_outcome_names_the_command_that_asks_again(ask: Run, node: FakeNode) -> None:
    node.lose_answers = 1
    node.vms = {"a": a_vm("a"), "b": a_vm("b")}
    ran = ask("vm", "stop", "a", "b", "--kill", "--timeout", "40ms", "-q")
    assert ran.code == 5
    assert ran.out == "b accepted: stopping (is stopping)\n"
    assert ran.err.startswith("error[BLX-5010]: it is not known whether the change took effect\n")
    again = "blixard vm stop a --kill --timeout 40ms -q --request-id s1/1@40"
    assert f"  fix: {again}   ask again; it never acts twice\n" in ran.err
    assert ask(*again.split()[1:]).out == "a accepted: stopping (is stopping)\n"
    assert len(node.outcomes) == 2


def test_a_request_id_goes_with_one_name(ask: Run, node: FakeNode) -> None:
    assert ask("vm", "stop", "a", "b", "--request-id", "s1/1@40").code == 2
    assert ask("vm", "stop", "a", "--request-id", "1").code == 2
    assert node.calls == []


# --- every way out leads somewhere --------------------------------------------------------------


def test_the_commands_in_errors_are_commands(ask: Run, node: FakeNode) -> None:
    node.vms = {"web": a_vm("web")}
    failures = [
        ask("vm", "list", "web2"),
        ask("vm", "status", "wbe"),
        ask("vm", "create", "web", "--config", "github:a/b"),
        ask("vm", "list", "--address", "127.0.0.1:1", "--timeout", "20ms"),
        ask("vm", "start", "web", "--timeout", "20ms", "--address", "127.0.0.1:1"),
    ]
    commands = [
        line.split("fix: ")[-1].strip().partition("   ")[0]
        for failed in failures
        for line in failed.err.splitlines()
        if "blixard " in line and line.startswith(("  fix: ", "       "))
    ]
    assert len(commands) >= 6
    for command in commands:
        program, *arguments = shlex.split(command)
        if program == "blixard":
            _parse(arguments)


def _parse(arguments: list[str]) -> None:
    """Let the command line's own parser read the arguments, and run nothing."""
    ctx = root.make_context("blixard", list(arguments))
    while isinstance(ctx.command, click.Group):
        rest = [*ctx._protected_args, *ctx.args]
        name, command, rest = ctx.command.resolve_command(ctx, rest)
        assert command is not None
        ctx = command.make_context(name, rest, parent=ctx)


# --- the rest -----------------------------------------------------------------------------------


def test_version(run: Run) -> None:
    assert run("version").out == f"blixard {__version__}\n"
    told = {"schema": "blixard.v1/version", "version": __version__}
    assert json.loads(run("version", "-o", "json").out) == told
    assert json.loads(run("-o", "json", "version").out) == told


def test_a_failure_of_the_world_keeps_its_code(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise BlixardError("the port is in use", remedy="choose another", code=Code.ADDRESS_IN_USE)

    monkeypatch.setattr("blixard.config.load", fails)
    ran = run("node", "--id", "1")
    assert ran.code == 1
    assert ran.err == "error[BLX-1031]: the port is in use\n  fix: choose another\n"


def test_a_defect_is_told_without_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("blixard.config.load", breaks)
    ran = run("node", "--id", "1")
    assert ran.code == 1
    assert ran.err == dedent("""\
        error[BLX-9001]: ZeroDivisionError: oops
          why: this is a defect of Blixard
          fix: run it again with --debug, and report what it prints
        """)
    assert "Traceback" in run("--debug", "node", "--id", "1").err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_back(run: Run, shell: str) -> None:
    ran = run("completion", shell)
    assert ran.code == 0
    assert f"_BLIXARD_COMPLETE={shell}_complete" in ran.out


def complete(*words: str) -> list[str]:
    """What bash would offer for the last word."""
    environment = {
        **os.environ,
        "_BLIXARD_COMPLETE": "bash_complete",
        "COMP_WORDS": shlex.join(["blixard", *words]),
        "COMP_CWORD": str(len(words)),
    }
    asked = subprocess.run(BLIXARD, env=environment, capture_output=True, text=True, check=True)
    assert asked.stderr == ""
    return [line.partition(",")[2] for line in asked.stdout.splitlines() if line]


def test_verbs_flags_and_names_are_completed(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.vms = {"web": a_vm("web"), "wiki": a_vm("wiki"), "db": a_vm("db")}
    monkeypatch.setenv("BLIXARD_ADDRESS", node.socket)
    assert complete("v") == ["vm", "version"]
    assert complete("vm", "st") == ["start", "stop", "status"]
    assert complete("vm", "list", "--st") == ["--stale"]
    assert complete("vm", "stop", "w") == ["web", "wiki"]
    monkeypatch.setenv("BLIXARD_ADDRESS", "127.0.0.1:1")
    assert complete("vm", "stop", "w") == []


def imported_by(*arguments: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    code = (
        "import sys; sys.argv = ['blixard', *sys.argv[1:]]\n"
        "from blixard.cli import main\n"
        "main(); print('\\n' + ' '.join(sys.modules))"
    )
    command = [sys.executable, "-c", code, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(ran.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "arguments", ["--help", "vm --help", "version", "vm lst", "completion zsh"]
)
def test_what_asks_nobody_imports_little(arguments: str) -> None:
    suggesting = {"difflib"} if arguments == "vm lst" else set()
    assert imported_by(*arguments.split()) & set(HEAVY) == suggesting


def test_a_list_imports_only_the_client_and_is_fast(node: FakeNode) -> None:
    node.vms = {f"vm-{number}": a_vm(f"vm-{number}") for number in range(50)}
    imported = imported_by("vm", "list", "-q", "--address", node.socket)
    rooms = {"daemon", "agent", "machine", "codec", "raft", "drivers", "scheduler", "config"}
    assert {f"blixard.{room}" for room in rooms} & imported == set()
    assert {"rich", "tomli", "tarfile", "pysyncobj", "msgspec", "cattrs"} & imported == set()
    assert len(imported) < MOST_MODULES
    began = time.monotonic()
    assert spawn("vm", "list", "-q", "--address", node.socket).communicate(timeout=20)[1] == ""
    elapsed_s = time.monotonic() - began
    print(f"vm list of 50 VMs: {elapsed_s * 1000:.0f} ms, {len(imported)} modules")
    assert elapsed_s < 5, "far beyond what a busy machine explains"
