"""`--wait`: every phase is shown, and every end has its own exit code."""

import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from textwrap import dedent
from typing import Any

import pytest

from blixard.v1 import blixard_pb2 as pb
from cli.conftest import BLIXARD, Run, spawn
from cli.fake_node import Context, FakeNode, Step, a_vm

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def turns(node: FakeNode, name: str, *seen: pb.Vm | None) -> list[Step]:
    """Steps for GetVmStatus: the VM becomes one after another; None deletes it."""

    def become(vm: pb.Vm | None) -> Step:
        def step(_: Any, __: Context) -> None:
            if vm is None:
                del node.vms[name]
            else:
                node.vms[name] = vm

        return step

    return [become(vm) for vm in seen]


def building(line: str) -> pb.Vm:
    return a_vm("web", "building", reason=pb.Reason(code="building", text=line))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blixard.cli.progress.POLL_S", 0.01)


def test_a_pipe_gets_a_line_for_every_phase(ask: Run, node: FakeNode) -> None:
    node.vms = {"web": a_vm("web", "stopped")}
    phases = [
        a_vm("web", "pending"),
        building("1 of 2"),
        building("2 of 2"),
        a_vm("web", "starting"),
    ]
    node.script["GetVmStatus"] = turns(node, "web", *phases, a_vm("web"))
    ran = ask("vm", "start", "web", "--wait")
    assert re.fullmatch(r"web is running on node-1 \(0\.\ds\)\n", ran.out)
    assert STAMP.sub("T", ran.err) == dedent("""\
        T web pending is pending
        T web building node=node-1 1 of 2
        T web starting node=node-1 is starting
        """)
    assert ran.code == 0


def test_a_program_gets_one_object(ask: Run, node: FakeNode) -> None:
    node.vms = {"web": a_vm("web", "stopped")}
    node.script["GetVmStatus"] = turns(node, "web", a_vm("web", "starting"), a_vm("web"))
    ran = ask("vm", "start", "web", "--wait", "-o", "json")
    assert ran.err == ""
    assert '"schema": "blixard.v1/change"' in ran.out
    assert '"state": "running"' in ran.out


def test_a_guest_that_dies_ends_the_wait_with_its_last_words(ask: Run, node: FakeNode) -> None:
    died = pb.Reason(code="guest-exited", text="QEMU ended with 1\nKernel panic\nnot syncing")
    node.vms = {"web": a_vm("web", "stopped")}
    node.script["GetVmStatus"] = turns(node, "web", a_vm("web", "failed", reason=died))
    ran = ask("vm", "start", "web", "--wait")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == dedent("""\
        error[BLX-1001]: web did not keep running: QEMU ended with 1
          | Kernel panic
          | not syncing
          fix: blixard vm start web --wait   try the same again
               blixard vm delete web         then create it anew from a corrected source
        """)


def test_a_build_that_fails_ends_the_wait_with_its_log(ask: Run, node: FakeNode) -> None:
    lines = "\n".join(f"line {number}" for number in range(30))
    failed = pb.Reason(code="build-failed", text=f"nix build ended with 1\n{lines}")
    node.script["GetVmStatus"] = turns(
        node, "web", building("compiling"), a_vm("web", "failed", reason=failed)
    )
    ran = ask("vm", "create", "web", "--config", "github:me/infra", "--wait", "--progress", "none")
    assert ran.code == 1
    assert ran.err.startswith("error[BLX-1020]: web did not build: nix build ended with 1\n")
    assert "  | line 10\n" in ran.err
    assert "  | line 9\n" not in ran.err


def test_the_wait_ends_and_the_work_goes_on(ask: Run, node: FakeNode) -> None:
    node.vms = {"web": a_vm("web", "stopped")}
    ran = ask("vm", "start", "web", "--wait", "--wait-timeout", "50ms", "-q")
    assert ran.code == 6
    assert ran.err == dedent("""\
        error[BLX-6001]: "web" is pending after 0.1s
          why: is pending; the wait ended, the work goes on
          fix: blixard vm status web   see how it goes
        """)


def test_somebody_else_may_change_the_goal(ask: Run, node: FakeNode) -> None:
    node.vms = {"web": a_vm("web", "stopped")}
    node.script["GetVmStatus"] = turns(node, "web", a_vm("web", "stopping"))
    ran = ask("vm", "start", "web", "--wait", "-q")
    assert ran.code == 6
    assert '"web" shall be stopped now, so it will not be running' in ran.err


@pytest.mark.parametrize("gone", [None, a_vm("web", uid=99)])
def test_somebody_else_may_delete_it(ask: Run, node: FakeNode, gone: pb.Vm | None) -> None:
    node.vms = {"web": a_vm("web", "stopped")}
    node.script["GetVmStatus"] = turns(node, "web", gone)
    ran = ask("vm", "start", "web", "--wait", "-q")
    assert ran.code == 4
    assert '"web" was deleted while it was waited for' in ran.err


def test_stop_waits_until_nothing_runs(ask: Run, node: FakeNode) -> None:
    node.vms = {"web": a_vm("web")}
    node.script["GetVmStatus"] = turns(node, "web", a_vm("web", "stopping"), a_vm("web", "stopped"))
    assert ask("vm", "stop", "web", "--wait").out.startswith("web is stopped (0.")


