"""The calls that read what a VM has written, and that sit at its console, wherever it runs.

The asked node finds the host in its own state, relays what that has to say, and goes on with the
next host when the VM has moved. Between nodes the same calls are asked with `local`: such a call
answers from its own node, and ends when the VM has left it.

Nothing is kept in between but a few messages: who reads slowly is waited for.
"""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Sequence,
)
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any, Final

import grpc

from blixard.machine.vms import no_such_vm
from blixard.model import Vm
from blixard.ports import Consoles, Output, OutputLine
from blixard.v1 import blixard_pb2 as pb
from blixard.v1 import blixard_pb2_grpc as rpc
from blixard.wire import checks
from blixard.wire.console_line import Lines, either, not_running, unanswered
from blixard.wire.node_log import NodeLog
from blixard.wire.peers import AT_ONCE
from blixard.wire.status import Refused, answers, refusal_in

Context = grpc.aio.ServicerContext[Any, Any]
Note = Callable[[str], Awaitable[None]]

RETRY_S: Final = 1.0
LONG_S: Final = 3_600.0
CATCH_UP_S: Final = 5.0
"""How long a host may take to learn what the asking node knows already."""
CHUNK_LINES: Final = 500
CHUNK_CHARACTERS: Final = 500_000
"""Between nodes a message has room for 4 MiB, and a character for 4 bytes."""
TYPED_AHEAD: Final = 16


@dataclass(frozen=True, slots=True)
class Place:
    """Where a VM runs, or ran last: then its epoch is 0."""

    node_id: int
    epoch: int

    @property
    def node(self) -> str:
        return f"node-{self.node_id}"


