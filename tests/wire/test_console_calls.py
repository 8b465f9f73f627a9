"""What VMs write, and their consoles, over a real server."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import pytest

from blixard.commands import CreateVm, PlaceVm, RegisterNode
from blixard.errors import BlixardError, Code
from blixard.model import Capacity, VmSpec
from blixard.ports import OutputLine
from blixard.source import StoreSource
from blixard.v1 import blixard_pb2 as pb
from blixard.v1 import blixard_pb2_grpc as rpc
from blixard.wire.peers import AT_ONCE
from wire.conftest import NoConsoles, Served, Serving

POLL_S = 0.01


class Guest:
    """Has a console once `is_there`, and says nothing; of who was there it tells."""

    def __init__(self) -> None:
        self.is_there = False
        self.asked = 0
        self.heard = b""
        self.closed = 0

    async def attach(self, _: str) -> "Guest":
        self.asked += 1
        if not self.is_there:
            raise BlixardError("there is no console to attach to", code=Code.NOT_RUNNING)
        return self

    async def is_asked_again(self) -> None:
        """Return once somebody has waited a while for a console that is not there."""
        often = self.asked + 3
        async with asyncio.timeout(5):
            while self.asked < often:
                await asyncio.sleep(POLL_S)

    async def read(self) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def write(self, data: bytes) -> None:
        self.heard += data

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Guest:
    guest = Guest()
    monkeypatch.setattr(NoConsoles, "attach", lambda _, name: guest.attach(name))
    return guest


def placed(served: Served) -> None:
    """A VM that its host builds."""
    for command in (
        RegisterNode(1, "m", "j", "a:1", 0, Capacity(8, 8192), "1.0"),
        CreateVm("web", VmSpec(StoreSource("/nix/store/0-vm"), 1, 256)),
    ):
        served.log.propose(command, lambda _: None)
    [vm], [node] = served.log.cluster().vms.values(), served.log.cluster().nodes.values()
    served.log.propose(PlaceVm("web", vm.uid, 1, node.incarnation), lambda _: None)


async def sat_down(served: Served) -> Any:
    call = served.stub.AttachConsole()
    await call.write(pb.ConsoleInput(open=pb.ConsoleOpen(name="web", by="me")))
    return call


def test_who_waits_for_a_console_can_leave(serving: Serving, guest: Guest) -> None:
    async def test(served: Served) -> None:
        placed(served)
        call = await sat_down(served)
        await guest.is_asked_again()
        await call.done_writing()
        async with asyncio.timeout(5):
            assert await call.read() is grpc.aio.EOF
        guest.is_there = True
        again = await sat_down(served)
        async with asyncio.timeout(5):
            assert (await again.read()).note == "at the console of web on node-1"

    serving(test)


def test_what_is_typed_before_there_is_a_console_is_lost(serving: Serving, guest: Guest) -> None:
    async def test(served: Served) -> None:
        placed(served)
        call = await sat_down(served)
        await call.write(pb.ConsoleInput(data=b"to nobody\n"))
        await guest.is_asked_again()
        guest.is_there = True
        async with asyncio.timeout(5):
            assert (await call.read()).note == "at the console of web on node-1"
            await call.write(pb.ConsoleInput(data=b"to the guest\n"))
            while b"to the guest" not in guest.heard:
                await asyncio.sleep(POLL_S)
        assert guest.heard == b"to the guest\n"

    serving(test)


def test_who_is_gone_leaves_the_console_to_others(serving: Serving, guest: Guest) -> None:
    async def test(served: Served) -> None:
        placed(served)
        guest.is_there = True
        for times in (1, 2, 3):
            call = await sat_down(served)
            async with asyncio.timeout(5):
                assert (await call.read()).note == "at the console of web on node-1"
                call.cancel()
                while guest.closed < times:
                    await asyncio.sleep(POLL_S)

    serving(test)


def test_long_lines_pass_between_nodes(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lines(*_: Any) -> AsyncGenerator[list[OutputLine], None]:
        yield [OutputLine(0, "\N{REPLACEMENT CHARACTER}" * 20_000)] * 600

    monkeypatch.setattr(NoConsoles, "lines", lines)

    async def test(served: Served) -> None:
        asked = pb.ReadLogRequest(name="web", lines=600, local=True)
        async with grpc.aio.insecure_channel(f"unix:{served.socket}", options=AT_ONCE) as channel:
            call = rpc.ClusterServiceStub(channel).ReadLog(asked)
            told = [line async for chunk in call for line in chunk.lines]
        assert len(told) == 600

    serving(test)
