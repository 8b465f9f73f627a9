"""The leader is killed, again and again: how long until the next write is accepted.

A client writes on and on, one write at a time, by the code of the command line: it finds out by
itself who leads now. The killed node is started again, and has the whole log before the next kill.
"""

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Self

import grpc

from bench.figure import show
from blixard.v1 import blixard_pb2 as pb
from blixard.v1 import blixard_pb2_grpc as rpc
from blixard.wire.client import Client
from cluster.loopback import LoopbackCluster, three_nodes, wait_until

KILLS = 100
PATIENCE_S = 30.0
WRITES_A_SESSION = 100


def main() -> None:
    """Print the figure."""
    with (
        tempfile.TemporaryDirectory(prefix="blixard-bench-") as directory,
        three_nodes(Path(directory)) as cluster,
    ):
        times_ms = [seconds * 1000 for seconds in outages(cluster, KILLS)]
    show("the leader is killed, to the next accepted write", times_ms)


def outages(cluster: LoopbackCluster, kills: int) -> Iterator[float]:
    """Kill the leader so often; gives how long no write was accepted each time, in seconds."""
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(Writer(cluster))
        statuses = {
            node_id: rpc.BlixardServiceStub(
                stack.enter_context(grpc.insecure_channel(node.address))
            ).GetRaftStatus
            for node_id, node in cluster.nodes.items()
        }
        for _ in range(kills):
            leader = cluster.leader_id()
            yield writer.outage_s(partial(cluster.kill, leader))
            cluster.start(leader)
            goal = statuses[cluster.leader_id()](pb.GetRaftStatusRequest()).commit_index

            def has_caught_up(node_id: int = leader, goal: int = goal) -> bool:
                with contextlib.suppress(grpc.RpcError):
                    status = statuses[node_id](pb.GetRaftStatusRequest())
                    return bool(status.applied_index >= goal)
                return False

            wait_until(has_caught_up, f"node-{leader} has caught up")


class Writer:
    """Writes until the end of the block."""

    def __init__(self, cluster: LoopbackCluster) -> None:
        source = f"/nix/store/{'a' * 32}-microvm-none"
        cluster.cli("vm", "create", "bench", "--config", source, "--stopped")
        self._addresses = [node.address for node in cluster.nodes.values()]
        self._since_s = float("inf")
        self._outages_s: SimpleQueue[float] = SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def outage_s(self, strike: Callable[[], None]) -> float:
        """How long it takes from `strike` until a write that begins later is accepted."""
        self._since_s = time.monotonic()
        strike()
        return self._outages_s.get(timeout=2 * PATIENCE_S)

    def _write(self) -> None:
        while not self._stopped.is_set():
            with Client(self._addresses, timeout_ms=int(PATIENCE_S * 1000)) as client:
                for _ in range(WRITES_A_SESSION):
                    self._write_once(client)

    def _write_once(self, client: Client) -> None:
        began_s = time.monotonic()
        client.stop_vm(pb.StopVmRequest(name="bench"))
        if began_s > self._since_s:
            self._outages_s.put(time.monotonic() - self._since_s)
            self._since_s = float("inf")
