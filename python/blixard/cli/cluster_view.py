"""The cluster as the user sees it."""

from collections import Counter
from typing import TYPE_CHECKING, Final

from blixard.cli.output import Column, emit, emit_json, emit_table
from blixard.cli.terminal import Options
from blixard.cli.units import count, gib, span
from blixard.cli.vm_view import as_of_json

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb

_COLUMNS: Final = (
    Column("NAME"),
    Column("STATE"),
    Column("ROLE"),
    Column("VMS", priority=4, right=True),
    Column("CPU", priority=3, right=True),
    Column("MEMORY", priority=3, right=True),
    Column("HEARD", priority=1, right=True),
    Column("ADDRESS", priority=2),
    Column("VERSION", priority=1),
)
_COLORS: Final = {"ready": "green", "joining": "yellow", "leaving": "yellow", "silent": "red"}


def show_page(seen: "pb.GetClusterStatusResponse", options: Options) -> None:
    """A headline, the facts, and a table of the nodes."""
    ready = [node for node in seen.nodes if node.state == "ready"]
    members = [node for node in seen.nodes if node.role]
    spare = len([node for node in members if node.state == "ready"]) - seen.quorum
    nodes = f"{len(ready)} of {count(len(seen.nodes), 'node')} ready, {seen.quorum} needed"
    emit(f"cluster {seen.cluster_id}: {_health(seen)}; {nodes}; {_margin(spare)}")
    leader = f"node-{seen.leader_id}" if seen.leader_id else "none known"
    states = [f"{number} {state}" for state, number in sorted(seen.vms.items())]
    vms = f"{sum(seen.vms.values())}" + (f": {', '.join(states)}" if states else "")
    free_mib = sum(node.memory_mib - node.memory_reserved_mib for node in ready)
    free_vcpus = sum(node.vcpus - node.vcpus_reserved for node in ready)
    all_mib, all_vcpus = sum(n.memory_mib for n in ready), sum(n.vcpus for n in ready)
    room = f"{gib(free_mib)} of {gib(all_mib)} GiB and {free_vcpus} of {all_vcpus} vCPUs"
    stale = "" if seen.as_of.linearizable else f" (stale: as {seen.as_of.node} knows it)"
    for title, text in (
        ("Leader", f"{leader}, term {seen.term}{stale}"),
        ("Log", f"index {seen.commit_index}"),
        ("VMs", vms),
        ("Room", f"{room} free on ready nodes"),
        ("Version", _versions(seen)),
    ):
        emit(f"  {title:8} {text}")
    emit_table(_COLUMNS, [_row(node) for node in seen.nodes], options, _COLORS)


def _health(seen: "pb.GetClusterStatusResponse") -> str:
    if not seen.leader_id:
        return "no leader"
    if not seen.as_of.linearizable:
        return "unknown"
    return "healthy" if all(node.state == "ready" for node in seen.nodes) else "degraded"


def _margin(spare: int) -> str:
    return f"can lose {spare}" if spare > 0 else "can lose none"


def _versions(seen: "pb.GetClusterStatusResponse") -> str:
    versions = Counter(node.version or "unknown" for node in seen.nodes)
    if len(versions) == 1:
        return f"{next(iter(versions))} on all nodes"
    return ", ".join(f"{version} on {number}" for version, number in sorted(versions.items()))


def _row(node: "pb.Node") -> list[str]:
    return [
        node.name,
        node.state,
        node.role or "-",
        str(node.vms),
        f"{node.vcpus_reserved}/{node.vcpus}",
        f"{gib(node.memory_reserved_mib)}/{gib(node.memory_mib)} GiB",
        "-" if node.heard_ms < 0 else span(node.heard_ms),
        node.address,
        node.version or "-",
    ]


def show_json(seen: "pb.GetClusterStatusResponse") -> None:
    """One object of the schema `blixard.v1/cluster`."""
    emit_json(
        "cluster",
        {
            "cluster_id": seen.cluster_id,
            "health": _health(seen),
            "leader_id": seen.leader_id or None,
            "term": seen.term,
            "commit_index": seen.commit_index,
            "quorum": seen.quorum,
            "nodes": [
                {
                    "id": node.node_id,
                    "name": node.name,
                    "address": node.address,
                    "state": node.state,
                    "role": node.role or None,
                    "vcpus": node.vcpus,
                    "vcpus_reserved": node.vcpus_reserved,
                    "memory_mib": node.memory_mib,
                    "memory_reserved_mib": node.memory_reserved_mib,
                    "vms": node.vms,
                    "version": node.version or None,
                    "incarnation": node.incarnation or None,
                    "heard_ms": node.heard_ms if node.heard_ms >= 0 else None,
                }
                for node in seen.nodes
            ],
            "vms": [{"state": state, "count": seen.vms[state]} for state in sorted(seen.vms)],
            "as_of": as_of_json(seen.as_of),
        },
    )
