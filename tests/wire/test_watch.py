"""Watching over real gRPC."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import pytest

from blixard.commands import (
    Command,
    CreateVm,
    DeleteVm,
    RegisterNode,
    Renewal,
    RenewLeases,
    StopVm,
)
from blixard.errors import Code
from blixard.machine.changes import Batch, Event
from blixard.model import Capacity, VmSpec
from blixard.source import StoreSource
from blixard.v1 import blixard_pb2 as pb
from blixard.wire import actor, watch_calls
from blixard.wire.recent import RecentEvents
from wire.conftest import Served, Serving

SPEC = VmSpec(StoreSource("/nix/store/0-vm"), 1, 256)
REGISTER = RegisterNode(1, "m", "j", "a:1", 0, Capacity(8, 8192), "1.0")
DEADLINE_S = 10
EVENT = Event(0, 0, "vm", "web", "vm-running", "", "node-1", "ReportVm")


def propose(served: Served, *commands: Command, by: str = "anna@desk") -> None:
    for command in commands:
        served.log.propose(command, lambda _: None, None, by)


def create(name: str) -> CreateVm:
    return CreateVm(name, SPEC)


async def tell(stream: Any, count: int) -> list[pb.WatchResponse]:
    """The next responses of a stream."""
    async with asyncio.timeout(DEADLINE_S):
        return [await stream.read() for _ in range(count)]


def short(response: pb.WatchResponse) -> tuple[Any, ...]:
    match response.type:
        case "event":
            return response.event.code, response.event.subject, response.index
        case "put":
            return "put", response.vm.name or response.node.name, response.index, response.initial
        case "delete":
            return "delete", response.name, response.index
        case other:
            return other, response.index


async def all_of(stream: AsyncIterator[pb.WatchResponse]) -> list[tuple[Any, ...]]:
    async with asyncio.timeout(DEADLINE_S):
        return [short(response) async for response in stream]


def test_what_happens_is_told_with_its_cause(serving: Serving) -> None:
    async def session(served: Served) -> None:
        propose(served, REGISTER, create("web"))
        stream = served.stub.Watch(pb.WatchRequest())
        assert [short(one) for one in await tell(stream, 1)] == [("synced", 2)]
        propose(served, StopVm("web"))
        [told] = await tell(stream, 1)
        event = told.event
        assert (told.type, told.index, event.index) == ("event", 3, 3)
        assert (event.kind, event.subject, event.code) == ("vm", "web", "vm-stopped")
        assert (event.actor, event.cause, event.grave) == ("anna@desk", "StopVm", False)
        assert event.at_ms > 0
        assert event.text == "web is stopped: stopped by request"

    serving(session)


def test_a_watch_is_resumed_by_index(serving: Serving) -> None:
    async def session(served: Served) -> None:
        propose(served, REGISTER, create("a"), create("b"), create("c"))
        for since in range(5):
            told = await all_of(served.stub.Watch(pb.WatchRequest(since_index=since, finite=True)))
            names = [one[1] for one in told if one[0] == "vm-created"]
            assert names == ["a", "b", "c"][max(0, since - 1) :]
            assert told[-1] == ("synced", 4)
        last = await all_of(served.stub.Watch(pb.WatchRequest(last=2, finite=True)))
        assert last == [("vm-created", "b", 3), ("vm-created", "c", 4), ("synced", 4)]

    serving(session)


def test_objects_come_as_they_are_and_when_they_change(serving: Serving) -> None:
    async def session(served: Served) -> None:
        propose(served, REGISTER, create("a"), create("b"))
        stream = served.stub.Watch(pb.WatchRequest(objects=True))
        assert [short(one) for one in await tell(stream, 4)] == [
            ("put", "node-1", 3, True),
            ("put", "a", 3, True),
            ("put", "b", 3, True),
            ("synced", 3),
        ]
        # A renewal is no news: what comes next is the deletion.
        propose(served, RenewLeases((Renewal(1, 1, 7),)), DeleteVm("a"))
        assert [short(one) for one in await tell(stream, 2)] == [
            ("vm-deleted", "a", 5),
            ("delete", "a", 5),
        ]

    serving(session)


def test_only_what_is_wanted_is_told(serving: Serving) -> None:
    async def session(served: Served) -> None:
        propose(served, REGISTER, create("a"), create("b"))
        of_b = pb.WatchRequest(since_index=0, finite=True, vms=["b"], objects=True)
        assert await all_of(served.stub.Watch(of_b)) == [
            ("vm-created", "b", 3),
            ("put", "b", 3, True),
            ("synced", 3),
        ]
        of_node = pb.WatchRequest(last=9, finite=True, nodes=["node-1"])
        codes = [one[0] for one in await all_of(served.stub.Watch(of_node))]
        assert codes == ["node-joined", "node-registered", "synced"]

    serving(session)


def test_a_stream_that_is_quiet_says_that_it_lives(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_calls, "HEARTBEAT_S", 0.05)

    async def session(served: Served) -> None:
        propose(served, REGISTER)
        stream = served.stub.Watch(pb.WatchRequest(vms=["none"]))
        propose(served, create("web"))
        told = [short(one) for one in await tell(stream, 3)]
        assert told == [("synced", 2), ("heartbeat", 2), ("heartbeat", 2)]

    serving(session)


def test_an_index_that_is_forgotten_is_refused(serving: Serving) -> None:
    async def session(served: Served) -> None:
        propose(served, REGISTER, create("a"))
        served.node.tell(Batch(2, is_gap=True))
        propose(served, create("b"))
        status, refused = await served.refusal(
            lambda: served.stub.Watch(pb.WatchRequest(since_index=1)).read()
        )
        assert status is grpc.StatusCode.FAILED_PRECONDITION
        assert refused.rejected.code is Code.EVENTS_GONE
        assert "the first index known is 2" in refused.rejected.message
        assert refused.rejected.fixes[0].command == "blixard events --since 2"
        known = await all_of(served.stub.Watch(pb.WatchRequest(since_index=2, finite=True)))
        assert known == [("vm-created", "b", 3), ("synced", 3)]

    serving(session)


def test_a_request_that_makes_no_sense_is_refused(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_calls, "CATCH_UP_S", 0.05)

    async def session(served: Served) -> None:
        propose(served, REGISTER)
        for request, said in (
            (pb.WatchRequest(since_index=99), "99 is ahead of node-1, which is at 1"),
            (pb.WatchRequest(since_index=0, last=5), "since_index and last"),
        ):
            _, refused = await served.refusal(served.stub.Watch(request).read)
            assert refused.rejected.code is Code.BAD_ARGUMENT
            assert said in refused.rejected.message

    serving(session)


def test_a_watcher_that_reads_nothing_holds_nobody_up_and_is_told(serving: Serving) -> None:
    async def session(served: Served) -> None:
        served.node.recent = RecentEvents(most=50)
        propose(served, REGISTER)
        stream = served.stub.Watch(pb.WatchRequest())
        await tell(stream, 1)
        sluggish = served.stub.Watch(pb.WatchRequest(since_index=0))
        loop = asyncio.get_running_loop()
        longest_s = 0.0
        # More than the connection takes on while nobody reads.
        for number in range(1_500):
            served.node.tell(_loud(served, number))
            began_s = loop.time()
            await asyncio.sleep(0)
            longest_s = max(longest_s, loop.time() - began_s)
            if number % 20 == 0:
                await tell(stream, 20 if number else 1)
        assert longest_s < 1.0
        status, refused = await served.refusal(lambda: all_of(sluggish))
        assert status is grpc.StatusCode.FAILED_PRECONDITION
        assert refused.rejected.code is Code.EVENTS_GONE

    def _loud(served: Served, number: int) -> Batch:
        served.log.index += 1
        event = replace(EVENT, index=served.log.index, text=f"{number} {'x' * 4_000}")
        return Batch(served.log.index, (event,))

    serving(session)


def test_a_node_that_stops_sends_its_watchers_elsewhere(serving: Serving) -> None:
    async def session(served: Served) -> None:
        stream = served.stub.Watch(pb.WatchRequest())
        await tell(stream, 1)
        served.node.close()
        status, refused = await served.refusal(stream.read)
        assert status is grpc.StatusCode.UNAVAILABLE
        assert refused.rejected.message == "node-1 stops"

    serving(session)


def test_who_asks_goes_into_the_log(serving: Serving) -> None:
    async def session(served: Served) -> None:
        propose(served, REGISTER, create("web"))
        stream = served.stub.Watch(pb.WatchRequest())
        await tell(stream, 1)
        request = pb.StopVmRequest(name="web")
        await served.stub.StopVm(request, metadata=((actor.KEY, "bob@laptop"),))
        [told] = await tell(stream, 1)
        assert told.event.actor == "bob@laptop"
        await served.stub.StartVm(pb.StartVmRequest(name="web"))
        [told] = await tell(stream, 1)
        assert told.event.actor == ""
        await served.stub.StopVm(request, metadata=((actor.KEY, "x" * actor.LONGEST),))
        _, refused = await served.refusal(
            lambda: served.stub.StopVm(request, metadata=((actor.KEY, "x" * (actor.LONGEST + 1)),))
        )
        assert refused.rejected.code is Code.BAD_ARGUMENT
        assert refused.rejected.message.startswith("blixard-actor: ")

    serving(session)
