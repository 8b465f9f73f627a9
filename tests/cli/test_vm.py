"""`blixard vm`: what people and programs read, and with which exit code."""

import json
from textwrap import dedent

import pytest

from blixard.errors import Code
from blixard.model import Rejected
from blixard.v1 import blixard_pb2 as pb
from cli.conftest import Run, spawn
from cli.fake_node import Context, FakeNode, a_vm, refuse

RUNNER = f"/nix/store/{'a' * 32}-microvm-web"


@pytest.fixture
def three_vms(node: FakeNode) -> None:
    waits = pb.Reason(code="created", text="waits for a node")
    node.vms = {
        "cache": a_vm("cache", vcpus=4, memory_mib=20480, epoch=11),
        "ci-runner": a_vm("ci-runner", "pending", vcpus=8, memory_mib=1536, reason=waits),
        "web": a_vm("web", "failed", reason=pb.Reason(code="guest-exited", text="died\nlog line")),
    }


@pytest.mark.usefixtures("three_vms")
def test_list_is_a_table_on_stdout_and_a_sum_on_stderr(ask: Run) -> None:
    ran = ask("vm", "list")
    assert ran.out == dedent("""\
        NAME       STATE    NODE    CPU   MEMORY  SINCE  NOTE
        cache      running  node-1    4   20 GiB    38s  is running
        ci-runner  pending  -         8  1.5 GiB    38s  waits for a node
        web        failed   -         1  512 MiB    38s  died
        """)
    assert ran.err == "3 VMs: 1 running, 1 pending, 1 failed\n"
    assert ran.code == 0


@pytest.mark.usefixtures("three_vms")
def test_health_has_a_column_where_a_guest_is_checked(ask: Run, node: FakeNode) -> None:
    node.vms["cache"].health.CopyFrom(pb.GuestHealth(state="ok", text="connected", since_ms=1))
    header, cache, waiting, *_ = ask("vm", "list").out.splitlines()
    assert header.split()[:4] == ["NAME", "STATE", "NODE", "HEALTH"]
    assert cache.split()[:4] == ["cache", "running", "node-1", "ok"]
    assert waiting.split()[3] == "-"


@pytest.mark.usefixtures("three_vms")
def test_a_wide_list_has_more_columns(ask: Run) -> None:
    lines = ask("vm", "ls", "-o", "wide", "--no-headers").out.splitlines()
    assert lines[0].split() == [
        *("cache", "running", "node-1", "4", "20", "GiB", "38s"),
        *("running", "11", "auto", "-", "0", "github:me/infra/4f1c2ab#cache", "is", "running"),
    ]
    assert len(lines) == 3


