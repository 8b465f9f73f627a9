"""Calls that a node makes to its peers outside consensus."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import grpc

from blixard import codec
from blixard.errors import BlixardError, Code
from blixard.ports import Done, Unavailable
from blixard.v1 import blixard_pb2 as pb
from blixard.v1 import blixard_pb2_grpc as rpc
from blixard.wire.status import Refused, refusal_in, status_of

GREET_TIMEOUT_S: Final = 3.0
JOIN_TIMEOUT_S: Final = 15.0
REPORT_TIMEOUT_S: Final = 10.0
MAX_HOPS: Final = 3
AT_ONCE: Final = (
    # Peers are reached directly, whatever proxy the environment names for the web.
    ("grpc.enable_http_proxy", 0),
    # A leader that vanished, and came back at once, is noticed before the kernel would.
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
)
"""A lease does not wait for gRPC's usual minutes of back-off."""


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


class Reporter:
    """Has the leader propose what a node has to say, over one connection as long as it leads."""

    def __init__(self, node_id: int) -> None:
        self._node_id = node_id
        self._address = ""
        self._channel: grpc.aio.Channel | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    def carry(self, address: str, entry: bytes, done: Done) -> None:
        """Submit an entry to the leader at `address`, beside the loop; `done` is told what came of
        it, exactly once, but not after `close`. Implements `raft.replica.Forward`."""
        self._begin(self._submit(self._connected(address), address, entry, done))

    async def close(self) -> None:
        """Let go of the connection, and of what is under way."""
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way)
        if self._channel is not None:
            await self._channel.close()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _submit(
        self, channel: grpc.aio.Channel, address: str, entry: bytes, done: Done
    ) -> None:
        request = pb.SubmitReportRequest(node_id=self._node_id, entry=entry)
        try:
            call = rpc.ClusterServiceStub(channel).SubmitReport(request, timeout=REPORT_TIMEOUT_S)
        except grpc.aio.UsageError:
            done(Unavailable(f"the leader is no longer at {address}"))
            return
        try:
            # Not the call itself: with its channel it is cancelled, and that looks as if this were.
            if await call.code() is not grpc.StatusCode.OK:
                details = await call.details()
                done(Unavailable(f"the leader at {address} did not decide: {details}"))
                return
            answer = await call
            done(codec.decode_outcome(answer.outcome))
        except codec.DecodeError as error:
            done(Unavailable(f"the leader at {address} answers what is not understood: {error}"))
        finally:
            call.cancel()

    def _connected(self, address: str) -> grpc.aio.Channel:
        """The channel to the leader. One to an earlier leader is closed, and calls on it end."""
        if self._channel is None or self._address != address:
            if self._channel is not None:
                self._begin(self._channel.close())
            self._address = address
            self._channel = grpc.aio.insecure_channel(address, options=AT_ONCE)
        return self._channel
