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
_WIDE_COLUMNS: Final = (
    *_COLUMNS[:-1],
    Column("WANTED", priority=2),
    Column("EPOCH", priority=1, right=True),
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
            wide = options.output == "wide"
            rows = [_row(vm, now_ms(), wide=wide) for vm in vms]
            emit_table(_WIDE_COLUMNS if wide else _COLUMNS, rows, options, STATE_COLORS)


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
        row += [vm.wanted, str(vm.epoch or "-"), source_text(vm.source)]
    return [*row, first_line(vm.reason.text)]


def first_line(text: str) -> str:
    """The headline of a reason; what follows it is a log."""
    return harmless(text.partition("\n")[0])


def show_page(vm: "pb.Vm", as_of: "pb.AsOf") -> None:
    """`vm status`: everything about one VM."""
    now = now_ms()
    where = f" on {vm.node}" if vm.node else ""
    emit(f"{vm.name}: {vm.state}{where}")
    since = f"{clock_time(vm.since_ms, now)} ({span(now - vm.since_ms)})"
    reason, *log = harmless(vm.reason.text).split("\n")
    facts = [
        ("Since", f"{since}, wanted: {vm.wanted}"),
        ("Reason", reason),
        *(("", f"| {line}") for line in log),
        ("Placed", f"{vm.node}, epoch {vm.epoch}" if vm.node else "on no node"),
        ("Size", f"{count(vm.vcpus, 'vCPU')}, {memory(vm.memory_mib)}"),
        ("Source", source_text(vm.source)),
        ("Locked", vm.source.flake.nar_hash),
        ("Store", vm.store_path),
        ("Created", clock_time(vm.created_ms, now)),
        ("As of", f"index {as_of.index}, {as_of.node}{'' if as_of.linearizable else ', stale'}"),
    ]
    for title, text in facts:
        if text:
            emit(f"  {title:8}  {text}")


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
        "created_at": rfc3339(vm.created_ms),
    }


def as_of_json(as_of: "pb.AsOf") -> Mapping[str, Any]:
    """What an answer is based on."""
    return {
        "index": as_of.index,
        "term": as_of.term,
        "node": as_of.node or None,
        "linearizable": as_of.linearizable,
    }
