"""The cluster as the user sees it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from blixard.cli.failure import Failure
from blixard.cli.lazy import nearest
from blixard.cli.output import Column, emit, emit_json, emit_table
from blixard.cli.terminal import Options, harmless
from blixard.cli.units import count, gib, rfc3339, span
from blixard.cli.vm_view import as_json, as_of_json, show_table
from blixard.errors import Code
from blixard.model import Fix, Rejected

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb

NAMED: Final = 5
"""How many VMs a line names."""

_COLUMNS: Final = (
    Column("NAME"),
    Column("STATE"),
    Column("ROLE"),
    Column("VMS", priority=4, right=True),
    Column("CPU", priority=3, right=True),
    Column("MEMORY", priority=3, right=True),
    Column("MODE", priority=2),
    Column("LEASE", priority=4, right=True),
    Column("ADDRESS", priority=2),
    Column("VERSION", priority=1),
    Column("NOTE", priority=1, cuttable=True),
)
_COLORS: Final = {
    "up": "green",
    "draining": "yellow",
    "joining": "yellow",
    "leaving": "yellow",
    "down": "red",
}


def show_page(seen: "pb.GetClusterStatusResponse", options: Options) -> None:
    """A headline, the facts, and a table of the nodes."""
    well = [node for node in seen.nodes if is_well(node)]
    spare = len([node for node in seen.nodes if node.role and not node.silent]) - seen.quorum
    nodes = f"{len(well)} of {count(len(seen.nodes), 'node')} up, {seen.quorum} needed"
    emit(f"cluster {seen.cluster_id}: {health(seen)}; {nodes}; {_margin(spare)}")
    leader = f"node-{seen.leader_id}" if seen.leader_id else "none known"
    states = [f"{number} {state}" for state, number in sorted(seen.vms.items())]
    vms = f"{sum(seen.vms.values())}" + (f": {', '.join(states)}" if states else "")
    free_mib = sum(node.memory_mib - node.memory_reserved_mib for node in well)
    free_vcpus = sum(node.vcpus - node.vcpus_reserved for node in well)
    all_mib, all_vcpus = sum(n.memory_mib for n in well), sum(n.vcpus for n in well)
    room = f"{gib(free_mib)} of {gib(all_mib)} GiB and {free_vcpus} of {all_vcpus} vCPUs"
    stale = "" if seen.as_of.linearizable else f" (stale: as {seen.as_of.node} knows it)"
    for title, text in (
        ("Leader", f"{leader}, term {seen.term}{stale}"),
        ("Log", f"index {seen.commit_index}"),
        ("VMs", vms),
        ("Room", f"{room} free on nodes that are up"),
        ("Version", _versions(seen)),
    ):
        emit(f"  {title:8} {text}")
    _show_table(seen, options)
    _show_attention(seen)


def _show_attention(seen: "pb.GetClusterStatusResponse") -> None:
    """What the loss of one node would leave without a host."""
    if seen.exposed:
        emit("")
        emit("Attention")
    for one in seen.exposed:
        more = f" and {len(one.vms) - NAMED} more" if len(one.vms) > NAMED else ""
        emit(f"  if {one.node} is lost, no other node can run {', '.join(one.vms[:NAMED])}{more}")


def show_nodes(seen: "pb.GetClusterStatusResponse", options: Options) -> None:
    """`node list` in the form the user chose."""
    match options.output:
        case "json":
            items = [node_json(node) for node in seen.nodes]
            emit_json("node_list", {"items": items, "as_of": as_of_json(seen.as_of)})
        case "name":
            for node in seen.nodes:
                emit(node.name)
        case _:
            _show_table(seen, options)


def _show_table(seen: "pb.GetClusterStatusResponse", options: Options) -> None:
    emit_table(_COLUMNS, [_row(node) for node in seen.nodes], options, _COLORS)


def is_well(node: "pb.Node") -> bool:
    """Whether it is up, and the leader hears from it."""
    return node.state == "up" and not node.silent


def health(seen: "pb.GetClusterStatusResponse") -> str:
    """healthy, degraded, no leader, or unknown for an answer without the leader's word."""
    if not seen.leader_id:
        return "no leader"
    if not seen.as_of.linearizable:
        return "unknown"
    return "healthy" if all(is_well(node) for node in seen.nodes) else "degraded"


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
        node.mode or "-",
        lease_left(node),
        node.address,
        node.version or "-",
        note(node),
    ]


def lease_left(node: "pb.Node") -> str:
    """For how long it may run VMs without another renewal, as far as can be told from elsewhere."""
    if not node.HasField("renewed_ms_ago"):
        return "-"
    return span(max(0, node.lease_ms - node.renewed_ms_ago))


