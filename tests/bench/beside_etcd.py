"""Commits beside etcd's: three members each, one disk, the same client, in turns.

Both get commands of 512 bytes at the leader. Ours is a node's CheckIn with a padded version: the
state machine accepts it, and the state does not grow.
"""

import statistics
import tempfile
from pathlib import Path

from bench import floors, load
from bench.etcd import PUT, leader_of_three, put_of
from bench.figure import show
from blixard import codec
from blixard.commands import CheckIn, Entry
from blixard.model import Accepted, Capacity
from blixard.v1 import blixard_pb2 as pb
from cluster.loopback import LoopbackCluster, three_nodes

COMMAND_BYTES = 512
ROUNDS = 7
SECONDS = 2.0
IN_FLIGHT = (1, 64)
SUBMIT = "/blixard.v1.ClusterService/SubmitReport"
OPEN_SESSION = "/blixard.v1.ClusterService/OpenSession"
FLOORS_A_ROUND = 50


def main(etcd: Path) -> None:
    """Print the figures of both, and their ratios."""
    with (
        tempfile.TemporaryDirectory(prefix="blixard-bench-") as name,
        three_nodes(Path(name)) as cluster,
        leader_of_three(etcd, Path(name)) as leader,
    ):
        contenders = {
            "Blixard": (cluster.nodes[cluster.leader_id()].address, SUBMIT, report(cluster)),
            "etcd": (leader, PUT, put_of(COMMAND_BYTES)),
        }
        ours = contenders["Blixard"][0]
        disk = floors.of_disk(Path(name))
        floor: dict[str, list[float]] = {}
        measured: dict[tuple[str, int], list[load.Measured]] = {}
        for _ in range(ROUNDS):
            for what, once in disk.items():
                floor.setdefault(what, []).extend(floors.timed(once) for _ in range(FLOORS_A_ROUND))
            round_trips = load.call(ours, OPEN_SESSION, b"", 1, SECONDS / 4)
            floor.setdefault("gRPC round trip", []).extend(round_trips.times_ms)
            for at_once in IN_FLIGHT:
                for who, (address, method, request) in contenders.items():
                    turn = load.call(address, method, request, at_once, SECONDS)
                    measured.setdefault((who, at_once), []).append(turn)
                    if who == "Blixard":
                        assert_accepted(turn.answer)
    for what, times_ms in floor.items():
        show(what, times_ms)
    for at_once in IN_FLIGHT:
        compare(at_once, measured["Blixard", at_once], measured["etcd", at_once])


def compare(at_once: int, ours: list[load.Measured], theirs: list[load.Measured]) -> None:
    """Print both and the ratio of each turn's figures, which met the same noise."""
    for who, turns in (("Blixard", ours), ("etcd", theirs)):
        show(f"{who}, {at_once} in flight", [time for turn in turns for time in turn.times_ms])
        rate = statistics.median(turn.per_second for turn in turns)
        print(f"{who}, {at_once} in flight: {rate:.0f} commits/s", flush=True)
    pairs = list(zip(ours, theirs, strict=True))
    latency = statistics.median(
        statistics.median(we.times_ms) / statistics.median(they.times_ms) for we, they in pairs
    )
    rate = statistics.median(we.per_second / they.per_second for we, they in pairs)
    print(f"Blixard to etcd, {at_once} in flight: p50 {latency:.2f}, commits/s {rate:.2f}")


def report(cluster: LoopbackCluster) -> bytes:
    """A request whose entry has exactly `COMMAND_BYTES` in the log."""
    member = next(node for node in cluster.status()["nodes"] if node["id"] == 1)
    check_in = CheckIn(1, member["incarnation"], member["address"], Capacity(8, 8192), "")
    at_ms = 2**40
    missing = COMMAND_BYTES - len(codec.encode_entry(Entry(check_in, at_ms)))
    # A text of more than 255 bytes takes two bytes more to say how long it is.
    padded = CheckIn(
        1, check_in.incarnation, check_in.address, check_in.capacity, "0" * (missing - 2)
    )
    entry = codec.encode_entry(Entry(padded, at_ms))
    assert len(entry) == COMMAND_BYTES
    return pb.SubmitReportRequest(node_id=1, entry=entry).SerializeToString()


def assert_accepted(answer: bytes) -> None:
    """The state machine has taken it."""
    outcome = codec.decode_outcome(pb.SubmitReportResponse.FromString(answer).outcome)
    assert isinstance(outcome, Accepted), outcome
