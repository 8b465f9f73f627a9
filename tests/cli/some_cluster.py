"""A cluster in which something of everything is wrong, as it answers."""

from dataclasses import replace
from typing import Any

from blixard.cli.top_picture import Answers, Known
from blixard.v1 import blixard_pb2 as pb
from cli.fake_node import NOW_MS, a_node, a_vm


def some_answers() -> Answers:
    """A cluster of three with a silent node, and VMs in every kind of state."""
    nodes = [
        a_node(1, role="leader", heard_ms=0, vms=2, vcpus_reserved=4, memory_reserved_mib=2560),
        a_node(2, silent=True, heard_ms=4200, renewed_ms_ago=4800),
        a_node(3, vms=9, vcpus_reserved=8, memory_reserved_mib=16300),
    ]
    vms = [
        a_vm("batch", "failed"),
        a_vm("broken", health=pb.GuestHealth(state="failing", text="connection refused\nmore")),
        a_vm("ci", "pending", memory_mib=16384, vcpus=4),
        a_vm("db", memory_mib=18432, tied_to="node-1", tie="it has volumes"),
        a_vm("spare", "stopped"),
    ]
    status = pb.GetClusterStatusResponse(
        cluster_id="c1",
        leader_id=1,
        nodes=nodes,
        term=3,
        commit_index=41,
        quorum=2,
        as_of=pb.AsOf(index=41, term=3, node="node-1", linearizable=True),
    )
    return Answers(status, vms, NOW_MS)


def some_events() -> tuple[pb.Event, ...]:
    needs = "ci needs 16 GiB, and no node has that free"
    return (
        pb.Event(index=38, at_ms=NOW_MS - 18_000, kind="vm", subject="ci", text=needs, grave=True),
        pb.Event(
            index=40,
            at_ms=NOW_MS - 9_000,
            kind="node",
            subject="node-2",
            text="node-2 is silent",
            actor="leader",
        ),
    )


def known(**changes: Any) -> Known:
    return replace(Known(some_answers(), events=some_events()), **changes)