def note(node: "pb.Node") -> str:
    """What a person should know about it at a glance."""
    if not node.silent:
        return _drained(node)
    return "not heard" if node.heard_ms < 0 else f"not heard for {span(node.heard_ms)}"


def _drained(node: "pb.Node") -> str:
    if not node.HasField("drain"):
        return ""
    reason = f": {harmless(node.drain.reason)}" if node.drain.reason else ""
    until = " until it restarts" if node.drain.until_restart else ""
    return f"drained{until} by {harmless(node.drain.by)}{reason}"


def named(name: str, nodes: "Iterable[pb.Node]", verb: str) -> "pb.Node":
    """The node of that name. Raises `Failure`, which proposes `verb` with a name that is near."""
    known = {node.name: node for node in nodes}
    if name in known:
        return known[name]
    near = nearest(name, list(known))
    meant = (Fix(f'did you mean "{near}"?', f"{verb} {near}"),) if near else ()
    fixes = (*meant, Fix("all names", "blixard node list -o name"))
    raise Failure(Rejected(Code.NO_SUCH_NODE, f'no node named "{name}"', fixes=fixes))


def show_node(node: "pb.Node", held: "Sequence[pb.Vm]", options: Options) -> None:
    """`node status`: everything about one node, and a table of its VMs."""
    for line in node_page(node):
        emit(line)
    if held:
        emit("")
        show_table(held, options)


def node_page(node: "pb.Node") -> list[str]:
    """The lines of `node status` that are about the node itself."""
    labels = ", ".join(f"{key}={node.labels[key]}" for key in sorted(node.labels))
    facts = (
        ("Role", node.role),
        ("Address", node.address),
        ("Mode", node.mode),
        ("Lease", lease_left(node)),
        ("CPU", f"{node.vcpus_reserved} of {node.vcpus} vCPUs set aside"),
        ("Memory", f"{gib(node.memory_reserved_mib)} of {gib(node.memory_mib)} GiB set aside"),
        ("Disk", f"{gib(node.disk_reserved_mib)} of {gib(node.disk_mib)} GiB set aside"),
        ("Labels", labels),
        ("Version", node.version),
    )
    head = f"{node.name}: {node.state}{f', {note(node)}' if note(node) else ''}"
    return [head, *(f"  {title:8} {text}" for title, text in facts if text)]


def show_node_json(node: "pb.Node", held: "Sequence[pb.Vm]", as_of: "pb.AsOf") -> None:
    """One object of the schema `blixard.v1/node`."""
    vms = [as_json(vm) for vm in held]
    emit_json("node", {**node_json(node), "held": vms, "as_of": as_of_json(as_of)})


def show_json(seen: "pb.GetClusterStatusResponse") -> None:
    """One object of the schema `blixard.v1/cluster`."""
    emit_json("cluster", cluster_json(seen))


def cluster_json(seen: "pb.GetClusterStatusResponse") -> Mapping[str, Any]:
    """The cluster without its schema."""
    return {
        "cluster_id": seen.cluster_id,
        "health": health(seen),
        "leader_id": seen.leader_id or None,
        "term": seen.term,
        "commit_index": seen.commit_index,
        "quorum": seen.quorum,
        "nodes": [node_json(node) for node in seen.nodes],
        "vms": [{"state": state, "count": seen.vms[state]} for state in sorted(seen.vms)],
        "exposed": [{"node": one.node, "vms": list(one.vms)} for one in seen.exposed],
        "as_of": as_of_json(seen.as_of),
    }


def node_json(node: "pb.Node") -> Mapping[str, Any]:
    """A node without its schema; what is not known is null."""
    has_lease = node.HasField("renewed_ms_ago")
    return {
        "id": node.node_id,
        "name": node.name,
        "address": node.address,
        "state": node.state,
        "role": node.role or None,
        "mode": node.mode or None,
        "lease_ms": node.lease_ms or None,
        "renewed_ms_ago": node.renewed_ms_ago if has_lease else None,
        "vcpus": node.vcpus,
        "vcpus_reserved": node.vcpus_reserved,
        "memory_mib": node.memory_mib,
        "memory_reserved_mib": node.memory_reserved_mib,
        "vms": node.vms,
        "version": node.version or None,
        "incarnation": node.incarnation or None,
        "heard_ms": node.heard_ms if node.heard_ms >= 0 else None,
        "silent": node.silent,
        "labels": dict(sorted(node.labels.items())),
        "disk_mib": node.disk_mib,
        "disk_reserved_mib": node.disk_reserved_mib,
        "drain": _drain_json(node),
    }


def _drain_json(node: "pb.Node") -> Mapping[str, Any] | None:
    if not node.HasField("drain"):
        return None
    drain = node.drain
    return {
        "by": drain.by,
        "reason": drain.reason or None,
        "since": rfc3339(drain.since_ms),
        "until_restart": drain.until_restart,
    }
