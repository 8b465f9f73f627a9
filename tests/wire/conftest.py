"""A real gRPC server over a log that decides at once."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from blixard.errors import BlixardError, Code
from blixard.ports import Attached, Meters, OutputLine
from blixard.source import FlakeSource
from blixard.v1 import blixard_pb2_grpc as rpc
from blixard.wire.node_log import NodeLog
from blixard.wire.server import ClusterService, RaftService, Server
from blixard.wire.status import Refused, refusal_in
from wire.local_log import LocalLog


class FixedLocker:
    """Locks whatever it is given, except `github:nobody/nothing`."""

    async def lock(self, url: str, attribute: str) -> FlakeSource:
        if url == "github:nobody/nothing":
            raise BlixardError(
                "cannot find it", remedy="check its name", code=Code.SOURCE_UNREADABLE
            )
        return FlakeSource(f"{url}/1234", attribute, "sha256-x")


class FixedClock:
    """Stands still."""

    def boot_ms(self) -> int:
        return 5_000

    def wall_ms(self) -> int:
        return 0


class CountedCalls(Meters):
    """Remembers what came of calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.timed_calls: list[str] = []

    def called(self, method: str, code: str) -> None:
        self.calls.append((method, code))

    def answered(self, method: str, seconds: float) -> None:
        assert 0 < seconds < 10
        self.timed_calls.append(method)


class NoConsoles:
    """Of a host without VMs."""

    async def lines(
        self, name: str, limit: int, epoch: int | None, follows: Callable[[], bool]
    ) -> AsyncGenerator[list[OutputLine], None]:
        yield []

    async def attach(self, name: str) -> Attached:
        raise BlixardError("there is no console to attach to", code=Code.NOT_RUNNING)


class Outsider:
    """A founder that knows one cluster to join."""

    founding = False
    cluster_id = ""

    async def join_through(self, address: str) -> str:
        return f"joined through {address}"


@dataclass
class Served:
    """A running server, and stubs to call it."""

    log: LocalLog
    node: NodeLog
    founder: Outsider
    stub: Any
    raft: Any
    health: Any
    reflection: Any
    socket: Path
    meters: "CountedCalls"

    async def refusal(self, call: Callable[[], Any]) -> tuple[grpc.StatusCode, Refused]:
        """The status and the refusal with which a call ends."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call()
        refused = refusal_in(caught.value)
        assert refused is not None
        return caught.value.code(), refused


@pytest.fixture
def serving(tmp_path: Path) -> Callable[[Callable[[Served], Any]], None]:
    """Run a coroutine against a server that leads a cluster of three."""

    async def session(test: Callable[[Served], Any]) -> None:
        log = LocalLog({1: "127.0.0.1:1", 2: "127.0.0.1:2", 3: "127.0.0.1:3"})
        node, founder = NodeLog(1, FixedClock()), Outsider()
        node.open(log)
        log.told = node.tell
        service = ClusterService(node, founder, no_raft, FixedLocker(), NoConsoles(), NoConsoles())
        meters = CountedCalls()
        server = Server(service, RaftService(node), meters)
        socket = tmp_path / "api.sock"
        await server.start("127.0.0.1:0", socket)
        try:
            async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
                served = Served(
                    log=log,
                    node=node,
                    founder=founder,
                    stub=rpc.ClusterServiceStub(channel),
                    raft=rpc.BlixardServiceStub(channel),
                    health=health_pb2_grpc.HealthStub(channel),
                    reflection=reflection_pb2_grpc.ServerReflectionStub(cast("Any", channel)),
                    socket=socket,
                    meters=meters,
                )
                await test(served)
        finally:
            await server.stop()

    return lambda test: asyncio.run(session(test))


def no_raft() -> Any:
    raise AssertionError("no consensus here")


Serving = Callable[[Callable[[Served], Any]], None]
