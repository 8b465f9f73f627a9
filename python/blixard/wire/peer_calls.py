"""The calls between nodes, and those that change or show who belongs to the cluster."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Protocol

import grpc

from blixard import codec
from blixard.commands import AddNode, ConfirmDown, NodeCommand, RemoveNode, speaker
from blixard.errors import Code
from blixard.model import (
    Fix,
    Rejected,
)
from blixard.ports import LogStatus
from blixard.v1 import blixard_pb2 as pb
from blixard.v1 import raft_pb2
from blixard.wire import checks, view
from blixard.wire.node_log import NodeLog
from blixard.wire.peers import greet
from blixard.wire.placement_calls import exposed
from blixard.wire.status import Refused, answers

Context = grpc.aio.ServicerContext[Any, Any]

LEAVE_TIMEOUT_S: Final = 20.0


class RaftReceiver(Protocol):
    """Takes the messages of one peer's stream to the consensus engine."""

    async def serve(
        self, envelopes: AsyncIterator[raft_pb2.RaftEnvelope], context: Context
    ) -> raft_pb2.RaftAck: ...


class Founder(Protocol):
    """This node's way into a cluster."""

    founding: bool
    """Whether it was told to found one."""
    cluster_id: str
    """Empty while it belongs to none."""

    async def join_through(self, address: str) -> str:
        """Join the cluster of the node at `address`; returns its id. Raises `BlixardError`."""
        ...


