"""Nodes that talk over real gRPC, driven by a real loop."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from blixard.errors import BlixardError
from blixard.raft.engine import Applied
from blixard.raft.recovery import bootstrap, join
from blixard.raft.store import Batch, SqliteStore
from blixard.raft.transport import QUEUE_MESSAGES, GrpcTransport
from blixard.v1 import blixard_pb2_grpc as rpc
from blixard.v1.raft_pb2 import RaftAck, RaftEnvelope
from raft.grpc_node import GrpcNode

DEADLINE_S = 20


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            await asyncio.sleep(0.01)


def begin(folder: Path, node_id: int, port: int) -> None:
    store = SqliteStore(folder)
    if node_id == 1:
        bootstrap(store, "c1", 1, f"127.0.0.1:{port}")
    else:
        join(store, "c1", node_id)
    store.close()


class Cluster:
    """Nodes by id, each with a folder and a port that outlive it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: dict[int, GrpcNode] = {}
        self.ports: dict[int, int] = {}

    async def start(self, node_id: int) -> GrpcNode:
        folder = self.folder / str(node_id)
        known = node_id in self.ports
        node = GrpcNode(node_id, folder, self.ports.get(node_id, 0))
        self.ports[node_id] = node.port
        if not known:
            node._store.close()
            begin(folder, node_id, node.port)
            node._store = SqliteStore(folder)
        await node.start()
        self.nodes[node_id] = node
        return node

    async def found(self, count: int) -> "Cluster":
        await self.start(1)
        await until(lambda: self.leader() is not None)
        for node_id in range(2, count + 1):
            node = await self.start(node_id)
            leader = self.leader()
            assert leader is not None
            outcome = await leader.ask(leader.engine.add_member, node_id, node.address)
            assert isinstance(outcome, Applied), outcome
        return self

    async def stop(self, node_id: int) -> None:
        await self.nodes.pop(node_id).stop()

    def leader(self) -> GrpcNode | None:
        leaders = [n for n in self.nodes.values() if n.engine.status().role == "leader"]
        return leaders[0] if len(leaders) == 1 else None

    async def commit(self, entry: bytes) -> None:
        await until(lambda: self.leader() is not None)
        leader = self.leader()
        assert leader is not None
        outcome = await leader.ask(leader.engine.propose, entry)
        assert isinstance(outcome, Applied), outcome

    def have(self, *entries: bytes) -> bool:
        return all(node.machine.entries == list(entries) for node in self.nodes.values())


@contextlib.asynccontextmanager
async def cluster(folder: Path, count: int) -> AsyncIterator[Cluster]:
    cluster = Cluster(folder)
    try:
        yield await cluster.found(count)
    finally:
        for node_id in list(cluster.nodes):
            await cluster.stop(node_id)


def test_three_nodes_over_grpc_survive_the_leader_and_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, 3) as three:
            await three.commit(b"a")
            await until(lambda: three.have(b"a"))
            old = three.leader()
            assert old is not None
            await three.stop(old.node_id)
            await three.commit(b"b")
            new = three.leader()
            assert new is not None
            assert new.led[-1:] == [new.engine.term], "it was told at once that it leads"
            await three.start(old.node_id)
            await until(lambda: three.have(b"a", b"b"))
            led = [term for node in three.nodes.values() for term in node.led]
            assert len(led) == len(set(led)), "once in each term, and one of them"

    asyncio.run(scenario())


def test_what_is_proposed_in_one_turn_shares_a_transaction(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, 1) as one:
            node = one.nodes[1]
            await one.commit(b"first")
            sequence = node.engine._journal._head.sequence
            asked = [node.ask(node.engine.propose, b"%d" % number) for number in range(50)]
            outcomes = await asyncio.gather(*asked)
            assert [outcome.__class__ for outcome in outcomes] == [Applied] * 50
            assert node.engine._journal._head.sequence == sequence + 1

    asyncio.run(scenario())


def test_a_refused_node_hears_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, 3) as three:
            leader = three.leader()
            assert leader is not None
            gone = next(node for node in three.nodes.values() if node is not leader)
            outcome = await leader.ask(leader.engine.remove_member, gone.node_id)
            assert isinstance(outcome, Applied)
            await three.commit(b"a")
            await until(lambda: leader.node_id in gone.transport.refusals)
            reason = f"node {gone.node_id} is not a member of this cluster"
            assert gone.transport.refusals[leader.node_id] == reason

    asyncio.run(scenario())


