"""What is told of calls, by their methods and statuses."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from blixard.v1 import blixard_pb2 as pb
from wire.conftest import Served, Serving


def test_every_call_is_told_with_its_status(serving: Serving) -> None:
    async def story(served: Served) -> None:
        await served.raft.GetRaftStatus(pb.GetRaftStatusRequest())
        await served.refusal(lambda: served.stub.GetVmStatus(pb.GetVmStatusRequest(name="none")))
        requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        async for _ in served.reflection.ServerReflectionInfo(requests):
            pass
        watching = served.health.Watch(health_pb2.HealthCheckRequest())
        await watching.read()
        watching.cancel()
        with pytest.raises(grpc.aio.AioRpcError):
            await served.health.Check(health_pb2.HealthCheckRequest(service="none"))
        async with asyncio.timeout(5):
            # A caller hears of its end before the server has counted it.
            while len(served.meters.calls) < 5:
                await asyncio.sleep(0.01)
        assert served.meters.calls[:3] == [
            ("GetRaftStatus", "OK"),
            ("GetVmStatus", "NOT_FOUND"),
            ("ServerReflectionInfo", "OK"),
        ]
        assert sorted(served.meters.calls[3:]) == [("Check", "NOT_FOUND"), ("Watch", "CANCELLED")]
        assert served.meters.timed_calls == ["GetRaftStatus"]

    serving(story)
