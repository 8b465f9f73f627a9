"""The `Log` port over the consensus engine: commands become bytes, and bytes the next state."""

from collections.abc import Callable
from typing import Protocol

from blixard import codec
from blixard.commands import (
    Command,
    Entry,
)
from blixard.errors import Code
from blixard.machine import apply
from blixard.machine.changes import Change, changes
from blixard.model import (
    Accepted,
    Cluster,
    Outcome,
    Rejected,
    RequestId,
)
from blixard.ports import Clock, Done, LogStatus, Unavailable
from blixard.raft import outcome as raft
from blixard.raft.engine import RaftEngine


class ReplicatedCluster:
    """The engine's state machine: our state, our bytes."""

    def __init__(self, told: Callable[[Change], None]) -> None:
        self.cluster = Cluster()
        self._told = told

    def apply(self, index: int, entry: bytes) -> Outcome:
        """Apply one entry. Total: bytes that cannot be read change nothing."""
        try:
            decoded = codec.decode_entry(entry)
        except codec.DecodeError as error:
            return Rejected(Code.INTERNAL, f"entry {index} cannot be read: {error}")
        before = self.cluster
        self.cluster, outcome = apply(before, index, decoded)
        for change in changes(before, self.cluster):
            self._told(change)
        return outcome

    def snapshot(self) -> bytes:
        """The whole state."""
        return codec.encode_cluster(self.cluster)

    def restore(self, data: bytes) -> None:
        """Take over a whole state. Raises `codec.DecodeError`."""
        self.cluster = codec.decode_cluster(data)


class Forward(Protocol):
    """Carries a node's own entry to the leader."""

    def __call__(self, address: str, entry: bytes, done: Done) -> None: ...


class Replica:
    """`ports.Log` on one node."""

    def __init__(
        self,
        engine: RaftEngine,
        state: ReplicatedCluster,
        cluster_id: str,
        clock: Clock,
        forward: Forward,
    ) -> None:
        self._engine = engine
        self._state = state
        self._cluster_id = cluster_id
        self._clock = clock
        self._forward = forward

    def cluster(self) -> Cluster:
        return self._state.cluster

    def status(self) -> LogStatus:
        status = self._engine.status()
        return LogStatus(
            cluster_id=self._cluster_id,
            node_id=status.node_id,
            role=status.role,
            term=status.term,
            leader_id=status.leader_id,
            commit_index=status.commit_index,
            applied_index=status.applied_index,
            members=dict(status.members),
            heard_ms=status.heard_ms,
        )

    def propose(self, command: Command, done: Done, request: RequestId | None = None) -> None:
        entry = codec.encode_entry(Entry(command, self._clock.wall_ms(), request))
        self._engine.propose(entry, _decided(done))

    def submit(self, command: Command, done: Done) -> None:
        status = self._engine.status()
        if status.role == "leader":
            self.propose(command, done)
            return
        address = dict(status.members).get(status.leader_id or 0)
        if address is None:
            done(Unavailable("no leader is known"))
            return
        self._forward(address, codec.encode_entry(Entry(command, self._clock.wall_ms())), done)

    def barrier(self, done: Done) -> None:
        self._engine.barrier(_decided(done))

    def add_member(self, node_id: int, address: str, done: Done) -> None:
        self._engine.add_member(node_id, address, _decided(done))

    def remove_member(self, node_id: int, done: Done) -> None:
        self._engine.remove_member(node_id, _decided(done))

    def transfer_leadership(self) -> None:
        self._engine.transfer_leadership()


def _decided(done: Done) -> raft.Done:
    def decided(proposed: raft.Outcome) -> None:
        match proposed:
            case raft.Applied(index, outcome):
                done(outcome if isinstance(outcome, Accepted | Rejected) else Accepted(index))
            case raft.NotLeader(leader_id):
                done(Unavailable("this node does not lead", leader_id))
            case raft.Refused(reason):
                done(Rejected(Code.BUSY, reason))
            case raft.OutcomeUnknown(reason):
                done(Unavailable(reason, maybe_applied=True))

    return decided
