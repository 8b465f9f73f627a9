"""`blixard node drain` and `resume`: watched until nothing moves any more."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from blixard.cli.cluster_view import named
from blixard.cli.connect import CHANGE_MS, connected
from blixard.cli.failure import Failure, failure
from blixard.cli.output import Column, emit, emit_json, emit_table
from blixard.cli.terminal import Options
from blixard.cli.units import count, span
from blixard.cli.vm_view import first_line
from blixard.errors import Code
from blixard.model import Fix, Rejected

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb
    from blixard.wire.client import Client

POLL_S: Final = 0.5
_COLUMNS: Final = (
    Column("VM"),
    Column("STATE"),
    Column("TO"),
    Column("WHY", priority=1, cuttable=True),
)
_UNDER_WAY: Final = ("pending", "building", "starting", "stopping", "running")


def plan(name: str, options: Options) -> None:
    """Where the VMs of a node would go; nothing is changed. Ends with 3 if one has to stay."""
    with connected(options) as client:
        node = named(name, client.cluster_status().nodes, "blixard node drain")
        planned = _plan(client, node.node_id)
    if options.output == "json":
        emit_json("drain_plan", {"node": name, "items": [_step_json(s) for s in planned.steps]})
    else:
        rows = [[s.vm, s.state, s.to or "-", first_line(s.why)] for s in planned.steps]
        emit_table(_COLUMNS, rows, options, {})
    stays = [step for step in planned.steps if not step.to]
    if stays:
        raise _unfinished(name, stays, would=True)
    options.talk(f"{count(len(planned.steps), 'VM')} would move away; nothing was changed")


def drain(
    name: str, reason: str, deadline_ms: int, detach: bool, until_restart: bool, options: Options
) -> None:
    """Drain a node and watch it. Raises `Failure` if VMs have to stay, or when time is over."""
    from blixard.v1 import blixard_pb2 as pb
    from blixard.wire.calls import DRAIN_NODE

    with connected(options, CHANGE_MS) as client:
        node = named(name, client.cluster_status().nodes, "blixard node drain")
        request = pb.DrainNodeRequest(
            node_id=node.node_id, reason=reason, until_restart=until_restart
        )
        answer = client.change(DRAIN_NODE, request)
        options.talk(answer.note or f"{name} takes no new VMs")
        if not detach:
            options.after_interrupt = (
                f"stopped watching; the drain goes on (blixard node drain {name} to watch it, "
                f"blixard node resume {name} to call it off)"
            )
            _watch(client, node.node_id, name, deadline_ms, options)
    note = f"{name} is drained" if not detach else f"{name} is being drained"
    if options.output == "json":
        emit_json("node_drain", {"node": name, "index": answer.index, "note": note})
    else:
        emit(name if options.output == "name" else note)


def resume(name: str, options: Options) -> None:
    """Let a node take VMs again."""
    from blixard.v1 import blixard_pb2 as pb
    from blixard.wire.calls import RESUME_NODE

    with connected(options, CHANGE_MS) as client:
        node = named(name, client.cluster_status().nodes, "blixard node resume")
        answer = client.change(RESUME_NODE, pb.ResumeNodeRequest(node_id=node.node_id))
    note = answer.note or f"{name} takes VMs again"
    if options.output == "json":
        emit_json("node_resume", {"node": name, "index": answer.index, "note": note})
    else:
        emit(name if options.output == "name" else note)


def _watch(client: "Client", node_id: int, name: str, deadline_ms: int, options: Options) -> None:
    """Tell of each VM that leaves, until none is left that could."""
    began_s = time.monotonic()
    client.learn_members()
    told: dict[str, str] = {}
    while True:
        planned = _plan(client, node_id)
        if not planned.node.HasField("drain"):
            message = f"the drain of {name} was called off"
            raise failure(Code.WAIT_ENDED, message, fix="begin anew", command=_again(name))
        elsewhere = {vm.name: vm for vm in client.list_vms().vms if vm.name in told}
        _tell(planned, elsewhere, told, options)
        stays = [step for step in planned.steps if _is_stuck(step)]
        if not planned.steps and not any(_arrives(vm, node_id) for vm in elsewhere.values()):
            return
        if stays and len(stays) == len(planned.steps):
            raise _unfinished(name, stays)
        if (time.monotonic() - began_s) * 1000 > deadline_ms:
            raise failure(
                Code.WAIT_ENDED,
                f"{name} still holds {count(len(planned.steps), 'VM')} after {span(deadline_ms)}",
                why="the wait ended, the drain goes on",
                fix="watch it again",
                command=_again(name),
            )
        time.sleep(POLL_S)


def _tell(
    planned: "pb.PlanDrainResponse",
    elsewhere: "Mapping[str, pb.Vm]",
    told: dict[str, str],
    options: Options,
) -> None:
    """A line for each VM of which there is something new."""
    news = {step.vm: _in_words(step) for step in planned.steps}
    for name, vm in elsewhere.items():
        if name not in news:
            arrived = vm.state == "running"
            news[name] = first_line(vm.reason.text) if arrived else f"{vm.state} {vm.node}".strip()
    for name, text in sorted(news.items()):
        if told.get(name) != text:
            told[name] = text
            options.talk(f"  {name}: {text}")


def _in_words(step: "pb.DrainStep") -> str:
    if _is_stuck(step):
        return f"stays: {_blocker(step)}"
    if step.HasField("move"):
        return f"to {step.move.to}: {step.move.text}"
    return f"waits for its turn, to {step.to}"


def _is_stuck(step: "pb.DrainStep") -> bool:
    """Whether nothing but a person gets this VM off the node."""
    if step.state not in _UNDER_WAY or step.state == "stopping":
        return step.state == "unreachable"
    if step.HasField("move"):
        return step.move.state == "given-up"
    return not step.to


def _blocker(step: "pb.DrainStep") -> str:
    given_up = step.HasField("move") and step.move.state == "given-up"
    return step.move.text if given_up else first_line(step.why) or f"is {step.state}"


def _arrives(vm: "pb.Vm", node_id: int) -> bool:
    """Whether a VM that has left is on its way yet."""
    return vm.node_id != node_id and vm.wanted == "running" and vm.HasField("move")


def _unfinished(name: str, stays: "list[pb.DrainStep]", *, would: bool = False) -> Failure:
    stops = " ".join(step.vm for step in stays)
    fixes = (
        Fix("see every rule", f"blixard vm why {stays[0].vm}"),
        Fix("or stop what has to stay", f"blixard vm stop {stops}"),
        *(() if would else (Fix("or call the drain off", f"blixard node resume {name}"),)),
    )
    verb = "would stay" if would else "stays" if len(stays) == 1 else "stay"
    message = f"{count(len(stays), 'VM')} {verb} on {name}"
    rejected = Rejected(Code.NODE_HOLDS_VMS, message, fixes=fixes)
    return Failure(rejected, facts=[f"{step.vm}: {_blocker(step)}" for step in stays])


def _again(name: str) -> str:
    return f"blixard node drain {name}"


def _plan(client: "Client", node_id: int) -> "pb.PlanDrainResponse":
    from blixard.v1 import blixard_pb2 as pb
    from blixard.wire.calls import PLAN_DRAIN

    return client.ask(PLAN_DRAIN, pb.PlanDrainRequest(node_id=node_id))


def _step_json(step: "pb.DrainStep") -> Mapping[str, Any]:
    return {"vm": step.vm, "state": step.state, "to": step.to or None, "why": step.why}