class ConsoleCalls:
    """`ClusterService`, the part about what VMs write and read."""

    def __init__(self, node: NodeLog, consoles: Consoles, builds: Output) -> None:
        self._node = node
        self._consoles = consoles
        self._builds = builds
        self._lines = Lines(node, consoles)

    # --- reading --------------------------------------------------------------------------------

    @answers
    async def ReadLog(self, request: pb.ReadLogRequest, context: Context) -> None:
        name = checks.vm_name(request.name)
        checks.lines(request.lines)
        if request.local:
            async with aclosing(self._read_here(request)) as chunks:
                async for chunk in chunks:
                    await context.write(chunk)
            return

        async def note(text: str) -> None:
            await context.write(pb.LogChunk(node=self._name, note=text))

        place: Place | None = self._place(name)
        silent: Place | None = None
        is_first = True
        asked = pb.ReadLogRequest()
        asked.CopyFrom(request)
        asked.local = True
        while place is not None:
            asked.epoch = place.epoch
            try:
                async with aclosing(self._read(place, asked)) as chunks:
                    async for chunk in chunks:
                        is_first, silent = False, None
                        await context.write(chunk)
            except Refused as refused:
                if is_first or not request.follow:
                    raise
                # That it has left, or is back, is seen in a moment.
                if silent != place:
                    silent = place
                    await note(f"{refused.rejected.message}; waiting for it")
            if not request.follow:
                return
            asked.lines = 0
            following = await self._next(name, place, note)
            asked.from_start = following != place
            place = following

    async def _read(
        self, place: Place, asked: pb.ReadLogRequest
    ) -> AsyncGenerator[pb.LogChunk, None]:
        """What a host tells of a placement."""
        if place.node_id == self._node.node_id:
            async with aclosing(self._read_here(asked)) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        async with grpc.aio.insecure_channel(self._address(place), options=AT_ONCE) as channel:
            try:
                async for chunk in rpc.ClusterServiceStub(channel).ReadLog(asked):
                    yield chunk
            except grpc.aio.AioRpcError as failed:
                raise refusal_in(failed) or unanswered(asked.name, place.node) from failed

    async def _read_here(self, asked: pb.ReadLogRequest) -> AsyncGenerator[pb.LogChunk, None]:
        """What this host has to tell, until the VM has left it."""

        def is_held() -> bool:
            return asked.epoch != 0 and self._lines.epoch_here(asked.name) == asked.epoch

        if asked.epoch:
            await self._node.until(
                lambda: self._lines.epoch_here(asked.name) >= asked.epoch, CATCH_UP_S
            )
        # A VM may be silent for long: whoever follows it is told that this host answers.
        yield pb.LogChunk(node=self._name)
        source = self._builds if asked.build else self._consoles
        epoch = asked.epoch if asked.from_start else None
        batches = source.lines(asked.name, asked.lines, epoch, lambda: asked.follow and is_held())
        async with aclosing(batches):
            async for batch in batches:
                for lines in _chunks(batch):
                    told = [pb.LogLine(at_ms=line.at_ms, text=line.text) for line in lines]
                    yield pb.LogChunk(node=self._name, lines=told)

    # --- sitting at a console -------------------------------------------------------------------

    @answers
    async def AttachConsole(
        self, requests: AsyncIterator[pb.ConsoleInput], context: Context
    ) -> None:
        opened = checks.console(await anext(requests, None))
        typed: asyncio.Queue[bytes | None] = asyncio.Queue(TYPED_AHEAD)
        listening = asyncio.create_task(_listen(requests, typed))
        try:
            if opened.local:
                async with self._lines.here(opened) as line:
                    await context.write(pb.ConsoleOutput(node=self._name))
                    await _talk(line, typed, context)
            else:
                await self._accompany(opened, typed, context)
        finally:
            listening.cancel()

    async def _accompany(
        self, opened: pb.ConsoleOpen, typed: "asyncio.Queue[bytes | None]", context: Context
    ) -> None:
        """Stay with a VM from one host to the next, until the person leaves."""

        async def note(text: str) -> None:
            await context.write(pb.ConsoleOutput(node=self._name, note=text))

        place: Place | None = self._running(opened.name)
        silent: Place | None = None
        is_first = True
        asked = pb.ConsoleOpen(name=opened.name, by=opened.by, local=True)
        while place is not None:
            asked.epoch = place.epoch
            try:
                own = place.node_id == self._node.node_id
                at = (
                    self._lines.here(asked)
                    if own
                    else self._lines.there(self._address(place), asked)
                )
                async with AsyncExitStack() as sitting:
                    # Until there is a console, what is typed is lost, but that somebody leaves.
                    which, line = await either(sitting.enter_async_context(at), _until_left(typed))
                    if which == 1:
                        return
                    is_first, silent = False, None
                    await note(f"at the console of {opened.name} on {place.node}")
                    if await _talk(line, typed, context):
                        return
            except Refused as refused:
                if is_first:
                    raise
                if silent != place:
                    silent = place
                    await note(f"{refused.rejected.message}; waiting for it")
            # What is typed to a VM that is nowhere is lost.
            which, place = await either(self._next(opened.name, place, note), _until_left(typed))
            if which == 1:
                return

    # --- where it is ----------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return f"node-{self._node.node_id}"

    def _vm(self, name: str) -> Vm | None:
        return self._node.log.cluster().vms.get(name)

    def _address(self, place: Place) -> str:
        node = self._node.log.cluster().nodes.get(place.node_id)
        return node.address if node is not None else ""

    def _place(self, name: str) -> Place:
        """Where what a VM wrote last can be read. Raises `Refused`."""
        vm = self._vm(name)
        if vm is None:
            raise Refused(no_such_vm(name))
        if vm.holder is not None:
            return Place(vm.holder.node_id, vm.holder.epoch)
        if vm.last_node is not None:
            return Place(vm.last_node, 0)
        raise Refused(not_running(vm, "it has not run yet, so it has written nothing"))

    def _running(self, name: str) -> Place:
        """Where a VM has a console. Raises `Refused`."""
        place = self._place(name)
        vm = self._vm(name)
        if place.epoch == 0 and vm is not None:
            raise Refused(not_running(vm, "it runs nowhere, so it has no console"))
        return place

    async def _next(self, name: str, place: Place, note: Note) -> Place | None:
        """Where a VM goes on once it is no longer at `place`, or `place` again if it is still
        there; None if it was deleted."""

        def holder() -> Place | None:
            vm = self._vm(name)
            held = vm.holder if vm is not None else None
            return Place(held.node_id, held.epoch) if held is not None else None

        if not await self._node.until(lambda: holder() != place, RETRY_S):
            return place
        vm = self._vm(name)
        if vm is not None and vm.holder is None:
            await note(f"{name} is {vm.state.value}: {vm.reason.text}; waiting for it")
        while (following := holder()) is None and self._vm(name) is not None:
            await self._node.until(lambda: holder() is not None or self._vm(name) is None, LONG_S)
        if following is None:
            await note(f"{name} is deleted")
        elif following.node_id == place.node_id:
            await note(f"{name} starts again on {following.node}")
        else:
            await note(f"{name} has moved from {place.node} to {following.node}")
        return following


def _chunks(batch: Sequence[OutputLine]) -> Iterator[Sequence[OutputLine]]:
    """Lines, as many at once as a message has room for."""
    chunk: list[OutputLine] = []
    size = 0
    for line in batch:
        chunk.append(line)
        size += len(line.text)
        if len(chunk) == CHUNK_LINES or size >= CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


async def _listen(
    requests: AsyncIterator[pb.ConsoleInput], typed: "asyncio.Queue[bytes | None]"
) -> None:
    """Take what is typed; None is put last, when the person has left."""
    async for message in requests:
        if message.data:
            await typed.put(message.data)
    await typed.put(None)


async def _until_left(typed: "asyncio.Queue[bytes | None]") -> None:
    while await typed.get() is not None:
        pass


async def _talk(line: Any, typed: "asyncio.Queue[bytes | None]", context: Context) -> bool:
    """Pass on both ways, until the guest has ended, or the person has left: then True."""

    async def show() -> None:
        while data := await line.read():
            await context.write(pb.ConsoleOutput(data=data))

    async def type_in() -> None:
        while (data := await typed.get()) is not None:
            await line.write(data)

    return (await either(show(), type_in()))[0] == 1
