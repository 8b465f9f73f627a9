"""VMs as the user sees them: a row, a page, an object."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from blixard.cli.output import Column, emit, emit_json, emit_table
from blixard.cli.terminal import Options, harmless
from blixard.cli.units import age, clock_time, count, memory, rfc3339, span

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb

STATE_COLORS: Final = {
    "running": "green",
    "stopped": "dim",
    "failed": "red",
    "failing": "red",
    "ok": "green",
    "unreachable": "red",
    "pending": "yellow",
    "building": "yellow",
    "starting": "yellow",
    "stopping": "yellow",
}

_COLUMNS: Final = (
    Column("NAME"),
    Column("STATE"),
    Column("NODE"),
    Column("CPU", priority=2, right=True),
    Column("MEMORY", priority=3, right=True),
    Column("SINCE", priority=4, right=True),
    Column("NOTE", priority=1, cuttable=True),
)
_HEALTH: Final = Column("HEALTH", priority=3)
_WIDE_COLUMNS: Final = (
    *_COLUMNS[:-1],
    Column("WANTED", priority=2),
    Column("EPOCH", priority=1, right=True),
    Column("FAILOVER", priority=1),
    Column("STANDBY", priority=1),
    Column("RESTARTS", priority=1, right=True),
    Column("SOURCE", priority=1),
    _COLUMNS[-1],
)


NONE_YET: Final = "no VMs; create one: blixard vm create --help"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def show_list(vms: Sequence["pb.Vm"], as_of: "pb.AsOf", options: Options) -> None:
    """`vm list` in the form the user chose."""
    match options.output:
        case "json":
            items = [as_json(vm) for vm in vms]
            emit_json("vm_list", {"items": items, "as_of": as_of_json(as_of)})
        case "name":
            for vm in vms:
                emit(vm.name)
        case _:
            show_table(vms, options)


def show_table(vms: Sequence["pb.Vm"], options: Options) -> None:
    """A line for each VM."""
    wide = options.output == "wide"
    rows = [_row(vm, now_ms(), wide=wide) for vm in vms]
    columns = _WIDE_COLUMNS if wide else _COLUMNS
    if any(vm.HasField("health") for vm in vms):
        # Where no guest is checked, the column would say nothing.
        columns = (*columns[:3], _HEALTH, *columns[3:])
        rows = [
            [*row[:3], vm.health.state or "-", *row[3:]] for vm, row in zip(vms, rows, strict=True)
        ]
    emit_table(columns, rows, options, STATE_COLORS)


def show_status_json(seen: Sequence["pb.GetVmStatusResponse"], *, several: bool) -> None:
    """`vm status -o json`: the VM itself, or a list if several were asked for."""
    as_of = as_of_json(seen[-1].as_of)
    if several:
        emit_json("vm_list", {"items": [as_json(one.vm) for one in seen], "as_of": as_of})
    else:
        emit_json("vm", {**as_json(seen[0].vm), "as_of": as_of})


def summary(vms: Sequence["pb.Vm"], as_of: "pb.AsOf") -> str:
    """`4 VMs: 2 running, 1 starting, 1 pending`."""
    states = Counter(vm.state for vm in vms)
    parts = [f"{number} {state}" for state, number in states.most_common()]
    stale = "" if as_of.linearizable else f" (stale: {as_of.node} at index {as_of.index})"
    return f"{count(len(vms), 'VM')}: {', '.join(parts)}{stale}"


def _row(vm: "pb.Vm", now: int, *, wide: bool) -> list[str]:
    since = age(vm.since_ms, now)
    row = [vm.name, vm.state, vm.node or "-", str(vm.vcpus), memory(vm.memory_mib), since]
    if wide:
        failover, standby = vm.policy.failover or "-", _standby(vm) or "-"
        row += [vm.wanted, str(vm.epoch or "-"), failover, standby, str(vm.restarts)]
        row.append(source_text(vm.source))
    return [*row, note(vm)]


def note(vm: "pb.Vm") -> str:
    """What a person should know about it at a glance."""
    if vm.remark:
        return first_line(vm.remark)
    if vm.HasField("move"):
        given_up = vm.move.state == "given-up"
        return first_line(f"did not move: {vm.move.text}" if given_up else vm.move.text)
    if vm.state == "running" and vm.tied_to:
        return f"tied to {vm.tied_to}: {first_line(vm.tie)}"
    return first_line(vm.reason.text)


def _standby(vm: "pb.Vm") -> str:
    return f"{vm.standby}, {vm.standby_readiness}" if vm.standby else ""


def policy_text(vm: "pb.Vm") -> str:
    """A VM's policy in one line."""
    policy = vm.policy
    return (
        f"failover {policy.failover}, on quorum loss {policy.on_quorum_loss}, "
        f"at most {count(policy.restart_limit, 'restart')} in a row"
    )


