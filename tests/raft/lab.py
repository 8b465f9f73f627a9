"""A cluster of engines in one process: real journals on disk, a clock and a network by hand."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from blixard.raft.engine import RaftEngine, RaftTimings
from blixard.raft.outcome import Outcome
from blixard.raft.recovery import bootstrap, join
from blixard.raft.store import Batch, Row, SqliteStore, Store, Stored
from blixard.v1.raft_pb2 import RaftEnvelope

CLUSTER = "c1"
STEP_S = 0.02


def address_of(node_id: int) -> str:
    return f"10.0.0.{node_id}:7001"


class Recorder:
    """A state machine that is its history."""

    def __init__(self) -> None:
        self.history: list[tuple[int, bytes]] = []

    def apply(self, index: int, entry: bytes) -> object:
        self.history.append((index, entry))
        return entry

    def snapshot(self) -> bytes:
        return b"".join(b"%d:%s\n" % item for item in self.history)

    def restore(self, data: bytes, index: int) -> None:
        lines = (line.split(b":", 1) for line in data.splitlines())
        self.history = [(int(index), entry) for index, entry in lines]

    @property
    def entries(self) -> list[bytes]:
        return [entry for _, entry in self.history]


class MemoryStore:
    """A perfect disk that takes no time; it outlives the node that uses it."""

    def __init__(self) -> None:
        self.head: bytes | None = None
        self.snapshot: bytes | None = None
        self.rows: dict[int, Row] = {}
        self.marks: list[bytes] = []
        self.commits = 0

    def load(self) -> Stored | None:
        if self.head is None:
            return None
        return Stored(self.head, self.snapshot, [self.rows[index] for index in sorted(self.rows)])

    def commit(self, batch: Batch) -> None:
        self.commits += 1
        self.head = batch.head
        self.rows = {i: row for i, row in self.rows.items() if batch.base < i <= batch.keep_to}
        self.rows.update((row.index, row) for row in batch.rows)
        self.snapshot = batch.snapshot or self.snapshot

    def read_marks(self) -> list[bytes]:
        return self.marks

    def write_mark(self, slot: int, mark: bytes) -> None:
        self.marks = self.marks or [b"", b""]
        self.marks[slot] = mark

    def close(self) -> None: ...


@dataclass
class Node:
    engine: RaftEngine
    machine: Recorder
    store: Store


@dataclass
class Lab:
    """Nodes by id; a message takes no time, unless a link is cut or a filter holds it."""

    folder: Path | None = None
    """Where the journals are; without it they are on perfect disks in memory."""
    timings: RaftTimings = field(default_factory=RaftTimings)
    machines: Callable[[int], Any] = lambda _: Recorder()
    """Makes the state machine of a node."""
    seed: int = 1
    now_s: float = 1000.0
    nodes: dict[int, Node] = field(default_factory=dict)
    disks: dict[int, MemoryStore] = field(default_factory=dict)
    cut: set[frozenset[int]] = field(default_factory=set)
    passes: Callable[[RaftEnvelope], bool] = lambda _: True
    refusals: list[tuple[int, str]] = field(default_factory=list)
    sent: list[RaftEnvelope] = field(default_factory=list)
    wire: deque[RaftEnvelope] = field(default_factory=deque)
    is_woken: bool = False

    def found(self, count: int) -> "Lab":
        """Found a cluster of `count` members, and wait for its leader."""
        self.create(1)
        self.until(lambda: self.leader() is not None)
        for node_id in range(2, count + 1):
            self.join(node_id)
            assert self.outcome(self.add, node_id).__class__.__name__ == "Applied"
        self.until(lambda: all(len(self.members(node)) == count for node in self.nodes))
        return self

    def open_store(self, node_id: int) -> Store:
        if self.folder is None:
            return self.disks.setdefault(node_id, MemoryStore())
        return SqliteStore(self.folder / str(node_id))

    def create(self, node_id: int) -> None:
        store = self.open_store(node_id)
        bootstrap(store, CLUSTER, node_id, address_of(node_id), birth=node_id)
        store.close()
        self.start(node_id)

    def join(self, node_id: int, birth: int = 0) -> None:
        store = self.open_store(node_id)
        join(store, CLUSTER, node_id, birth=birth or node_id)
        store.close()
        self.start(node_id)

    def start(self, node_id: int) -> Node:
        store = self.open_store(node_id)
        machine = self.machines(node_id)
        try:
            engine = RaftEngine(
                node_id,
                store,
                machine,
                self._send,
                lambda: self.now_s,
                Random(self.seed * 1000 + node_id),
                self.timings,
            )
        except BaseException:
            store.close()
            raise
        engine.wake = self._wake
        self.nodes[node_id] = Node(engine, machine, store)
        for other in self.nodes.values():
            if other.engine is not engine:
                other.engine.connected(node_id)
        return self.nodes[node_id]

    def crash(self, node_id: int) -> None:
        """The process is gone, with what it had not made durable and what was under way."""
        self.nodes.pop(node_id).store.close()
        self.wire = deque(e for e in self.wire if node_id not in (e.sender, e.receiver))

    def close(self) -> None:
        for node_id in list(self.nodes):
            self.crash(node_id)

    def _wake(self) -> None:
        self.is_woken = True

    def _send(self, receiver: int, address: str, envelope: RaftEnvelope) -> None:
        assert address == address_of(receiver)
        self.sent.append(envelope)
        self.wire.append(RaftEnvelope.FromString(envelope.SerializeToString()))

    def deliver(self, envelope: RaftEnvelope) -> None:
        link = frozenset((envelope.sender, envelope.receiver))
        if link in self.cut or envelope.receiver not in self.nodes or not self.passes(envelope):
            return
        refusal = self.nodes[envelope.receiver].engine.receive(envelope)
        if refusal is not None:
            self.refusals.append((envelope.sender, refusal))

    def settle(self) -> None:
        """Deliver and tick until nobody has anything to say."""
        for _ in range(1000):
            self.is_woken = False
            for node in list(self.nodes.values()):
                node.engine.tick()
            if not self.wire and not self.is_woken:
                return
            while self.wire:
                self.deliver(self.wire.popleft())
        raise AssertionError("the nodes never stop talking")

    def step(self) -> None:
        self.now_s += STEP_S
        self.settle()

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.step()

    def until(self, holds: Callable[[], bool], within_s: float = 30.0) -> None:
        """Let time pass until a condition holds. Fails if it does not."""
        for _ in range(round(within_s / STEP_S)):
            if holds():
                return
            self.step()
        raise AssertionError(f"not within {within_s} s: {self.describe()}")

    def isolate(self, node_id: int, others: Iterable[int] = ()) -> None:
        for other in others or self.nodes:
            if other != node_id:
                self.cut.add(frozenset((node_id, other)))

    def heal(self) -> None:
        self.cut.clear()
        for node_id, node in self.nodes.items():
            for other in self.nodes:
                if other != node_id:
                    node.engine.connected(other)

    def leaders(self) -> list[int]:
        return [i for i, node in self.nodes.items() if node.engine.status().role == "leader"]

    def leader(self) -> int | None:
        """The leader whom all running nodes follow, if there is one."""
        leaders = self.leaders()
        return leaders[0] if len(leaders) == 1 else None

    def lead(self) -> int:
        self.until(lambda: self.leader() is not None)
        leader = self.leader()
        assert leader is not None
        return leader

    def members(self, node_id: int) -> dict[int, str]:
        return dict(self.nodes[node_id].engine.status().members)

    def outcome(self, begin: Callable[..., None], *args: object) -> Outcome:
        """Begin something that ends in an outcome, and wait for that."""
        told: list[Outcome] = []
        begin(*args, told.append)
        self.until(lambda: bool(told))
        assert len(told) == 1
        return told[0]

    def propose(self, entry: bytes, done: Callable[[Outcome], None]) -> None:
        self.nodes[self.lead()].engine.propose(entry, done)

    def add(self, node_id: int, done: Callable[[Outcome], None]) -> None:
        self.nodes[self.lead()].engine.add_member(node_id, address_of(node_id), done)

    def remove(self, node_id: int, done: Callable[[Outcome], None]) -> None:
        self.nodes[self.lead()].engine.remove_member(node_id, done)

    def commit(self, *entries: bytes) -> None:
        """Commit entries, one after another."""
        for entry in entries:
            outcome = self.outcome(self.propose, entry)
            assert outcome.__class__.__name__ == "Applied", outcome

    def entries(self, node_id: int) -> list[bytes]:
        return self.nodes[node_id].machine.entries

    def describe(self) -> str:
        return "\n".join(str(node.engine.status()) for node in self.nodes.values())