@pytest.mark.usefixtures("three_vms")
def test_a_narrow_terminal_drops_columns_and_cuts_the_note(
    ask: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert ask("vm", "list").out == dedent("""\
        NAME       STATE    NODE    SINCE
        cache      running  node-1    38s
        ci-runner  pending  -         38s
        web        failed   -         38s
        """)
    monkeypatch.setenv("COLUMNS", "9")
    assert ask("vm", "list").out.startswith("NAME       STATE    NODE\ncache")
    monkeypatch.setenv("COLUMNS", "60")
    assert "ci-runner  pending  -         8  1.5 GiB    38s  waits for …" in ask("vm", "list").out


@pytest.mark.usefixtures("three_vms")
def test_colors_only_where_they_are_wanted(ask: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\033[31mfailed\033[0m " in ask("vm", "list", "--color", "always").out
    monkeypatch.setenv("CLICOLOR_FORCE", "1")
    assert "\033[32mrunning\033[0m" in ask("vm", "list").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033[" not in ask("vm", "list").out


@pytest.mark.usefixtures("three_vms")
def test_a_list_for_programs(ask: Run) -> None:
    ran = ask("-o", "json", "vm", "list", "c*")
    assert ran.err == ""
    assert ran.out.count("\n") == 1
    listed = json.loads(ran.out)
    assert listed["schema"] == "blixard.v1/vm_list"
    assert listed["as_of"] == {"index": 41, "term": 3, "node": "node-1", "linearizable": True}
    assert [item["name"] for item in listed["items"]] == ["cache", "ci-runner"]
    assert listed["items"][1]["node"] is None
    assert ask("vm", "list", "-o", "name").out == "cache\nci-runner\nweb\n"


@pytest.mark.usefixtures("three_vms")
def test_a_pattern_may_match_nothing_but_a_name_must_exist(ask: Run) -> None:
    assert ask("vm", "list", "x*").code == 0
    missing = ask("vm", "list", "cache", "wbe")
    assert missing.code == 4
    assert "cache" in missing.out
    assert missing.err.startswith('error[BLX-4001]: no VM named "wbe"\n')


def test_an_empty_list_says_how_to_begin(ask: Run) -> None:
    ran = ask("vm", "list")
    assert ran.out == "NAME  STATE  NODE  CPU  MEMORY  SINCE  NOTE\n"
    assert ran.err == "no VMs; create one: blixard vm create --help\n"
    assert ran.code == 0
    assert json.loads(ask("vm", "list", "-o", "json").out)["items"] == []


def test_a_stale_list_says_so(ask: Run, node: FakeNode) -> None:
    node.vms = {"web": a_vm("web")}
    ran = ask("vm", "list", "--stale")
    assert ran.err == "1 VM: 1 running (stale: node-1 at index 41)\n"
    assert node.called("ListVms")[0].stale


def test_status_tells_everything_about_a_vm(ask: Run, node: FakeNode) -> None:
    node.vms = {"web": a_vm("web", store_path=RUNNER)}
    assert ask("vm", "status", "web").out == dedent(f"""\
        web: running on node-1
          Since     today 22:13:20 (38s), wanted: running
          Reason    is running
          Placed    node-1, epoch 7, mode best-effort
          Size      1 vCPU, 512 MiB
          Source    github:me/infra/4f1c2ab#web
          Locked    sha256-9d0P
          Store     {RUNNER}
          Failover  auto; may run on any node
          Cut off   stop
          Restarts  0 of 5 in a row
          Created   today 22:13:20
          As of     index 41, node-1
        """)


@pytest.mark.usefixtures("three_vms")
def test_status_shows_the_log_of_a_failed_vm(ask: Run) -> None:
    assert "  Reason    died\n            | log line\n" in ask("vm", "show", "web").out


def test_what_a_guest_says_does_not_reach_the_terminal_as_a_command(
    ask: Run, node: FakeNode
) -> None:
    rude = pb.Reason(code="guest-exited", text="died \033[2J\nlog\r\x07 line")
    node.vms = {"web": a_vm("web", "failed", reason=rude)}
    assert "died ?[2J" in ask("vm", "list").out
    shown = ask("vm", "status", "web").out
    assert "| log?? line" in shown
    assert "\033" not in shown
    node.script["StartVm"] = [lambda *_: pb.ChangeResponse(vm=a_vm("web", "pending"))]
    told = ask("vm", "start", "web", "--wait").err
    assert "did not keep running: died ?[2J\n  | log?? line\n" in told


def test_a_terminal_without_unicode_gets_what_it_can_show(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("COLUMNS", "60")
    reason = pb.Reason(code="building", text="\u00fcbersetzt glibc, gcc und mehr")
    node.vms = {"web": a_vm("web", "building", reason=reason)}
    out, err = spawn("vm", "list", "-q", "--address", node.socket).communicate(timeout=20)
    assert (out.splitlines()[1].split()[-2:], err) == (["?bersetzt", "gl..."], "")
    arguments = ("vm", "status", "web", "-o", "json", "--address", node.socket)
    out, err = spawn(*arguments).communicate(timeout=20)
    assert json.loads(out)["reason"]["text"] == reason.text


def test_status_for_programs(ask: Run, node: FakeNode) -> None:
    node.vms = {"web": a_vm("web", store_path=RUNNER)}
    assert json.loads(ask("vm", "status", "web", "-o", "json").out) == {
        "schema": "blixard.v1/vm",
        "name": "web",
        "uid": 5,
        "wanted": "running",
        "state": "running",
        "reason": {"code": "running", "text": "is running"},
        "node": "node-1",
        "epoch": 7,
        "since": "2023-11-14T22:13:20.000Z",
        "vcpus": 1,
        "memory_mib": 512,
        "source": {
            "kind": "flake",
            "ref": "github:me/infra/4f1c2ab#web",
            "nar_hash": "sha256-9d0P",
            "digest": None,
            "store_path": RUNNER,
        },
        "on_quorum_loss": "stop",
        "keeps": False,
        "failover": "auto",
        "tied_to": None,
        "tie": None,
        "standby": None,
        "restarts": 0,
        "restart_limit": 5,
        "mode": "best-effort",
        "disk_mib": 0,
        "group": None,
        "priority": 0,
        "strategy": None,
        "require": [],
        "prefer": [],
        "near": [],
        "prefer_near": [],
        "apart": [],
        "prefer_apart": [],
        "check": None,
        "health": None,
        "decision": None,
        "move": None,
        "declared": None,
        "remark": None,
        "created_at": "2023-11-14T22:13:20.000Z",
        "as_of": {"index": 41, "term": 3, "node": "node-1", "linearizable": True},
    }


@pytest.mark.usefixtures("three_vms")
def test_status_of_several_goes_on_after_a_failure(ask: Run) -> None:
    ran = ask("vm", "status", "nope", "cache", "-o", "json")
    assert ran.code == 4
    assert [item["name"] for item in json.loads(ran.out)["items"]] == ["cache"]
    assert json.loads(ran.err)["code"] == "BLX-4001"


@pytest.mark.usefixtures("three_vms")
def test_an_unknown_name_is_answered_with_a_near_one(ask: Run) -> None:
    assert ask("vm", "stop", "cach").err == dedent("""\
        error[BLX-4001]: no VM named "cach"
          fix: blixard vm stop cache     did you mean "cache"?
               blixard vm list -o name   all names
        """)


# --- changes ------------------------------------------------------------------------------------


def test_a_vm_is_created_from_a_reference(ask: Run, node: FakeNode) -> None:
    size = ("--vcpus", "2", "--memory", "2GiB")
    ran = ask("vm", "create", "--name", "web", "--config", "github:me/infra#server", *size)
    assert (ran.code, ran.out) == (0, "web accepted: pending (is pending)\n")
    [request] = node.called("CreateVm")
    assert request.request_id == pb.RequestId(session="s1", number=1, base_index=40)
    assert (request.name, request.vcpus, request.memory_mib) == ("web", 2, 2048)
    assert (request.flake.url, request.flake.attribute) == ("github:me/infra", "server")
    assert not request.stopped


def test_a_vm_can_be_created_stopped(ask: Run, node: FakeNode) -> None:
    create = ("vm", "create", "web", "--config", RUNNER, "--stopped", "--wait")
    assert ask(*create).out == "web accepted: stopped (is stopped)\n"
    [request] = node.called("CreateVm")
    assert request.stopped
    assert request.store.path == RUNNER


def test_a_taken_name_is_refused(ask: Run, node: FakeNode) -> None:
    node.vms = {"web": a_vm("web")}
    ran = ask("vm", "create", "web", "--config", RUNNER)
    assert ran.code == 3
    assert ran.out == ""
    assert ran.err == dedent("""\
        error[BLX-3001]: a VM named "web" already exists
          fix: blixard vm status web   look at it
        """)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["Web", "--config", RUNNER], 'name: "Web" is no valid VM name'),
        (["-o", "json"], "Missing option '--config'"),
        (["--config", RUNNER], "create takes one name"),
        (["a", "--name", "b", "--config", RUNNER], "create takes one name"),
        (["a", "--config", RUNNER, "--vcpus", "0"], "vcpus: 0 is out of range"),
        (["a", "--config", RUNNER, "--memory", "0"], "memory_mib: 0 is out of range"),
        (["a", "--config", RUNNER, "--memory", "1GB"], '"1GB" is no amount of memory'),
        (["a", "--config", RUNNER, "--wait-timeout", "10"], '"10" is no duration'),
    ],
)
def test_nonsense_is_wrong_usage_and_reaches_no_node(
    ask: Run, node: FakeNode, arguments: list[str], told: str
) -> None:
    ran = ask("vm", "create", *arguments)
    assert ran.code == 2
    assert told in ran.err
    assert node.calls == []


def test_what_is_so_already_is_success(ask: Run, node: FakeNode) -> None:
    node.vms = {"web": a_vm("web")}
    ran = ask("vm", "start", "web", "--wait")
    assert (ran.code, ran.out) == (0, "web is already running on node-1\n")
    assert node.called("GetVmStatus") == []


def test_several_vms_each_get_an_outcome(ask: Run, node: FakeNode) -> None:
    node.vms = {"a": a_vm("a"), "b": a_vm("b")}
    ran = ask("vm", "stop", "a", "nope", "b", "--grace", "5s", "--kill")
    assert ran.code == 4
    assert ran.out == dedent("""\
        a accepted: stopping (is stopping)
        b accepted: stopping (is stopping)
        """)
    assert ran.err.startswith('error[BLX-4001]: no VM named "nope"\n')
    first, _, last = node.called("StopVm")
    assert (first.grace_ms, first.kill, first.request_id.number) == (5000, True, 1)
    assert last.request_id.number == 3


def test_the_exit_code_is_that_of_the_first_failure(ask: Run, node: FakeNode) -> None:
    def busy(_: object, context: Context) -> None:
        refuse(context, Rejected(Code.BUSY, '"a" is still being deleted'))

    node.script["StopVm"] = [busy]
    assert ask("vm", "stop", "a", "nope").code == 3
    node.script["StopVm"] = [lambda *_: None, busy]
    assert ask("vm", "stop", "nope", "a").code == 4


def test_the_usual_grace_is_left_to_the_cluster(ask: Run, node: FakeNode) -> None:
    node.vms = {"a": a_vm("a")}
    assert ask("vm", "restart", "a").out == "a accepted: pending (is pending)\n"
    assert not node.called("RestartVm")[0].HasField("grace_ms")


def test_changes_for_programs(ask: Run, node: FakeNode) -> None:
    node.vms = {"a": a_vm("a"), "b": a_vm("b")}
    one = json.loads(ask("vm", "stop", "a", "-o", "json").out)
    assert one["schema"] == "blixard.v1/change"
    assert (one["name"], one["index"], one["request_id"]) == ("a", 42, "s1/1@40")
    assert one["vm"]["state"] == "stopping"
    two = json.loads(ask("vm", "rm", "a", "b", "--yes", "-o", "json").out)
    assert two["schema"] == "blixard.v1/change_list"
    assert [(item["name"], item["vm"]) for item in two["items"]] == [("a", None), ("b", None)]
    assert ask("vm", "delete", "a", "--yes", "--if-exists", "-o", "name").out == "a\n"


def test_nothing_is_deleted_without_an_answer(ask: Run, node: FakeNode) -> None:
    node.vms = {"web": a_vm("web")}
    ran = ask("vm", "delete", "web")
    assert ran.code == 2
    assert ran.err == dedent("""\
        error[BLX-2010]: this needs an answer, and there is nobody to ask
          why: Delete web? The volumes stay, the declaration is lost.
          fix: answer it beforehand with --yes
        """)
    assert "web" in node.vms
    assert ask("vm", "delete", "web", "--yes").out == "web is deleted\n"


def test_a_deleted_vm_that_is_none_is_told(ask: Run) -> None:
    assert ask("vm", "delete", "web", "--yes").code == 4
    ran = ask("vm", "delete", "web", "--yes", "--if-exists", "--wait")
    assert (ran.code, ran.out) == (0, "web does not exist\n")