def _failover(vm: "pb.Vm") -> str:
    """Whether another host would start it, and if not, why."""
    if vm.keeps:
        confirm = f"blixard node confirm-down {vm.node}"
        why = f"goes on without {vm.node}, so elsewhere only after: {confirm}"
    elif vm.tied_to:
        why = f"tied to {vm.tied_to}: {vm.tie}"
    else:
        why = f"no, {vm.tie}" if vm.tie else "may run on any node"
    return f"{vm.policy.failover}; {why}" if vm.policy.failover else ""


def _on_quorum_loss(vm: "pb.Vm") -> str:
    wanted = vm.policy.on_quorum_loss
    if vm.node and wanted and (wanted == "keep") != vm.keeps:
        return f"{wanted} from the next start on; until then {'keep' if vm.keeps else 'stop'}"
    return wanted


def _disk(vm: "pb.Vm") -> str:
    return f", {memory(vm.disk_mib)} of disk" if vm.disk_mib else ""


def check_text(policy: "pb.Policy") -> str:
    """How a guest is checked, in one line."""
    check = policy.check
    if not check.kind:
        return ""
    what = check.target if check.kind == "http" else f"{check.kind}:{check.target}"
    return harmless(
        f"{what} every {span(check.interval_ms)}, failing after {check.failures} in a row: "
        f"{check.on_failure}"
    )


def _health(vm: "pb.Vm", now: int) -> str:
    if not vm.HasField("health"):
        return ""
    since = span(now - vm.health.since_ms)
    return f"{vm.health.state} for {since}: {first_line(vm.health.text)}"


def _move(vm: "pb.Vm") -> str:
    if not vm.HasField("move"):
        return ""
    return harmless(f"to {vm.move.to}, {vm.move.state}: {vm.move.text}; asked by {vm.move.by}")


def rules_text(policy: "pb.Policy") -> str:
    """Where a VM may run, in one line."""
    terms = [f"{name} {', '.join(items)}" for name, items in rules(policy).items() if items]
    group = [f"group {policy.group}"] if policy.group else []
    priority = [f"priority {policy.priority}"] if policy.priority else []
    return "; ".join([*group, *terms, *priority, policy.strategy]).rstrip("; ")


def rules(policy: "pb.Policy") -> Mapping[str, Sequence[str]]:
    """The terms of each kind."""
    return {
        "require": policy.require.items,
        "prefer": policy.prefer.items,
        "near": policy.near.items,
        "prefer-near": policy.prefer_near.items,
        "apart": policy.apart.items,
        "prefer-apart": policy.prefer_apart.items,
    }


def _declared(vm: "pb.Vm") -> str:
    if not vm.HasField("declared"):
        return ""
    said = f"by {vm.declared.node}, generation {vm.declared.generation}"
    return f"{said}; in force once it is restarted" if vm.declared.needs_restart else said


def first_line(text: str) -> str:
    """The headline of a reason; what follows it is a log."""
    return harmless(text.partition("\n")[0])


def show_page(vm: "pb.Vm", as_of: "pb.AsOf") -> None:
    """`vm status`: everything about one VM."""
    for line in page(vm, as_of, now_ms()):
        emit(line)


def page(vm: "pb.Vm", as_of: "pb.AsOf", now: int) -> list[str]:
    """The lines of `vm status`; `now` in milliseconds since 1970."""
    where = f" on {vm.node}" if vm.node else ""
    since = f"{clock_time(vm.since_ms, now)} ({span(now - vm.since_ms)})"
    reason, *log = harmless(vm.reason.text).split("\n")
    mode = f", mode {vm.mode}" if vm.mode else ""
    placed = f"{vm.node}, epoch {vm.epoch}{mode}" if vm.node else "on no node"
    facts = [
        ("Since", f"{since}, wanted: {vm.wanted}"),
        ("Reason", reason),
        *(("", f"| {line}") for line in log),
        ("Remark", vm.remark),
        ("Placed", placed),
        ("Because", first_line(vm.decision)),
        ("Move", _move(vm)),
        ("Size", f"{count(vm.vcpus, 'vCPU')}, {memory(vm.memory_mib)}{_disk(vm)}"),
        ("Rules", rules_text(vm.policy)),
        ("Check", check_text(vm.policy)),
        ("Health", _health(vm, now)),
        ("Source", source_text(vm.source)),
        ("Locked", vm.source.flake.nar_hash),
        ("Store", vm.store_path),
        ("Failover", _failover(vm)),
        ("Standby", _standby(vm)),
        ("Cut off", _on_quorum_loss(vm)),
        ("Restarts", f"{vm.restarts} of {vm.policy.restart_limit} in a row"),
        ("Declared", _declared(vm)),
        ("Created", clock_time(vm.created_ms, now)),
        ("As of", f"index {as_of.index}, {as_of.node}{'' if as_of.linearizable else ', stale'}"),
    ]
    told = [f"  {title:8}  {text}" for title, text in facts if text]
    return [f"{vm.name}: {vm.state}{where}", *told]


