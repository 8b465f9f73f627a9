"""What VMs write, and their consoles, over a real server."""

from collections.abc import AsyncGenerator
from typing import Any

import grpc
import pytest

from blixard.ports import OutputLine
from blixard.v1 import blixard_pb2 as pb
from blixard.v1 import blixard_pb2_grpc as rpc
from blixard.wire.peers import AT_ONCE
from wire.conftest import NoConsoles, Served, Serving


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
