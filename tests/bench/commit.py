"""Commit latency through the gRPC API of three daemons, beside what it is made of.

A commit costs at least two durable transactions, the leader's and a follower's, and two round
trips, the caller's and the leader's. Each is measured alone, in turns, on the same disk.
"""

import itertools
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import grpc

from bench import floors
from bench.figure import show
from blixard.v1 import blixard_pb2 as pb
from blixard.v1 import blixard_pb2_grpc as rpc
from cluster.loopback import LoopbackCluster, three_nodes

ROUNDS = 20
EACH = 25


def main() -> None:
    """Print the figures and their ratio."""
    with (
        tempfile.TemporaryDirectory(prefix="blixard-bench-") as name,
        three_nodes(Path(name)) as cluster,
        grpc.insecure_channel(cluster.nodes[cluster.leader_id()].address) as channel,
    ):
        measured: dict[str, list[float]] = {}
        measurable = parts(cluster, channel, Path(name))
        for _ in range(ROUNDS):
            for what, once in measurable.items():
                measured.setdefault(what, []).extend(floors.timed(once) for _ in range(EACH))
    p50 = {what: statistics.median(times) for what, times in measured.items()}
    for what, times in measured.items():
        show(what, times)
    floor = 2 * (p50["SQLite FULL transaction"] + p50["gRPC round trip"])
    print(f"two of both: {floor:.2f} ms; a commit's p50 is {p50['commit'] / floor:.2f} of that")


def parts(
    cluster: LoopbackCluster, channel: grpc.Channel, directory: Path
) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    calls = rpc.ClusterServiceStub(channel)
    session = calls.OpenSession(pb.OpenSessionRequest())
    numbers = itertools.count(1)
    source = f"/nix/store/{'a' * 32}-microvm-none"
    cluster.cli("vm", "create", "bench", "--config", source, "--stopped")

    def commit() -> None:
        request_id = pb.RequestId(
            session=session.session, number=next(numbers), base_index=session.base_index
        )
        calls.StopVm(pb.StopVmRequest(request_id=request_id, name="bench"))

    def round_trip() -> None:
        calls.OpenSession(pb.OpenSessionRequest())

    return {"gRPC round trip": round_trip, "commit": commit, **floors.of_disk(directory)}