def source_text(source: "pb.Source") -> str:
    """Where a VM comes from, in one line."""
    match source.WhichOneof("kind"):
        case "flake":
            return f"{source.flake.url}#{source.flake.attribute}"
        case "packed":
            return f"packed {source.packed.digest[:12]}#{source.packed.attribute}"
        case _:
            return source.store.path


def as_json(vm: "pb.Vm") -> Mapping[str, Any]:
    """A VM without its schema; what is not known is null."""
    kind = vm.source.WhichOneof("kind")
    is_flake, is_packed = kind == "flake", kind == "packed"
    return {
        "name": vm.name,
        "uid": vm.uid,
        "wanted": vm.wanted,
        "state": vm.state,
        "reason": {"code": vm.reason.code, "text": vm.reason.text},
        "node": vm.node or None,
        "epoch": vm.epoch or None,
        "since": rfc3339(vm.since_ms),
        "vcpus": vm.vcpus,
        "memory_mib": vm.memory_mib,
        "source": {
            "kind": kind,
            "ref": source_text(vm.source) if is_flake else None,
            "nar_hash": (vm.source.flake.nar_hash or None) if is_flake else None,
            "digest": vm.source.packed.digest if is_packed else None,
            "store_path": vm.store_path or vm.source.store.path or None,
        },
        "on_quorum_loss": vm.policy.on_quorum_loss or None,
        "keeps": vm.keeps,
        "failover": vm.policy.failover or None,
        "tied_to": vm.tied_to or None,
        "tie": vm.tie or None,
        "standby": {"node": vm.standby, "readiness": vm.standby_readiness} if vm.standby else None,
        "restarts": vm.restarts,
        "restart_limit": vm.policy.restart_limit if vm.policy.failover else None,
        "mode": vm.mode or None,
        "disk_mib": vm.disk_mib,
        "group": vm.policy.group or None,
        "priority": vm.policy.priority,
        "strategy": vm.policy.strategy or None,
        **{name.replace("-", "_"): list(items) for name, items in rules(vm.policy).items()},
        "check": _check_json(vm.policy),
        "health": _health_json(vm),
        "decision": vm.decision or None,
        "move": _move_json(vm),
        "declared": _declaration_json(vm),
        "remark": vm.remark or None,
        "created_at": rfc3339(vm.created_ms),
    }


def _check_json(policy: "pb.Policy") -> Mapping[str, Any] | None:
    check = policy.check
    if not check.kind:
        return None
    return {
        "kind": check.kind,
        "target": check.target,
        "interval_ms": check.interval_ms,
        "timeout_ms": check.timeout_ms,
        "failures": check.failures,
        "start_period_ms": check.start_period_ms,
        "on_failure": check.on_failure,
    }


def _health_json(vm: "pb.Vm") -> Mapping[str, Any] | None:
    if not vm.HasField("health"):
        return None
    health = vm.health
    return {"state": health.state, "text": health.text, "since": rfc3339(health.since_ms)}


def _move_json(vm: "pb.Vm") -> Mapping[str, Any] | None:
    if not vm.HasField("move"):
        return None
    move = vm.move
    since = rfc3339(move.since_ms)
    return {"to": move.to, "state": move.state, "text": move.text, "by": move.by, "since": since}


def _declaration_json(vm: "pb.Vm") -> Mapping[str, Any] | None:
    declared = vm.declared
    if not vm.HasField("declared"):
        return None
    return {
        "node": declared.node,
        "generation": declared.generation,
        "digest": declared.digest,
        "needs_restart": declared.needs_restart,
    }


def as_of_json(as_of: "pb.AsOf") -> Mapping[str, Any]:
    """What an answer is based on."""
    return {
        "index": as_of.index,
        "term": as_of.term,
        "node": as_of.node or None,
        "linearizable": as_of.linearizable,
    }
