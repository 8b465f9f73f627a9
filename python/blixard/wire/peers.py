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
from blixard.wire.status import Refused, refusal_in, status_of

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


async def join(addresses: Sequence[str], request: pb.JoinClusterRequest) -> str:
    """Ask to be admitted at any of `addresses`, following the leader.

    Returns why nobody could decide, or "" once the node is admitted. Raises `BlixardError` if the
    cluster says no.
    """
    trouble = "no peer answers"
    for address in addresses:
        asked = address
        for _ in range(MAX_HOPS):
            try:
                async with grpc.aio.insecure_channel(asked) as channel:
                    stub = rpc.ClusterServiceStub(channel)
                    await stub.JoinCluster(request, timeout=JOIN_TIMEOUT_S)
                    return ""
            except grpc.aio.AioRpcError as failed:
                refused = refusal_in(failed)
                if refused is None:
                    break
                if not refused.leader_address:
                    trouble = _undecided(refused)
                    break
                asked = refused.leader_address
    return trouble


def _undecided(refused: Refused) -> str:
    """Why the cluster could not decide; raises `BlixardError` if it did."""
    rejected = refused.rejected
    if rejected.code is Code.BUSY or status_of(rejected.code) is grpc.StatusCode.UNAVAILABLE:
        return rejected.message
    remedy = "; ".join(f"{fix.text} {fix.command}".rstrip() for fix in rejected.fixes)
    raise BlixardError(f"{rejected.message}: {rejected.why}", remedy=remedy, code=rejected.code)


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
    except codec.DecodeError as error:
        return Unavailable(f"the leader at {address} answered what is not understood: {error}")