def test_an_engine_that_fails_ends_its_runner(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = await Cluster(tmp_path).found(1)
        node = one.nodes[1]

        def broken(index: int, entry: bytes) -> object:
            raise AssertionError(f"cannot apply {entry!r} at {index}")

        node.machine.apply = broken  # type: ignore[method-assign]
        node.engine.propose(b"a", lambda _: None)
        with pytest.raises(AssertionError, match="cannot apply b'a'"):
            await node.running
        node.running = asyncio.create_task(asyncio.sleep(0))
        await node.stop()

    asyncio.run(scenario())


class Sink(rpc.ClusterServiceServicer):
    """A peer that counts what it gets, as slowly as told."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.streams = 0
        self.go = asyncio.Event()
        self.arrived = asyncio.Event()

    async def SendRaftMessage(self, request_iterator: Any, context: Any) -> RaftAck:  # noqa: N802
        self.streams += 1
        async for envelope in request_iterator:
            await self.go.wait()
            self.got.append(envelope.sequence)
            self.arrived.set()
        return RaftAck()


class Listener:
    """Stands in for the engine."""

    def __init__(self) -> None:
        self.connections: list[int] = []

    def receive(self, envelope: RaftEnvelope) -> str | None:
        raise AssertionError(envelope)

    def connected(self, node_id: int) -> None:
        self.connections.append(node_id)


def test_a_link_keeps_order_loses_the_excess_and_reconnects() -> None:
    async def scenario() -> None:
        sink, listener, transport = Sink(), Listener(), GrpcTransport()
        transport.attach(listener)
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        rpc.add_ClusterServiceServicer_to_server(sink, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        address = f"127.0.0.1:{port}"
        many = 4 * QUEUE_MESSAGES
        for number in range(many):
            transport.send(2, address, RaftEnvelope(sequence=number, message=bytes(100_000)))
        sink.go.set()
        await until(lambda: bool(sink.got))
        for number in range(many, many + 10):
            transport.send(2, address, RaftEnvelope(sequence=number))
        await until(lambda: sink.got[-1] == many + 9)
        assert sink.got == sorted(sink.got)
        assert len(sink.got) <= QUEUE_MESSAGES + 10
        assert listener.connections == [2]
        await server.stop(None)

        again = Sink()
        again.go.set()
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        rpc.add_ClusterServiceServicer_to_server(again, server)
        assert server.add_insecure_port(address) == port
        await server.start()

        def repeated() -> bool:
            transport.send(2, address, RaftEnvelope(sequence=many + 100))
            return bool(again.got)

        await until(repeated)
        assert listener.connections[:2] == [2, 2]
        await transport.close()
        await server.stop(None)

    asyncio.run(scenario())


def test_a_new_address_replaces_the_link() -> None:
    async def scenario() -> None:
        transport = GrpcTransport()
        transport.attach(Listener())
        for number in range(2):
            sink, server = Sink(), grpc.aio.server()
            sink.go.set()
            rpc.add_ClusterServiceServicer_to_server(sink, server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            transport.send(2, f"127.0.0.1:{port}", RaftEnvelope(sequence=number))
            async with asyncio.timeout(DEADLINE_S):
                await sink.arrived.wait()
            assert sink.got == [number]
            await server.stop(None)
        await transport.close()

    asyncio.run(scenario())


def test_what_arrives_while_the_disk_writes_shares_the_next_transaction(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, 3) as three:
            leader = three.leader()
            assert leader is not None
            written: list[list[bytes]] = []
            is_writing, may_end = threading.Event(), threading.Event()
            commit = leader._store.commit

            def slow(batch: Batch) -> None:
                written.append([row.data[1:] for row in batch.rows])
                is_writing.set()
                assert may_end.wait(DEADLINE_S)
                commit(batch)

            leader._store.commit = slow  # type: ignore[method-assign]
            outcomes = [leader.ask(leader.engine.propose, b"a")]
            await until(is_writing.is_set)
            outcomes += [leader.ask(leader.engine.propose, entry) for entry in (b"b", b"c")]
            await asyncio.sleep(0)
            assert not any(outcome.done() for outcome in outcomes)
            may_end.set()
            for outcome in outcomes:
                assert isinstance(await outcome, Applied)
            assert written == [[b"a"], [b"b", b"c"]]

    asyncio.run(scenario())


def test_a_disk_that_fails_ends_the_run(tmp_path: Path) -> None:
    async def scenario() -> None:
        three = await Cluster(tmp_path).found(2)
        leader = three.leader()
        assert leader is not None

        def full(batch: Batch) -> None:
            raise BlixardError("the journal cannot be written: disk full")

        leader._store.commit = full  # type: ignore[method-assign]
        leader.engine.propose(b"a", lambda _: None)
        with pytest.raises(BlixardError, match="disk full"):
            await leader.running
        for node in three.nodes.values():
            with contextlib.suppress(BlixardError):
                await node.stop()

    asyncio.run(scenario())


def test_a_peer_that_comes_back_is_answered_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that was away for long is found again when it calls, not when patience says so."""

    async def scenario() -> None:
        async with cluster(tmp_path, 3) as three:
            await three.commit(b"a")
            leader = three.leader()
            assert leader is not None
            away = next(node for node in three.nodes if node != leader.node_id)
            monkeypatch.setattr(GrpcTransport, "backoff_s", lambda *_: 10 * DEADLINE_S)
            await three.stop(away)
            await until(lambda: leader.engine.status().heard_ms[away] > 1_000)
            await three.start(away)
            await three.commit(b"b")
            await until(lambda: three.have(b"a", b"b"))

    asyncio.run(scenario())
