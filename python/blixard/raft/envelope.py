"""What surrounds a message: written when it is said, and checked when it arrives."""

from dataclasses import dataclass

from blixard.raft import wire
from blixard.raft.core import Core
from blixard.raft.guard import Order
from blixard.raft.journal import Journal
from blixard.raft.membership import Membership
from blixard.raft.wire import (
    Append,
    Appended,
    Message,
    Mismatch,
    PreVoteRequest,
    SnapshotHeld,
    VoteRequest,
)
from blixard.v1.raft_pb2 import RaftEnvelope, SnapshotChunk


@dataclass(frozen=True, slots=True)
class Letter:
    """What is to leave at the end of the tick, and where to."""

    receiver: int
    address: str
    envelope: RaftEnvelope


class Post:
    """The messages of one node."""

    def __init__(self, journal: Journal, core: Core, membership: Membership) -> None:
        self._journal = journal
        self._core = core
        self._membership = membership
        self._order = Order()
        self._connections: dict[int, int] = {}
        self._sequence = 0
        self._said: list[RaftEnvelope] = []
        self._heard_from: dict[int, str] = {}
        """Where those are reached who have sent something since the last tick."""

    def connected(self, node_id: int) -> None:
        """What is said from now on is newer than all that went over earlier connections."""
        self._connections[node_id] = self._connections.get(node_id, 0) + 1

    def say(self, receiver: int, message: Message | SnapshotChunk) -> None:
        """Put a message into its envelope. The term is that of now, not of when it leaves: an
        answer counts only in the term in which it was given."""
        self._sequence += 1
        me, them = (self._core.members.get(node) for node in (self._core.self_id, receiver))
        envelope = RaftEnvelope(
            cluster_id=self._journal.cluster_id,
            sender=self._core.self_id,
            receiver=receiver,
            sender_address=me.address if me else "",
            sender_birth=self._journal.birth,
            receiver_birth=them.birth if them else 0,
            term=self._core.term,
            epoch=(self._journal.opened << 32) + self._connections.get(receiver, 0),
            sequence=self._sequence,
        )
        if isinstance(message, SnapshotChunk):
            envelope.snapshot.CopyFrom(message)
        else:
            envelope.message = wire.encode(message)
        self._said.append(envelope)

    def collect(self) -> list[Letter]:
        """All that was said since the last time, for those whose address is known."""
        if not self._said:
            self._heard_from = {}
            return []
        addresses = dict(self._heard_from)
        if self._membership.learner is not None:
            addresses[self._membership.learner.node_id] = self._membership.learner.address
        addresses.update((node, member.address) for node, member in self._core.members.items())
        said, self._said, self._heard_from = self._said, [], {}
        return [
            Letter(envelope.receiver, addresses[envelope.receiver], envelope)
            for envelope in said
            if addresses.get(envelope.receiver)
        ]

    def open(self, envelope: RaftEnvelope) -> Message | SnapshotChunk | str | None:
        """The message in an envelope; a text that says why its sender is refused; or None if the
        message is out of date."""
        message = _unwrap(envelope)
        if message is None:
            return "a message that cannot be understood"
        refusal = self._misled(envelope) or self._not_entitled(envelope, message)
        if refusal is not None:
            return refusal
        if not self._order.is_next(envelope):
            return None
        self._heard_from[envelope.sender] = envelope.sender_address
        return message

    def _misled(self, envelope: RaftEnvelope) -> str | None:
        node = self._core.self_id
        if envelope.cluster_id != self._journal.cluster_id:
            return "this node belongs to another cluster"
        if envelope.receiver != node:
            return f"this is node {node}, not node {envelope.receiver}"
        if envelope.receiver_birth not in (0, self._journal.birth):
            return f"node {node} has begun anew: remove it from the cluster and add it again"
        return None

    def _not_entitled(self, envelope: RaftEnvelope, message: Message | SnapshotChunk) -> str | None:
        member = self._core.members.get(envelope.sender)
        if member is not None and member.birth == envelope.sender_birth:
            return None
        match message:
            case Append() | SnapshotChunk():
                # A leader may be newer than this log.
                entitled = envelope.term >= self._core.term
            case VoteRequest() | PreVoteRequest():
                # So may a candidate, whose log names this node (the thesis, section 4.1). But it
                # must mean this very journal, not that of a node that was wiped, and one that was
                # removed must disturb nobody.
                entitled = envelope.receiver_birth == self._journal.birth and self._core.would_vote(
                    message
                )
            case Appended() | Mismatch() | SnapshotHeld():
                entitled = self._membership.hears(envelope.sender, envelope.sender_birth)
            case _:
                entitled = False
        return None if entitled else f"node {envelope.sender} is not a member of this cluster"


def _unwrap(envelope: RaftEnvelope) -> Message | SnapshotChunk | None:
    """What is in the envelope, or None if no correct member could have sent it."""
    match envelope.WhichOneof("payload"):
        case "snapshot":
            return envelope.snapshot
        case "message":
            message = wire.decode(envelope.message)
            is_unsound = isinstance(message, Append) and not message.is_sound()
            return None if is_unsound else message
        case _:
            return None
