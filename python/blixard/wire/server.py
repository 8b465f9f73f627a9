"""The gRPC server of a node: one TCP port for peers and clients, one Unix socket for the host."""

import socket as sockets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from blixard.errors import BlixardError, Code
from blixard.ports import UNMEASURED, Consoles, Locker, Meters, Output
from blixard.v1 import blixard_pb2 as pb
from blixard.v1 import blixard_pb2_grpc as rpc
from blixard.wire.console_calls import ConsoleCalls
from blixard.wire.measured import MeasuredCalls
from blixard.wire.node_log import NodeLog
from blixard.wire.peer_calls import Founder, PeerCalls, RaftReceiver
from blixard.wire.placement_calls import PlacementCalls
from blixard.wire.status import answers
from blixard.wire.watch_calls import WatchCalls

SERVICES: Final = ("blixard.v1.BlixardService", "blixard.v1.ClusterService")
SOCKET_MODE: Final = 0o660
"""Whoever may open the socket may operate the cluster; its group decides who that is."""
STOP_GRACE_S: Final = 1.0
_OPTIONS: Final = (
    # Without this a second daemon would silently share the port.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    # Peers ping idle connections to notice a host that is gone.
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    # A caller that is gone without a word holds no console for longer than this.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
)


def _make_way(socket: Path) -> None:
    """Remove the socket that an earlier daemon left. Raises `OSError` for anything else there."""
    socket.parent.mkdir(parents=True, exist_ok=True)
    if not socket.exists():
        return
    if not socket.is_socket():
        raise FileExistsError("it is there already, and is no socket")
    with sockets.socket(sockets.AF_UNIX) as caller:
        if caller.connect_ex(str(socket)) == 0:
            raise FileExistsError("another daemon listens on it")
    socket.unlink()


def _open_to_group(socket: Path) -> None:
    socket.chmod(SOCKET_MODE)


class ClusterService(
    PeerCalls, PlacementCalls, WatchCalls, ConsoleCalls, rpc.ClusterServiceServicer
):
    """All calls of `ClusterService`."""

    def __init__(
        self,
        node: NodeLog,
        founder: Founder,
        raft: Callable[[], RaftReceiver],
        locker: Locker,
        consoles: Consoles,
        builds: Output,
    ) -> None:
        PeerCalls.__init__(self, node, founder, raft)
        PlacementCalls.__init__(self, node, locker)
        WatchCalls.__init__(self, node)
        ConsoleCalls.__init__(self, node, consoles, builds)


class RaftService(rpc.BlixardServiceServicer):
    """All calls of `BlixardService`."""

    def __init__(self, node: NodeLog) -> None:
        self._node = node

    @answers
    async def GetRaftStatus(
        self, request: pb.GetRaftStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetRaftStatusResponse:
        status = self._node.log.status()
        return pb.GetRaftStatusResponse(
            is_leader=status.is_leader,
            node_id=status.node_id,
            leader_id=status.leader_id or 0,
            term=status.term,
            state=status.role,
            commit_index=status.commit_index,
            applied_index=status.applied_index,
        )


class Server:
    """Listens from `start` to `stop`."""

    def __init__(
        self, cluster: ClusterService, raft: RaftService, meters: Meters = UNMEASURED
    ) -> None:
        self._server = grpc.aio.server(interceptors=[MeasuredCalls(meters)], options=_OPTIONS)
        self._health = health.aio.HealthServicer()
        rpc.add_ClusterServiceServicer_to_server(cluster, self._server)
        rpc.add_BlixardServiceServicer_to_server(raft, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )

    async def start(self, bind: str, socket: Path) -> None:
        """Listen at `bind` (host:port) and on `socket`. Raises `BlixardError`."""
        try:
            self._server.add_insecure_port(bind)
        except RuntimeError as error:
            raise BlixardError(
                f"cannot listen at {bind}: the port is in use, or the address is not this host's",
                remedy="see who listens with `ss -ltnp`, or choose another --bind",
                code=Code.ADDRESS_IN_USE,
            ) from error
        try:
            _make_way(socket)
            self._server.add_insecure_port(f"unix:{socket}")
        except (OSError, RuntimeError) as error:
            raise BlixardError(
                f"cannot listen on {socket}: {error}",
                remedy="choose another --socket; a path of more than 107 bytes is too long",
                code=Code.ADDRESS_IN_USE,
            ) from error
        await self._server.start()
        _open_to_group(socket)
        await self.serving(belongs=False)

    async def serving(self, *, belongs: bool) -> None:
        """Tell health checks whether this node belongs to a cluster; the process itself serves."""
        states = health_pb2.HealthCheckResponse
        await self._health.set("", states.SERVING)
        for service in SERVICES:
            await self._health.set(service, states.SERVING if belongs else states.NOT_SERVING)

    async def stop(self) -> None:
        """Refuse new calls, and let those under way end for a second."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(STOP_GRACE_S)
