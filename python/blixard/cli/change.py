"""Changes of VMs: sent for every name, then waited for, each name with an outcome of its own."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from blixard.cli.connect import CHANGE_MS, connected, for_each
from blixard.cli.failure import Failure, failure
from blixard.cli.output import emit, emit_json
from blixard.cli.progress import wait_for
from blixard.cli.terminal import Options
from blixard.cli.vm_view import as_json
from blixard.errors import Code
from blixard.model import Fix

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb
    from blixard.wire.client import CallFailed, Client

Send = Callable[["Client", str], "pb.ChangeResponse"]


@dataclass(slots=True)
class Changed:
    """What became of one accepted change."""

    name: str
    note: str
    """In words, for a person."""
    index: int
    request_id: str
    vm: "pb.Vm | None"


def change(
    names: Sequence[str],
    send: Send,
    options: Options,
    *,
    goal: str,
    timeout_ms: int = CHANGE_MS,
) -> None:
    """Send a change for every name; with --wait, wait until each has reached its goal."""
    if options.request_id and len(names) > 1:
        message = "--request-id repeats the change of one VM"
        raise failure(Code.USAGE, message, fix="give a single name with it")
    accepted: list[Changed] = []
    done: list[Changed] = []

    def sent(name: str) -> None:
        accepted.append(_sent(client, send, name, names, options))

    def waited(name: str) -> None:
        told = next(changed for changed in accepted if changed.name == name)
        if options.wait:
            told = _waited(client, told, goal, options)
        done.append(told)
        if options.output != "json":
            emit(name if options.output == "name" else told.note)

    with connected(options, timeout_ms) as client:
        try:
            for_each(names, sent, client, options)
        finally:
            try:
                for_each([told.name for told in accepted], waited, client, options)
            finally:
                if options.output == "json" and done:
                    _emit_json(done, several=len(names) > 1)


def _sent(
    client: "Client", send: Send, name: str, names: Sequence[str], options: Options
) -> Changed:
    from blixard.wire.client import CallFailed

    options.after_interrupt = f"interrupted; see what became of it: blixard vm status {name}"
    try:
        response = send(client, name)
    except CallFailed as failed:
        if failed.rejected.code is not Code.OUTCOME_UNKNOWN:
            raise
        raise _to_be_repeated(failed, name, names) from failed
    vm = response.vm if response.HasField("vm") else None
    if vm is None:
        note = response.note or f"{name} is deleted"
    else:
        note = response.note or f"{name} accepted: {vm.state} ({vm.reason.text})"
    return Changed(name, note, response.index, client.request_id, vm)


def _to_be_repeated(failed: "CallFailed", name: str, names: Sequence[str]) -> Failure:
    """The user's own command once more, for this name only and under the same request id."""
    others = set(names) - {name}
    arguments = [argument for argument in sys.argv[1:] if argument not in others]
    if "--request-id" not in arguments:
        arguments += ["--request-id", failed.request_id]
    again = Fix("ask again; it never acts twice", f"blixard {shlex.join(arguments)}")
    rejected = replace(failed.rejected, fixes=(again, *failed.rejected.fixes))
    return Failure(rejected, facts=failed.facts, request_id=failed.request_id)


def _waited(client: "Client", told: Changed, goal: str, options: Options) -> Changed:
    if told.vm is None or told.vm.state == goal:
        return told
    options.after_interrupt = f"stopped watching; the work goes on (blixard vm status {told.name})"
    vm, note = wait_for(client, told.vm, goal, options)
    return replace(told, vm=vm, note=note)


def changed_json(
    name: str, note: str, index: int, request_id: str, vm: "pb.Vm | None"
) -> Mapping[str, Any]:
    """What became of a change, as an object without its schema."""
    return {
        "name": name,
        "index": index,
        "note": note,
        "request_id": request_id or None,
        "vm": as_json(vm) if vm is not None else None,
    }


def _emit_json(done: Sequence[Changed], *, several: bool) -> None:
    items = [
        changed_json(told.name, told.note, told.index, told.request_id, told.vm) for told in done
    ]
    if several:
        emit_json("change_list", {"items": items})
    else:
        emit_json("change", items[0])
