"""Calls that a node makes to its peers outside consensus."""

from collections.abc import Sequence
from typing import Final

import grpc

from blixard import codec
from blixard.errors import BlixardError, Code
from blixard.model import Outcome
from blixard.ports import Unavailable
from blixard.v1 import blixard_pb2 as pb
from blixard.v1 import blixard_pb2_grpc as rpc
from blixard.wire.status import refusal_in, status_of

GREET_TIMEOUT_S: Final = 3.0
JOIN_TIMEOUT_S: Final = 15.0
REPORT_TIMEOUT_S: Final = 10.0
MAX_HOPS: Final = 3


async def greet(address: str, *, node_id: int, founding: bool) -> pb.GreetResponse | None:
    """Ask the node at `address` who it is; None if it does not answer within 3 s."""
    request = pb.GreetRequest(node_id=node_id, founding=founding)
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = rpc.ClusterServiceStub(channel)
            answer: pb.GreetResponse = await stub.Greet(request, timeout=GREET_TIMEOUT_S)
            return answer
    except grpc.aio.AioRpcError:
        return None


async def join(addresses: Sequence[str], request: pb.JoinClusterRequest) -> pb.JoinClusterResponse:
    """Ask to be admitted at any of `addresses`, following the leader.

    Raises `Refused` if the cluster says no, and `BlixardError` if nobody could decide.
    """
    trouble = "none of them answers"
    for address in addresses:
        asked = address
        for _ in range(MAX_HOPS):
            try:
                async with grpc.aio.insecure_channel(asked) as channel:
                    stub = rpc.ClusterServiceStub(channel)
                    answer: pb.JoinClusterResponse = await stub.JoinCluster(
                        request, timeout=JOIN_TIMEOUT_S
                    )
                    return answer
            except grpc.aio.AioRpcError as failed:
                refused = refusal_in(failed)
                if refused is None:
                    break
                if refused.leader_address:
                    asked = refused.leader_address
                    continue
                if status_of(refused.rejected.code) is not grpc.StatusCode.UNAVAILABLE:
                    raise refused from failed
                trouble = refused.rejected.message
                break
    raise BlixardError(
        f"no peer could admit this node ({', '.join(addresses)}): {trouble}",
        remedy="it keeps trying; see that a majority of the cluster runs",
        code=Code.NO_LEADER,
    )


async def submit_report(address: str, node_id: int, entry: bytes) -> Outcome | Unavailable:
    """Have the leader at `address` propose a node's own entry."""
    request = pb.SubmitReportRequest(node_id=node_id, entry=entry)
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = rpc.ClusterServiceStub(channel)
            answer = await stub.SubmitReport(request, timeout=REPORT_TIMEOUT_S)
            return codec.decode_outcome(answer.outcome)
    except grpc.aio.AioRpcError as failed:
        return Unavailable(f"the leader at {address} did not decide: {failed.details()}")
