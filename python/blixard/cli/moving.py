"""`blixard vm move`, and what `node drain` shows of moves."""

import time
from typing import TYPE_CHECKING

from blixard.cli.change import changed_json
from blixard.cli.connect import CHANGE_MS, connected
from blixard.cli.failure import failure
from blixard.cli.output import emit, emit_json
from blixard.cli.terminal import Options
from blixard.cli.units import span
from blixard.cli.vm_view import first_line
from blixard.errors import Code

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb
    from blixard.wire.client import Client

POLL_S = 0.25


def move(name: str, to: str, grace_ms: int | None, kill: bool, options: Options) -> None:
    """Ask for a move; with --wait, follow it to its end. Raises `Failure`."""
    from blixard.v1 import blixard_pb2 as pb
    from blixard.wire.calls import MOVE_VM

    with connected(options, CHANGE_MS) as client:
        options.after_interrupt = f"interrupted; see what became of it: blixard vm status {name}"
        request = pb.MoveVmRequest(name=name, to=to, grace_ms=grace_ms, kill=kill)
        answer = client.change(MOVE_VM, request)
        vm, note = answer.vm, answer.note
        if not note:
            note = f"{name} moves from {vm.node} to {vm.move.to}"
        if options.wait and vm.HasField("move"):
            vm, note = _followed(client, vm, options)
        if options.output == "json":
            emit_json("change", changed_json(name, note, answer.index, client.request_id, vm))
        else:
            emit(name if options.output == "name" else note)


def _followed(client: "Client", vm: "pb.Vm", options: Options) -> tuple["pb.Vm", str]:
    """Wait until a VM has arrived, and say how long it took."""
    began_s = time.monotonic()
    came_from, to = vm.node, vm.move.to
    options.after_interrupt = f"stopped watching; the move goes on (blixard vm status {vm.name})"
    client.learn_members()
    told = ""
    while True:
        now = client.vm_status(vm.name).vm
        elapsed_ms = round((time.monotonic() - began_s) * 1000)
        if now.uid != vm.uid or now.wanted != "running" or now.state == "failed":
            raise _lost_sight(now, to)
        if now.HasField("move") and now.move.state == "given-up":
            raise _given_up(now, came_from)
        if now.state == "running" and not now.HasField("move"):
            if now.node != to:
                raise _elsewhere(now, to, vm.epoch)
            return now, f"{now.name} {first_line(now.reason.text)} ({span(elapsed_ms)} in all)"
        if elapsed_ms > options.wait_timeout_ms:
            raise failure(
                Code.WAIT_ENDED,
                f"{vm.name} is not on {to} after {span(options.wait_timeout_ms)}",
                why=f"{progress(now)}; the wait ended, the move goes on",
                fix="see how it goes",
                command=f"blixard vm status {vm.name}",
            )
        if progress(now) != told:
            told = progress(now)
            options.talk(told)
        time.sleep(POLL_S)


def progress(vm: "pb.Vm") -> str:
    """How far a VM on its way has come, in one line."""
    if vm.move.state == "preparing" or vm.state == "running":
        return f"{vm.name} {vm.state} on {vm.node}; {vm.move.text}"
    where = f" on {vm.node}" if vm.node else ""
    return f"{vm.name} {vm.state}{where}: {first_line(vm.reason.text)}"


def _given_up(vm: "pb.Vm", came_from: str) -> Exception:
    return failure(
        Code.RULE_REFUSES,
        f"{vm.name} did not move: {vm.move.text}",
        why=f"it still runs on {came_from}",
        fix="see every node",
        command=f"blixard vm why {vm.name}",
    )


def _elsewhere(vm: "pb.Vm", to: str, epoch: int) -> Exception:
    """`epoch` is of the placement that was to end."""
    return failure(
        Code.WAIT_ENDED,
        f"{vm.name} runs on {vm.node}, not on {to}",
        why="the move was called off" if vm.epoch == epoch else first_line(vm.decision),
        fix="see every node",
        command=f"blixard vm why {vm.name}",
    )


def _lost_sight(vm: "pb.Vm", to: str) -> Exception:
    return failure(
        Code.WAIT_ENDED,
        f"{vm.name} does not come to run on {to}: it is {vm.state}, wanted {vm.wanted}",
        why=first_line(vm.reason.text),
        fix="look at it",
        command=f"blixard vm status {vm.name}",
    )
