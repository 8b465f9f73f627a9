"""What became of a VM, in words."""

from collections.abc import Iterator
from typing import Final

from blixard.machine.words import Words
from blixard.model import HealthState, Holder, Readiness, State, Vm

_CODES: Final = {
    State.PENDING: "vm-pending",
    State.BUILDING: "vm-building",
    State.STARTING: "vm-starting",
    State.RUNNING: "vm-running",
    State.STOPPING: "vm-stopping",
    State.STOPPED: "vm-stopped",
    State.FAILED: "vm-failed",
    State.UNREACHABLE: "vm-unreachable",
}
_GRAVE: Final = frozenset({State.FAILED, State.UNREACHABLE})
_NO_ROOM: Final = "no-room"


def vm_words(old: Vm | None, new: Vm | None) -> Iterator[Words]:
    """The facts that became true of a VM from one state to the next."""
    if new is None:
        assert old is not None
        yield Words("vm", old.name, "vm-deleted", f"{old.name} is deleted", node=_name(old.holder))
    elif old is None:
        text = f"{new.name} is created: {new.spec.vcpus} vCPUs, {new.spec.memory_mib} MiB"
        yield _words(new, "vm-created", f"{text}; {new.reason.text}")
        if new.declared is not None:
            yield _declared(new)
    elif old.uid != new.uid:
        yield from vm_words(old, None)
        yield from vm_words(None, new)
    else:
        yield from _orders(old, new)
        yield from _state(old, new)
        yield from _move(old, new)
        yield from _standby(old, new)
        yield from _health(old, new)


def _orders(old: Vm, new: Vm) -> Iterator[Words]:
    """What somebody wants of it from now on."""
    if old.policy != new.policy:
        fields = type(new.policy).__dataclass_fields__
        parts = [one for one in fields if getattr(old.policy, one) != getattr(new.policy, one)]
        names = ", ".join(part.replace("_", "-") for part in parts)
        yield _words(new, "vm-policy-changed", f"{new.name} has another policy: {names}")
    if old.declared != new.declared:
        if new.declared is None:
            yield _words(new, "vm-disowned", f"{new.name} is declared by no node any more")
        else:
            yield _declared(new)
    if old.wanted is not new.wanted and old.state is new.state:
        yield _words(new, "vm-wanted", f"{new.name} shall be {new.wanted.value}")


def _declared(vm: Vm) -> Words:
    assert vm.declared is not None
    owner = f"node-{vm.declared.node_id}"
    text = f"{vm.name} is declared by the configuration of {owner}"
    return Words("vm", vm.name, "vm-declared", text, node=owner)


def _state(old: Vm, new: Vm) -> Iterator[Words]:
    if old.state is new.state and old.holder == new.holder:
        if new.state is State.PENDING and _waits_anew(old, new):
            yield _words(new, "vm-waits", f"{new.name} waits: {new.reason.text}")
        return
    holder = _name(new.holder)
    place = f" on {holder}" if holder else ""
    code, grave = _code(old, new), new.state in _GRAVE
    text = f"{new.name} is {new.state.value}{place}: {new.reason.text}"
    if code == "vm-placed" and new.decision:
        why = new.decision.partition("\n")[0].removeprefix(f"{holder}: ")
        text = f"{new.name} is placed{place}: {why}"
    yield Words("vm", new.name, code, text, node=holder or _name(old.holder), grave=grave)


def _code(old: Vm, new: Vm) -> str:
    if new.state is State.PENDING and old.holder is not None:
        # Nobody ordered it: it ended by itself, or its host is lost.
        if new.failures > old.failures:
            return "vm-restarts"
        if old.release is None:
            return "vm-lost"
    if new.state is State.STARTING and old.holder is None:
        return "vm-placed"
    return _CODES[new.state]


def _waits_anew(old: Vm, new: Vm) -> bool:
    """Once is enough: why exactly each node has no room changes all the time."""
    return new.reason.code == _NO_ROOM != old.reason.code


def _move(old: Vm, new: Vm) -> Iterator[Words]:
    before, now = old.move, new.move
    if before == now:
        return
    if now is None:
        assert before is not None
        to = f"node-{before.to}"
        if new.state is State.RUNNING and _name(new.holder) == to:
            text = f"{new.name} has moved to {to}, asked by {before.by}"
            yield Words("vm", new.name, "vm-moved", text, node=to)
        elif not before.failed:
            text = f"{new.name} moves to {to} no more"
            yield Words("vm", new.name, "vm-move-ended", text, node=to)
    elif now.failed:
        text = f"{new.name} does not move to node-{now.to}: {now.failed}"
        yield Words("vm", new.name, "vm-move-failed", text, node=f"node-{now.to}", grave=True)
    elif before is None or (before.to, before.since_ms) != (now.to, now.since_ms):
        text = f"{new.name} is to move to node-{now.to}, asked by {now.by}"
        yield Words("vm", new.name, "vm-move-begun", text, node=f"node-{now.to}")


def _standby(old: Vm, new: Vm) -> Iterator[Words]:
    before, now = old.standby, new.standby
    if before == now or now is None:
        return
    node = f"node-{now.node_id}"
    if before is None or before.node_id != now.node_id:
        yield Words("vm", new.name, "vm-standby", f"{node} builds {new.name} ahead", node=node)
    if now.readiness is Readiness.BUILT:
        text = f"{node} has built {new.name}, and could start it at once"
        yield Words("vm", new.name, "vm-standby-built", text, node=node)
    elif now.readiness is Readiness.FAILED:
        text = f"{new.name} does not build on its standby, {node}"
        yield Words("vm", new.name, "vm-standby-failed", text, node=node, grave=True)


def _health(old: Vm, new: Vm) -> Iterator[Words]:
    before = old.health.state if old.health is not None else None
    if new.health is None or new.health.state is before:
        return
    said = f": {new.health.text}" if new.health.text else ""
    match new.health.state:
        case HealthState.OK:
            yield _words(new, "vm-healthy", f"{new.name} passes its check{said}")
        case HealthState.FAILING:
            yield _words(new, "vm-unhealthy", f"{new.name} fails its check{said}", grave=True)


def _words(vm: Vm, code: str, text: str, *, grave: bool = False) -> Words:
    return Words("vm", vm.name, code, text, node=_name(vm.holder), grave=grave)


def _name(holder: Holder | None) -> str:
    return f"node-{holder.node_id}" if holder is not None else ""
