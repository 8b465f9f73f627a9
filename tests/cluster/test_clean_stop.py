"""A daemon that is stopped cleanly while it leads lets another one lead first."""

import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Self

import pytest

from blixard.raft.engine import RaftTimings
from blixard.v1 import blixard_pb2 as pb
from blixard.wire.client import Client
from cluster.loopback import LoopbackCluster, wait_until

ELECTION_S = RaftTimings().election_min_ms / 1_000
STOP_S = 2.0


def timed_stop(cluster: LoopbackCluster, node_id: int) -> float:
    """Stop a daemon; answers how long that took, in seconds."""
    began = time.monotonic()
    cluster.stop(node_id)
    return time.monotonic() - began


class Writers:
    """Clients that write without a pause, each change after the answer to the one before."""

    def __init__(self, cluster: LoopbackCluster, count: int) -> None:
        self._addresses = [node.address for node in cluster.nodes.values()]
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._write) for _ in range(count)]
        self.done_s: list[float] = []
        """When each write was answered."""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        with Client(self._addresses, timeout_ms=30_000) as client:
            while not self._ended.is_set():
                # Goes through the log, and changes nothing.
                client.stop_vm(pb.StopVmRequest(name="web"))
                self.done_s.append(time.monotonic())


@pytest.mark.parametrize("writers", [1, 4])
def test_writes_wait_for_no_election_when_the_leader_is_stopped(
    cluster: LoopbackCluster, counting: str, writers: int
) -> None:
    cluster.cli("vm", "create", "web", "--config", counting, "--stopped")
    leader = cluster.leader_id()
    with Writers(cluster, writers) as writing:
        wait_until(lambda: len(writing.done_s) > 100, "writes")
        stopping_s = timed_stop(cluster, leader)
        stopped_s = time.monotonic()
        wait_until(lambda: writing.done_s[-1] > stopped_s, "writes after the stop")
    gap_s = max(later - earlier for earlier, later in pairwise(writing.done_s))
    print(f"stopped in {stopping_s:.3f} s; {len(writing.done_s)} writes, longest gap {gap_s:.3f} s")
    assert cluster.leader_id() != leader
    assert stopping_s < STOP_S
    assert gap_s < ELECTION_S, "writes waited for an election"


def test_a_node_that_is_alone_stops_at_once(tmp_path: Path) -> None:
    with LoopbackCluster(tmp_path) as cluster:
        cluster.start(1)
        cluster.settled(1)
        assert timed_stop(cluster, 1) < 1.0


def test_a_leader_without_a_majority_stops_at_once(cluster: LoopbackCluster) -> None:
    leader = cluster.leader_id()
    cluster.kill(*(node_id for node_id in cluster.nodes if node_id != leader))
    with Client([cluster.nodes[leader].address], timeout_ms=5_000) as client:
        wait_until(lambda: client.raft_status().leader_id != leader, "it steps down")
    assert timed_stop(cluster, leader) < 1.0
