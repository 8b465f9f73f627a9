"""Drives one engine on an asyncio loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from blixard.raft.engine import RaftEngine, Turn
from blixard.raft.transport import GrpcTransport
from blixard.v1.raft_pb2 import RaftEnvelope


class EngineRunner:
    """Has an engine take a turn right after whatever concerns it, and whenever one may be due.

    The disk is waited for in a thread: what arrives meanwhile shares the next transaction.
    """

    def __init__(
        self,
        engine: RaftEngine,
        transport: GrpcTransport,
        leads: Callable[[], None] = lambda: None,
    ) -> None:
        """`transport` is the one that `engine` sends through. `leads` is called when this node has
        begun to lead."""
        self._engine = engine
        self._leads = leads
        self._led_term = 0
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._due: asyncio.Handle | None = None
        self._is_woken = False
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._writing: Turn | None = None
        engine.wake = self._wake
        transport.attach(self)

    async def run(self) -> None:
        """Drive the engine until `stop`. Raises what the engine raises; the process must end then,
        for the engine's memory and its journal may differ."""
        self._begin()
        try:
            await self._ended
            self._engine.stop()
        finally:
            if not self._ended.done():
                self._ended.cancel()
            if self._due is not None:
                self._due.cancel()
            # The store may be closed only when nobody writes.
            self._disk.shutdown()
            await self._transport.close()

    def stop(self) -> None:
        """End `run`. Whoever waits for a proposal is told that its outcome is unknown."""
        if not self._ended.done():
            self._ended.set_result(None)

    # What the transport tells.

    def receive(self, envelope: RaftEnvelope) -> str | None:
        """Hand a message to the engine, and tick soon."""
        if self._ended.done():
            return None
        try:
            return self._engine.receive(envelope)
        except BaseException as error:
            self._fail(error)
            raise

    def connected(self, node_id: int) -> None:
        """Tell the engine of a connection."""
        if not self._ended.done():
            self._engine.connected(node_id)

    def _wake(self) -> None:
        if not self._is_woken and not self._ended.done():
            self._is_woken = True
            if self._writing is None:
                self._schedule(0.0)

    def _schedule(self, delay_s: float) -> None:
        if self._due is not None:
            self._due.cancel()
        if delay_s:
            self._due = self._loop.call_later(delay_s, self._begin)
        else:
            self._due = self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._is_woken = False
        if self._ended.done():
            return
        try:
            turn = self._engine.begin()
            if turn.write is None:
                self._end(turn)
            else:
                self._writing = turn
                self._disk.submit(self._engine.write, turn).add_done_callback(self._written)
        except BaseException as error:  # noqa: BLE001 - `run` raises it
            self._fail(error)

    def _written(self, written: "Future[None]") -> None:
        """In the thread of the disk."""
        self._loop.call_soon_threadsafe(self._go_on, written)

    def _go_on(self, written: "Future[None]") -> None:
        turn, self._writing = self._writing, None
        if self._ended.done() or turn is None:
            return
        try:
            written.result()
            self._end(turn)
        except BaseException as error:  # noqa: BLE001 - `run` raises it
            self._fail(error)

    def _end(self, turn: Turn) -> None:
        self._engine.end(turn)
        if self._engine.leads and self._engine.term != self._led_term:
            self._led_term = self._engine.term
            self._leads()
        self._schedule(0.0 if self._is_woken else self._engine.pause_s)

    def _fail(self, error: BaseException) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)
