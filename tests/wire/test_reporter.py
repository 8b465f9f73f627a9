"""A node's word on its way to the leader: it comes back, and holds up nothing beside it."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import pytest

from blixard import codec
from blixard.commands import Entry, Renewal, RenewLeases
from blixard.model import Accepted, Outcome
from blixard.ports import Unavailable
from blixard.v1 import blixard_pb2 as pb
from blixard.v1 import blixard_pb2_grpc as rpc
from blixard.wire import peers
from blixard.wire.peers import Reporter

ENTRY = codec.encode_entry(Entry(RenewLeases((Renewal(1, 3, 5),)), 0))
Story = Callable[[], Coroutine[Any, Any, None]]


class Leader(rpc.ClusterServiceServicer):
    """Answers at once, or never."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.asked = asyncio.Event()
        self._hangs = hangs
        self._server = grpc.aio.server()

    async def start(self) -> str:
        rpc.add_ClusterServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return f"127.0.0.1:{port}"

    async def stop(self) -> None:
        await self._server.stop(0)

    async def SubmitReport(self, request: Any, context: Any) -> pb.SubmitReportResponse:  # noqa: N802 - gRPC's names
        self.asked.set()
        if self._hangs:
            await asyncio.Event().wait()
        return pb.SubmitReportResponse(outcome=codec.encode_outcome(Accepted(9)))


def carried(reporter: Reporter, address: str) -> "asyncio.Future[Outcome | Unavailable]":
    """Begin to carry an entry; the future holds what came of it, which is told once."""
    told: asyncio.Future[Outcome | Unavailable] = asyncio.get_running_loop().create_future()
    reporter.carry(address, ENTRY, told.set_result)
    return told


def within(seconds: float, story: Story) -> None:
    async def run() -> None:
        async with asyncio.timeout(seconds):
            await story()

    asyncio.run(run())


def test_what_is_under_way_to_an_earlier_leader_ends_as_unavailable() -> None:
    async def story() -> None:
        earlier, later = Leader(hangs=True), Leader()
        first, second = await earlier.start(), await later.start()
        reporter = Reporter(1)
        waiting = [carried(reporter, first) for _ in range(3)]
        await earlier.asked.wait()
        assert await carried(reporter, second) == Accepted(9)
        for told in waiting:
            assert isinstance(await told, Unavailable)
        back = carried(reporter, first)
        once_more = carried(reporter, second)
        assert await once_more == Accepted(9)
        assert isinstance(await back, Unavailable)
        await reporter.close()
        await earlier.stop()
        await later.stop()

    within(8, story)


@pytest.mark.parametrize("hung", ["connect", "name"])
def test_a_leader_that_cannot_be_reached_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch, hung: str
) -> None:
    """One that takes connections and says nothing, and one whose name nobody looks up."""
    monkeypatch.setattr(peers, "REPORT_TIMEOUT_S", 1.0)

    async def story() -> None:
        leader = Leader()
        reachable = await leader.start()
        with socket.socket() as mute:
            mute.bind(("127.0.0.1", 0))
            mute.listen()
            port = mute.getsockname()[1]
            address = f"127.0.0.1:{port}" if hung == "connect" else "dns://127.0.0.1:9/node:7001"
            reporter = Reporter(1)
            stuck = [carried(reporter, address) for _ in range(3)]
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            assert await carried(reporter, reachable) == Accepted(9)
            assert loop.time() - began_s < 0.5
            for told in stuck:
                assert isinstance(await told, Unavailable)
            await reporter.close()
        await leader.stop()

    within(8, story)


def test_nothing_is_left_when_it_is_closed() -> None:
    async def story() -> None:
        leader = Leader(hangs=True)
        reporter = Reporter(1)
        told = carried(reporter, await leader.start())
        await leader.asked.wait()
        await reporter.close()
        assert not told.done()
        assert not reporter._under_way
        await leader.stop()

    within(8, story)
