"""Drives one engine on an asyncio loop."""

import asyncio
from typing import Final

from blixard.raft.engine import RaftEngine
from blixard.raft.transport import GrpcTransport
from blixard.v1.raft_pb2 import RaftEnvelope

TICK_S: Final = 0.02


class EngineRunner:
    """Ticks an engine every 20 ms, and right after whatever concerns it: once for everything that
    arrived in the same turn of the loop, so that all of it shares one transaction."""

    def __init__(self, engine: RaftEngine, transport: GrpcTransport) -> None:
        """`transport` is the one that `engine` sends through."""
        self._engine = engine
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._due: asyncio.Handle | None = None
        self._is_woken = False
        engine.wake = self._wake
        transport.attach(self)

    async def run(self) -> None:
        """Drive the engine until `stop`. Raises what the engine raises; the process must end then,
        for the engine's memory and its journal may differ."""
        self._tick()
        try:
            await self._ended
            self._engine.stop()
        finally:
            if not self._ended.done():
                self._ended.cancel()
            if self._due is not None:
                self._due.cancel()
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
            self._schedule(0.0)

    def _schedule(self, delay_s: float) -> None:
        if self._due is not None:
            self._due.cancel()
        if delay_s:
            self._due = self._loop.call_later(delay_s, self._tick)
        else:
            self._due = self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        self._is_woken = False
        if self._ended.done():
            return
        try:
            self._engine.tick()
        except BaseException as error:  # noqa: BLE001 - `run` raises it
            self._fail(error)
            return
        if not self._is_woken:
            self._schedule(TICK_S)

    def _fail(self, error: BaseException) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)
