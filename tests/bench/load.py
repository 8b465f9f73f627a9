"""One client of whatever speaks gRPC: repeats a call and prints how long each took, as JSON.

A process of its own, and blind to what it carries, so that every server is asked by the same code.
"""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

WARM_UP = 50
"""Calls of each task that are not counted."""


@dataclass(frozen=True)
class Measured:
    """What came of it."""

    times_ms: list[float]
    """Of each call, in no order."""
    seconds: float
    """From the first counted call to the last."""
    answer: bytes
    """The last one."""

    @property
    def per_second(self) -> float:
        return len(self.times_ms) / self.seconds


def call(address: str, method: str, request: bytes, in_flight: int, seconds: float) -> Measured:
    """Repeat a call from another process, `in_flight` at a time, for so long."""
    printed = subprocess.run(
        [sys.executable, __file__, address, method, request.hex(), str(in_flight), str(seconds)],
        check=True,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    ).stdout
    measured = json.loads(printed)
    return Measured(measured["times_ms"], measured["seconds"], bytes.fromhex(measured["answer"]))


async def _run(
    address: str, method: str, request: bytes, in_flight: int, seconds: float
) -> dict[str, object]:
    times_ms: list[float] = []
    answer = b""
    began = ends = float("inf")
    async with grpc.aio.insecure_channel(address) as channel:
        procedure: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)

        async def repeat() -> None:
            nonlocal answer, began, ends
            for _ in range(WARM_UP):
                await procedure(request)
            began = min(began, time.perf_counter())
            ends = min(ends, began + seconds)
            while (sent := time.perf_counter()) < ends:
                answer = await procedure(request)
                times_ms.append((time.perf_counter() - sent) * 1000)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(in_flight):
                tasks.create_task(repeat())
    return {
        "times_ms": times_ms,
        "seconds": time.perf_counter() - began,
        "answer": answer.hex(),
    }


if __name__ == "__main__":
    to, what, content, at_once, duration = sys.argv[1:]
    print(
        json.dumps(
            asyncio.run(_run(to, what, bytes.fromhex(content), int(at_once), float(duration)))
        )
    )
