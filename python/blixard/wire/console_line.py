"""Lines to consoles: one person at a time, at this host or at another."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

import grpc

from blixard.errors import BlixardError, Code
from blixard.model import Fix, Rejected, State, Vm
from blixard.ports import Attached, Consoles
from blixard.v1 import blixard_pb2 as pb
from blixard.v1 import blixard_pb2_grpc as rpc
from blixard.wire.node_log import LOOK_EVERY_S, NodeLog
from blixard.wire.peers import AT_ONCE
from blixard.wire.status import Refused, refusal_in

CATCH_UP_S: Final = 5.0


class Lines:
    """The consoles of this host, with who holds each, and the way to those of others."""

    def __init__(self, node: NodeLog, consoles: Consoles) -> None:
        self._node = node
        self._consoles = consoles
        self._held: dict[str, tuple[str, float]] = {}
        """By VM: who, and since when in seconds since 1970."""

    def epoch_here(self, name: str) -> int:
        """The placement of a VM that this node holds; 0 if it holds none."""
        vm = self._node.log.cluster().vms.get(name)
        holder = vm.holder if vm is not None else None
        return holder.epoch if holder is not None and holder.node_id == self._node.node_id else 0

    @contextlib.asynccontextmanager
    async def here(self, asked: pb.ConsoleOpen) -> AsyncIterator[Attached]:
        """Hold a console of this host. Raises `Refused` if another does, or if there is none."""
        if asked.name in self._held:
            raise Refused(_held(asked.name, *self._held[asked.name]))
        self._held[asked.name] = (asked.by, time.time())
        try:
            line = await self._attached(asked.name, asked.epoch)
            try:
                yield line
            finally:
                line.close()
        finally:
            del self._held[asked.name]

    async def _attached(self, name: str, epoch: int) -> Attached:
        """A VM that is about to be started has no console yet: it is waited for."""
        await self._node.until(lambda: self.epoch_here(name) >= epoch, CATCH_UP_S)
        while True:
            vm = self._node.log.cluster().vms.get(name)
            try:
                return await self._consoles.attach(name)
            except BlixardError as none:
                if vm is None or self.epoch_here(name) != epoch:
                    raise Refused(_gone(name, self._node.node_id)) from none
                if vm.state not in (State.BUILDING, State.STARTING):
                    raise Refused(_no_console(vm, none)) from none
            await self._node.until(lambda: self.epoch_here(name) != epoch, LOOK_EVERY_S)

    @contextlib.asynccontextmanager
    async def there(self, address: str, asked: pb.ConsoleOpen) -> AsyncIterator[Attached]:
        """Hold a console of another host. Raises `Refused` as that host does, or if it does not
        answer."""
        node = f"node-{self._holder(asked)}"
        async with grpc.aio.insecure_channel(address, options=AT_ONCE) as channel:
            call = rpc.ClusterServiceStub(channel).AttachConsole()
            line = _Relayed(call, asked.name, node)
            try:
                await line.open(asked)
                yield line
            finally:
                call.cancel()

    def _holder(self, asked: pb.ConsoleOpen) -> int:
        vm = self._node.log.cluster().vms.get(asked.name)
        return vm.holder.node_id if vm is not None and vm.holder is not None else 0


class _Relayed:
    """Implements `ports.Attached` by a call to another node."""

    def __init__(self, call: Any, name: str, node: str) -> None:
        self._call = call
        self._name = name
        self._node = node

    async def open(self, asked: pb.ConsoleOpen) -> None:
        """Returns once the host has said that the console is held."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # why is read
            await self._call.write(pb.ConsoleInput(open=asked))
        await self._message()

    async def read(self) -> bytes:
        message = await self._message()
        return message.data if message is not None else b""

    async def _message(self) -> pb.ConsoleOutput | None:
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as failed:
            raise refusal_in(failed) or unanswered(self._name, self._node) from failed
        return None if message is grpc.aio.EOF else message

    async def write(self, data: bytes) -> None:
        # That it has ended is read.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(pb.ConsoleInput(data=data))

    def close(self) -> None:
        self._call.cancel()


async def either(*works: Coroutine[Any, Any, Any]) -> tuple[int, Any]:
    """Run all until the first ends: which one, and with what. The others are cancelled. Raises what
    that one raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    first = next(task for task in tasks if task in ended)
    return tasks.index(first), first.result()


# --- refusals -----------------------------------------------------------------------------------

_WAYS: Final = {
    State.STOPPED: ("start it", "blixard vm start {}"),
    State.FAILED: ("see what it wrote last", "blixard vm logs {}"),
}
_SEE: Final = ("see what it waits for", "blixard vm status {}")


def not_running(vm: Vm, why: str) -> Rejected:
    """Of a VM that runs nowhere."""
    text, command = _WAYS.get(vm.state, _SEE) if vm.last_node is not None else _SEE
    if vm.state is State.STOPPED:
        text, command = _WAYS[State.STOPPED]
    return Rejected(
        Code.NOT_RUNNING,
        f"{vm.name} is {vm.state.value}: {vm.reason.text}",
        why=why,
        fixes=(Fix(text, command.format(vm.name)),),
    )


def unanswered(name: str, node: str) -> Refused:
    """Of a host that says nothing."""
    return Refused(
        Rejected(
            Code.NO_ROUTE,
            f"{node} does not answer, where {name} is",
            why="the daemon there may be down, or the host lost; the VM may run all the same",
            fixes=(
                Fix("see which nodes answer", "blixard node list"),
                Fix(f"on {node}", "systemctl status blixard"),
            ),
        )
    )


def _held(name: str, by: str, since_s: float) -> Rejected:
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(since_s))
    return Rejected(
        Code.CONSOLE_HELD,
        f"the console of {name} is held by {by} since {since}",
        why="one person at a time sits at a console",
        fixes=(
            Fix("read along", f"blixard vm logs {name} --follow"),
            Fix(f"or ask {by} to leave it, with Ctrl-]"),
        ),
    )


def _gone(name: str, node_id: int) -> Rejected:
    return Rejected(
        Code.NOT_RUNNING,
        f"{name} is no longer on node-{node_id}",
        why="it has just been stopped or moved",
        fixes=(Fix("see where it is", f"blixard vm status {name}"),),
    )


def _no_console(vm: Vm, none: BlixardError) -> Rejected:
    return Rejected(
        Code.NOT_RUNNING,
        f"{vm.name} is {vm.state.value}, but {none.message}",
        why=none.remedy,
        fixes=(
            Fix("read what it writes", f"blixard vm logs {vm.name} --follow"),
            Fix("restart it", f"blixard vm restart {vm.name}"),
        ),
    )
