"""Messages between nodes over gRPC: one client stream to each peer, and the server's side of it.

A link opens when there is something to send, and closes after a while of silence. It may lose
messages, never reorder them: consensus repeats what matters.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator
from random import Random
from typing import Any, Final, NoReturn, Protocol

import grpc
import grpc.aio

from blixard.v1 import blixard_pb2_grpc as rpc
from blixard.v1.raft_pb2 import RaftAck, RaftEnvelope

CONNECT_S: Final = 3.0
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_LAST_S: Final = 3.0
IDLE_S: Final = 30.0
"""A link with nothing to send for this long is closed."""
QUEUE_MESSAGES: Final = 256
QUEUE_BYTES: Final = 32 * 1024 * 1024
"""What a link holds back while its peer is slow; what exceeds either limit is lost."""

_OPTIONS: Final = (
    ("grpc.max_send_message_length", 4 * 1024 * 1024),
    # Peers are reached directly, whatever proxy the environment names for the web.
    ("grpc.enable_http_proxy", 0),
    # A host that vanished answers no ping; without them its connection would look alive for long.
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.max_pings_without_data", 0),
    # How long to wait between attempts is decided here.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
)

_log = logging.getLogger(__name__)


class Receiver(Protocol):
    """Where messages and news of connections go."""

    def receive(self, envelope: RaftEnvelope) -> str | None:
        """Take in a message; returns why its sender is refused, if it is."""
        ...

    def connected(self, node_id: int) -> None:
        """A new connection to a node is open."""
        ...


class GrpcTransport:
    """All links of one node."""

    def __init__(
        self,
        credentials: grpc.ChannelCredentials | None = None,
        random: Random | None = None,
    ) -> None:
        """`credentials` secure every link; without them, links are in clear text."""
        self._credentials = credentials
        self._random = random or Random()  # noqa: S311 - spreads reconnections, hides nothing
        self._receiver: Receiver | None = None
        self._links: dict[int, _Link] = {}
        self.refusals: dict[int, str] = {}
        """What peers last said when they refused this node: it was removed, or is misled."""

    def attach(self, receiver: Receiver) -> None:
        """Say where messages go. To be done before the first one is sent or served."""
        self._receiver = receiver

    def send(self, receiver: int, address: str, envelope: RaftEnvelope) -> None:
        """Buffer a message, and open the link to `address` if there is none."""
        link = self._links.get(receiver)
        if link is None or link.address != address:
            if link is not None:
                link.cancel()
            link = self._links[receiver] = _Link(self, receiver, address)
        link.put(envelope)

    async def serve(
        self,
        request_iterator: AsyncIterator[RaftEnvelope],
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> RaftAck:
        """Handle a peer's stream: the server's SendRaftMessage."""
        assert self._receiver is not None
        accepted = 0
        async for envelope in request_iterator:
            refusal = self._receiver.receive(envelope)
            if refusal is not None:
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, refusal)
            if not accepted and envelope.sender in self._links:
                self._links[envelope.sender].hurry()
            accepted += 1
        return RaftAck(accepted=accepted)

    async def close(self) -> None:
        """Close all links; what they hold back is lost."""
        links, self._links = self._links, {}
        for link in links.values():
            link.cancel()
        await asyncio.gather(*(link.task for link in links.values()), return_exceptions=True)

    # What a link needs.

    def channel(self, address: str) -> grpc.aio.Channel:
        """A channel to a peer. The one place that decides how links are secured."""
        if self._credentials is None:
            return grpc.aio.insecure_channel(address, options=_OPTIONS)
        return grpc.aio.secure_channel(address, self._credentials, options=_OPTIONS)

    def opened(self, peer: int) -> None:
        """A link has a new connection."""
        assert self._receiver is not None
        self._receiver.connected(peer)

    def failed(self, peer: int, error: grpc.aio.AioRpcError) -> None:
        """A link has lost its connection, or found none."""
        if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
            reason = error.details() or ""
            if self.refusals.get(peer) != reason:
                _log.warning("node %d refuses this node: %s", peer, reason)
            self.refusals[peer] = reason

    def backoff_s(self, attempt: int) -> float:
        """How long to wait after so many failures in a row: twice as long each time, at random."""
        longest_s = min(BACKOFF_LAST_S, BACKOFF_FIRST_S * 2.0 ** min(attempt, 16))
        return self._random.uniform(longest_s / 2, longest_s)

    def forget(self, link: "_Link") -> None:
        """A link has ended."""
        if self._links.get(link.peer) is link:
            del self._links[link.peer]


class _Link:
    """The messages to one peer, and the task that sends them."""

    def __init__(self, transport: GrpcTransport, peer: int, address: str) -> None:
        self.peer = peer
        self.address = address
        self._transport = transport
        self._queue: deque[RaftEnvelope] = deque()
        self._queue_bytes = 0
        self._news = asyncio.Event()
        self._peer_is_back = asyncio.Event()
        self.task = asyncio.create_task(self._run(), name=f"raft link to node {peer}")

    def put(self, envelope: RaftEnvelope) -> None:
        size = envelope.ByteSize()
        if len(self._queue) < QUEUE_MESSAGES and self._queue_bytes + size <= QUEUE_BYTES:
            self._queue.append(envelope)
            self._queue_bytes += size
            self._news.set()

    def hurry(self) -> None:
        """The peer has just opened a link of its own, so it can be reached: do not wait."""
        self._peer_is_back.set()

    def cancel(self) -> None:
        self.task.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        attempt = 0
        try:
            while True:
                began_s = loop.time()
                try:
                    await self._connect_and_send()
                    return
                except grpc.aio.AioRpcError as error:
                    self._transport.failed(self.peer, error)
                except TimeoutError:
                    pass
                self._clear()
                attempt = 0 if loop.time() - began_s > CONNECT_S else attempt + 1
                self._peer_is_back.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._transport.backoff_s(attempt)):
                        await self._peer_is_back.wait()
        finally:
            self._transport.forget(self)

    async def _connect_and_send(self) -> None:
        """Send until there is nothing to send for a while. Raises `AioRpcError` when the stream
        ends before that, and `TimeoutError` if it cannot be opened."""
        async with self._transport.channel(self.address) as channel:
            call = rpc.ClusterServiceStub(channel).SendRaftMessage()
            call.add_done_callback(lambda _: self._news.set())
            async with asyncio.timeout(CONNECT_S):
                await call.wait_for_connection()
            self._transport.opened(self.peer)
            while await self._has_news():
                if call.done():
                    await self._raise_end_of(call)
                while self._queue:
                    envelope = self._queue.popleft()
                    self._queue_bytes -= envelope.ByteSize()
                    try:
                        await call.write(envelope)
                    except asyncio.InvalidStateError:
                        await self._raise_end_of(call)
            await call.done_writing()
            await call

    async def _has_news(self) -> bool:
        """Wait for messages or for the end of the stream; False after a long silence."""
        try:
            async with asyncio.timeout(IDLE_S):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True

    async def _raise_end_of(self, call: Any) -> NoReturn:
        await call
        raise TimeoutError("the peer ended the stream")

    def _clear(self) -> None:
        """What was meant for the connection that failed is out of date."""
        self._queue.clear()
        self._queue_bytes = 0
