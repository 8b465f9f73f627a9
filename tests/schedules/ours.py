"""Our engine as the subject of a schedule, on a perfect disk in memory or a real one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from blixard.errors import BlixardError
from blixard.raft import snapshot as snapshots
from blixard.raft.core import Core
from blixard.raft.engine import RaftEngine, RaftTimings
from blixard.raft.journal import ORIGIN, Journal
from blixard.raft.outcome import Applied, Outcome, Refused
from blixard.raft.recovery import join, recover
from blixard.raft.seal import digest
from blixard.raft.snapshot import Snapshot
from blixard.raft.store import SqliteStore, Store
from blixard.raft.wire import (
    Change,
    Kind,
    Member,
    PreVote,
    PreVoteRequest,
    decode,
    encode,
    membership_entry,
)
from blixard.v1.raft_pb2 import RaftEnvelope, SnapshotChunk
from raft.lab import CLUSTER, MemoryStore, Recorder, address_of
from schedules.subject import Subject, cut


def begin(store: Store, node_id: int, members: int, top: int = 1) -> None:
    """A journal that is as the library's is in the beginning, and names its members."""
    join(store, CLUSTER, node_id, birth=node_id)
    journal = recover(store, node_id)
    named = {member: Member(address_of(member), member) for member in range(1, members + 1)}
    journal.install(Snapshot(top, 0, ORIGIN, named, b""))
    journal.flush()


class Ours(Subject):
    """A `RaftEngine`; what it hears of one sender comes in order, over one connection."""

    def __init__(
        self, node_id: int, members: int, folder: Path | None, *, is_writing: bool = False
    ) -> None:
        """What `is_writing` hears everything in the middle of a turn, while the disk is busy."""
        super().__init__(node_id)
        self.is_writing = is_writing
        self.folder = folder
        self.now_s = 1000.0
        self._members = members
        self._sequence = 0
        self._last_heard = RaftEnvelope()
        self.store: Store = MemoryStore()
        self.open()

    def _open(self) -> None:
        if self.folder is not None:
            self.store = SqliteStore(self.folder)
        try:
            self._begin()
        except BlixardError:
            self.store.close()
            raise

    def _begin(self) -> None:
        if self.store.load() is None:
            begin(self.store, self.node_id, self._members)
        self.machine = Recorder()
        self.engine = RaftEngine(
            self.node_id,
            self.store,
            self.machine,
            self._send,
            lambda: self.now_s,
            Random(self.node_id),
            RaftTimings(),
        )

    @property
    def core(self) -> Core:
        return self.engine._core

    @property
    def journal(self) -> Journal:
        return self.engine._journal

    def _send(self, receiver: int, address: str, envelope: RaftEnvelope) -> None:
        is_message = envelope.WhichOneof("payload") == "message"
        message = decode(envelope.message) if is_message else envelope.snapshot
        self.sent.append((receiver, message))

    def _receive(self, sender: int, term: int, **payload: Any) -> None:
        self._sequence += 1
        self._last_heard = RaftEnvelope(
            cluster_id=CLUSTER,
            sender=sender,
            receiver=self.node_id,
            sender_address=address_of(sender),
            sender_birth=sender,
            receiver_birth=self.node_id,
            term=term,
            epoch=1,
            sequence=self._sequence,
            **payload,
        )
        self.receive_again()

    def receive(self, sender: int, message: Any, term: int | None = None) -> None:
        said_in = getattr(message, "term", self.term) if term is None else term
        self._receive(sender, said_in, message=encode(message))

    def receive_again(self) -> None:
        turn = self.engine.begin() if self.is_writing else None
        refusal = self.engine.receive(self._last_heard)
        if turn is not None:
            self.engine.write(turn)
            self.engine.end(turn)
        if refusal is not None:
            self.refusals.append(refusal)

    def hear_chunk(self, sender: int, term: int, chunk: SnapshotChunk, commit: int = 1) -> None:
        self._receive(sender, term, snapshot=chunk)
        self.tick()

    def grant_pre_vote(self, sender: int, request: PreVoteRequest) -> None:
        self.hear(sender, PreVote(request.term, granted=True), self.term)

    def tick(self) -> None:
        self.engine.tick()

    def later(self, seconds: float) -> None:
        self.now_s += seconds
        self.tick()

    def propose(self, entry: bytes, then: Callable[[], None] = lambda: None) -> None:
        def told(outcome: Outcome) -> None:
            if isinstance(outcome, Applied):
                self.acknowledged.append(entry)
                then()

        self.engine.propose(entry, told)
        self.tick()

    def add(self, node_id: int) -> None:
        self.engine.add_member(node_id, address_of(node_id), self._told)

    def remove(self, node_id: int) -> None:
        self.engine.remove_member(node_id, self._told)

    def _told(self, outcome: Outcome) -> None:
        if isinstance(outcome, Refused):
            self.refusals.append(outcome.reason)

    def compact(self) -> list[SnapshotChunk]:
        self.core.compact(keep=0)
        self.tick()
        assert self.journal.snapshot is not None
        return self._cut(self.journal.snapshot)

    def _close(self) -> None:
        self.store.close()

    @property
    def term(self) -> int:
        return self.core.term

    @property
    def leads(self) -> bool:
        return self.core.leads

    @property
    def log(self) -> list[tuple[int, int]]:
        return [(entry.index, entry.term) for entry in self.journal[:]]

    @property
    def applied(self) -> list[bytes]:
        return self.machine.entries

    @property
    def voters(self) -> set[int]:
        return {node.id for node in self.core.otherNodes} | {self.node_id}

    def command(self, entry: bytes) -> bytes:
        return bytes([Kind.COMMAND]) + entry

    def membership(self, change: Change) -> bytes:
        return membership_entry(change)

    def snapshot(self, index: int, term: int, state: Sequence[bytes]) -> list[SnapshotChunk]:
        machine = Recorder()
        machine.history = list(enumerate(state, 1))
        members = self.journal.members()
        return self._cut(Snapshot(index, term, ORIGIN, members, machine.snapshot()))

    def _cut(self, snapshot: Snapshot) -> list[SnapshotChunk]:
        data = snapshots.encode(snapshot)
        return cut(data, snapshot.index, snapshot.term, transfer=1, checksum=digest(data))