class PeerCalls:
    """`ClusterService`, the part about nodes."""

    def __init__(self, node: NodeLog, founder: Founder, raft: Callable[[], RaftReceiver]) -> None:
        self._node = node
        self._founder = founder
        self._raft = raft

    @answers
    async def Greet(self, request: pb.GreetRequest, context: Context) -> pb.GreetResponse:
        """Who this node is, and whether its cluster has the asking node's id."""
        known = self._node.opened and request.node_id in self._node.log.cluster().nodes
        return pb.GreetResponse(
            node_id=self._node.node_id,
            cluster_id=self._founder.cluster_id,
            knows_you=known,
            founding=self._founder.founding,
        )

    @answers
    async def JoinThrough(
        self, request: pb.JoinThroughRequest, context: Context
    ) -> pb.JoinThroughResponse:
        address = checks.address(request.address)
        if self._founder.cluster_id:
            raise Refused(
                Rejected(
                    Code.EXISTS,
                    f"node-{self._node.node_id} already belongs to a cluster",
                    why=f"it is cluster {self._founder.cluster_id}",
                    fixes=(Fix("look at it", "blixard cluster status"),),
                )
            )
        return pb.JoinThroughResponse(cluster_id=await self._founder.join_through(address))

    @answers
    async def JoinCluster(
        self, request: pb.JoinClusterRequest, context: Context
    ) -> pb.JoinClusterResponse:
        """Admit a node that answers at its address; consensus membership follows."""
        node_id = checks.node_id(request.node_id)
        address = checks.address(request.bind_address)
        log = self._node.leader_only()
        await self._reachable(node_id, address)
        level = max(1, request.level)
        await self._node.change(
            AddNode(node_id, address, request.machine_id, request.join_id, level), None
        )
        status = log.status()
        return pb.JoinClusterResponse(
            cluster_id=status.cluster_id,
            members=[pb.Member(node_id=n, address=a) for n, a in sorted(status.members.items())],
        )

    async def _reachable(self, node_id: int, address: str) -> None:
        """A member that its peers cannot reach would cost the cluster its majority."""
        answer = await greet(address, node_id=self._node.node_id, founding=False)
        if answer is None or answer.node_id != node_id:
            raise Refused(
                Rejected(
                    Code.NO_ROUTE,
                    f"node-{node_id} does not answer at {address}",
                    why="its peers must reach it there",
                    fixes=(Fix("give it an address that the others can reach: --advertise"),),
                )
            )

    @answers
    async def LeaveCluster(
        self, request: pb.LeaveClusterRequest, context: Context
    ) -> pb.LeaveClusterResponse:
        """Remove a node, and return once consensus no longer counts it."""
        node_id = checks.node_id(request.node_id)
        request_id = checks.request_id(request.request_id)
        log = self._node.leader_only()
        self._keeps_quorum(log.status(), node_id)
        await self._node.change(RemoveNode(node_id), request_id)
        gone = await self._node.until(
            lambda: node_id not in log.cluster().nodes or not log.status().is_leader,
            LEAVE_TIMEOUT_S,
        )
        self._node.leader_only()
        if not gone:
            raise Refused(
                Rejected(
                    Code.OUTCOME_UNKNOWN,
                    f"node-{node_id} is leaving, but consensus still counts it",
                    fixes=(Fix("watch it", "blixard cluster status"),),
                ),
                maybe_applied=True,
            )
        return pb.LeaveClusterResponse()

    def _keeps_quorum(self, status: LogStatus, node_id: int) -> None:
        remaining = [member for member in status.members if member != node_id]
        answering = [member for member in remaining if status.hears(member)]
        needed = len(remaining) // 2 + 1
        if node_id in status.members and remaining and len(answering) < needed:
            raise Refused(
                Rejected(
                    Code.WOULD_BREAK_QUORUM,
                    f"without node-{node_id}, {len(answering)} of {len(remaining)} nodes answer; "
                    f"{needed} are needed",
                    why="the cluster could no longer decide anything",
                    fixes=(Fix("bring back or remove the silent nodes first"),),
                )
            )

    @answers
    async def ConfirmNodeDown(
        self, request: pb.ConfirmNodeDownRequest, context: Context
    ) -> pb.ConfirmNodeDownResponse:
        """Free what a lost node may still run. Its name must be that of its id: a slip would let a
        VM run twice."""
        node_id = checks.node_id(request.node_id)
        by = checks.speaker(request.by)
        if request.name != f"node-{node_id}":
            raise Refused(
                Rejected(
                    Code.DECLINED,
                    f'"{request.name[:80]}" is not the name of node-{node_id}; nothing was changed',
                    fixes=(Fix("look which node it is", "blixard node list"),),
                )
            )
        request_id = checks.request_id(request.request_id)
        accepted = await self._node.change(
            ConfirmDown(node_id, request.incarnation, by), request_id
        )
        return pb.ConfirmNodeDownResponse(index=accepted.index, note=accepted.note)

    @answers
    async def SubmitReport(
        self, request: pb.SubmitReportRequest, context: Context
    ) -> pb.SubmitReportResponse:
        """A node's own command, for the leader to propose."""
        try:
            entry = codec.decode_entry(request.entry)
        except codec.DecodeError as error:
            raise checks.bad(f"entry: {error}", "run the same release on all nodes") from error
        command = entry.command
        if not isinstance(command, NodeCommand) or speaker(command) != request.node_id:
            raise checks.bad("entry: no report of that node", "submit a node's own reports only")
        self._node.leader_only()
        outcome = await self._node.decided(command)
        return pb.SubmitReportResponse(outcome=codec.encode_outcome(outcome))

    async def SendRaftMessage(
        self, request_iterator: AsyncIterator[raft_pb2.RaftEnvelope], context: Context
    ) -> raft_pb2.RaftAck:
        """One peer's stream of consensus messages."""
        if not self._node.opened:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this node belongs to no cluster yet")
        return await self._raft().serve(request_iterator, context)

    @answers
    async def GetClusterStatus(
        self, request: pb.GetClusterStatusRequest, context: Context
    ) -> pb.GetClusterStatusResponse:
        log = await self._node.read(stale=request.stale)
        cluster = log.cluster()
        renewed_ms_ago = self._node.leases.renewed_ms_ago(cluster)
        answer = view.cluster_status(
            cluster, log.status(), renewed_ms_ago, linearizable=not request.stale
        )
        if not request.stale:
            answer.exposed.extend(await exposed(log))
        return answer

    @answers
    async def HealthCheck(
        self, request: pb.HealthCheckRequest, context: Context
    ) -> pb.HealthCheckResponse:
        """Healthy while this node belongs to a cluster that has a leader."""
        if not self._node.opened:
            return pb.HealthCheckResponse(healthy=False, message="belongs to no cluster yet")
        status = self._node.log.status()
        if status.leader_id is None:
            return pb.HealthCheckResponse(healthy=False, message="no leader is known")
        return pb.HealthCheckResponse(healthy=True, message=f"node-{status.leader_id} leads")