@pytest.mark.parametrize("gone", [None, a_vm("web", uid=99)])
def test_delete_waits_until_the_vm_is_gone(ask: Run, node: FakeNode, gone: pb.Vm | None) -> None:
    dying = a_vm("web", "stopping", wanted="deleted")

    def begin(_: Any, __: Context) -> pb.ChangeResponse:
        return pb.ChangeResponse(index=42, vm=dying)

    node.vms = {"web": a_vm("web")}
    node.script["DeleteVm"] = [begin]
    node.script["GetVmStatus"] = turns(node, "web", dying, gone)
    ran = ask("vm", "delete", "web", "--yes", "--wait")
    assert ran.code == 0
    assert ran.out.startswith("web is deleted (0.")


def test_one_of_several_may_fail(ask: Run, node: FakeNode) -> None:
    node.vms = {"a": a_vm("a", "stopped"), "b": a_vm("b", "stopped")}
    node.script["GetVmStatus"] = [
        *turns(node, "a", a_vm("a", "failed")),
        *turns(node, "b", a_vm("b")),
    ]
    ran = ask("vm", "start", "a", "b", "--wait", "-q")
    assert ran.code == 1
    assert ran.out.startswith("b is running on node-1")
    assert "a did not build" in ran.err


def test_a_leader_that_changes_does_not_end_the_wait(
    ask: Run, node: FakeNode, other: FakeNode
) -> None:
    node.vms = {"web": a_vm("web", "stopped")}
    other.vms = {"web": a_vm("web")}
    node.script["GetVmStatus"] = [lambda _, __: setattr(node, "leader", other.address)]
    assert ask("vm", "start", "web", "--wait").code == 0


# --- on a terminal ------------------------------------------------------------------------------


def on_terminal(arguments: Sequence[str], act: Callable[[int, str], None]) -> tuple[int, str]:
    """Run a command on a terminal of its own; `act` gets its file and all output so far."""
    terminal, inside = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "70", "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(
        [*BLIXARD, *arguments], stdin=inside, stdout=inside, stderr=inside, env=environment
    )
    os.close(inside)
    output = ""
    try:
        while True:
            try:
                chunk = os.read(terminal, 65536)
            except OSError:  # Linux reports the end of a terminal's other side as EIO
                break
            output += chunk.decode()
            act(terminal, output)
    finally:
        os.close(terminal)
    return process.wait(timeout=10), output


def test_a_terminal_is_redrawn_and_left_clean(node: FakeNode) -> None:
    node.vms = {"web": a_vm("web", "stopped")}
    phases = (a_vm("web", "pending"), building("copying glibc"), a_vm("web", "starting"))
    node.script["GetVmStatus"] = turns(node, "web", *phases, a_vm("web"))
    arguments = ["vm", "start", "web", "--wait", "--address", node.socket]
    code, output = on_terminal(arguments, lambda _, __: None)
    assert code == 0
    frames = output.replace("\r", "").split("\033[J")
    assert [re.findall(r"[a-z]+ing", frame)[:1] for frame in frames] == [
        ["pending"],
        ["pending"],
        ["pending"],
        ["running"],
    ]
    assert re.search(
        r"\n⠙ building  node-1: copying glibc +0\.\ds\n· starting\n· running\n", frames[1]
    )
    assert "✓ building " in frames[2]
    assert "Ctrl-C stops watching, not the VM. Gives up in 9m 59s.\n" in frames[2]
    assert re.fullmatch(r"web is running on node-1 \(\S+s\)\n", frames[3])
    for frame in frames:
        assert all(len(line) < 70 for line in frame.splitlines())


def test_a_question_waits_for_its_answer(node: FakeNode) -> None:
    node.vms = {"web": a_vm("web")}
    arguments = ["vm", "delete", "web", "--address", node.socket]

    def answer(word: str) -> Callable[[int, str], None]:
        asked: list[int] = []

        def act(terminal: int, output: str) -> None:
            if "[y/N]" in output and not asked:
                asked.append(os.write(terminal, word.encode()))

        return act

    code, output = on_terminal(arguments, answer("\n"))
    assert code == 3
    assert "error[BLX-3050]" in output
    assert "nothing was changed" in output
    assert "web" in node.vms
    code, output = on_terminal(arguments, answer("y\n"))
    assert code == 0
    assert "web" not in node.vms


# --- Ctrl-C and closed pipes --------------------------------------------------------------------


def until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ctrl_c_leaves_the_work_alone_and_says_so(node: FakeNode) -> None:
    node.vms = {"web": a_vm("web", "stopped")}
    process = spawn("vm", "start", "web", "--wait", "--address", node.socket)
    until(lambda: len(node.called("GetVmStatus")) > 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert out == ""
    assert err.endswith("stopped watching; the work goes on (blixard vm status web)\n")
    assert "Traceback" not in err


def test_ctrl_c_before_the_answer_leaves_the_outcome_open(node: FakeNode) -> None:
    node.vms = {"web": a_vm("web")}
    node.script["StopVm"] = [node.hang]
    process = spawn("vm", "stop", "web", "--address", node.socket)
    until(lambda: node.called("StopVm"))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert err == "\ninterrupted; see what became of it: blixard vm status web\n"


def test_a_closed_pipe_is_silent(node: FakeNode) -> None:
    node.vms = {f"vm-{number}": a_vm(f"vm-{number}") for number in range(2000)}
    process = spawn("vm", "list", "-q", "--address", node.socket)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=10), err) == (141, "")
