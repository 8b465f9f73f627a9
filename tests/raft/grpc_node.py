"""One node as the daemon wires it, without the daemon: engine, runner, transport, gRPC server."""

import asyncio
import time
from pathlib import Path
from random import Random
from typing import Any

import grpc.aio

from blixard.raft.engine import RaftEngine, RaftTimings
from blixard.raft.outcome import Outcome
from blixard.raft.runner import EngineRunner
from blixard.raft.store import SqliteStore
from blixard.raft.transport import GrpcTransport
from blixard.v1 import blixard_pb2_grpc as rpc
from raft.lab import Recorder

TIMINGS = RaftTimings(heartbeat_ms=50, election_min_ms=300, election_max_ms=600)


class _Service(rpc.ClusterServiceServicer):
    def __init__(self, transport: GrpcTransport) -> None:
        self._transport = transport

    async def SendRaftMessage(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        return await self._transport.serve(request_iterator, context)


class GrpcNode:
    """Runs from `start` to `stop`. The journal must have begun."""

    def __init__(self, node_id: int, folder: Path, port: int = 0) -> None:
        self.node_id = node_id
        self.machine = Recorder()
        self.transport = GrpcTransport()
        self.led: list[int] = []
        """The terms in which it was told that it leads."""
        self._store = SqliteStore(folder)
        self.server = grpc.aio.server(
            options=[("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000)]
        )
        rpc.add_ClusterServiceServicer_to_server(_Service(self.transport), self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.address = f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.engine = RaftEngine(
            self.node_id,
            self._store,
            self.machine,
            self.transport.send,
            time.monotonic,
            Random(self.node_id),
            TIMINGS,
        )
        self.runner = EngineRunner(
            self.engine, self.transport, leads=lambda: self.led.append(self.engine.term)
        )
        await self.server.start()
        self.running = asyncio.create_task(self.runner.run())

    async def stop(self) -> None:
        await self.server.stop(None)
        self.runner.stop()
        try:
            await self.running
        finally:
            self._store.close()

    def ask(self, begin: Any, *args: object) -> "asyncio.Future[Outcome]":
        """Begin something that ends in an outcome."""
        told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        begin(*args, told.set_result)
        return told
