"""The `Log` port over the consensus engine: commands become bytes, and bytes the next state."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from blixard import codec
from blixard.commands import (
    AttestState,
    Command,
    Entry,
    RenewLeases,
)
from blixard.errors import BlixardError, Code
from blixard.machine import apply
from blixard.machine.changes import Batch, changes
from blixard.model import (
    LEVEL,
    Accepted,
    Cluster,
    Outcome,
    Rejected,
    RequestId,
)
from blixard.ports import UNMEASURED, Clock, Done, LogStatus, Meters, Timed, Unavailable
from blixard.raft import outcome as raft
from blixard.raft.engine import RaftEngine
from blixard.raft.renewals import Renewals
from blixard.raft.seal import digest

Law = Callable[[Cluster, int, Entry], tuple[Cluster, Outcome]]
"""As `machine.apply`."""

DIGEST_EVERY: Final = 1_000
"""The digest of the state is taken at each index that this divides."""
DIGESTS_KEPT: Final = 16
"""A leader tells a digest within a second; so many indices may pass until it is applied."""


class StateDiffers(BlixardError):
    """This node and the leader have come from the same log to different states.

    A node that differs stops, and is not to be restarted by itself. If it is the leader that
    differs, the others stop: the cluster stands still and its data stays, on each node what that
    node came to. An operator decides. Whoever starts a node again with its data says that this
    node is right: what its log held by then is not compared again, so the others go on without
    the leader once that is stopped, and it can be removed.
    """

    code = Code.STATE_DIFFERS

    def __init__(self, at_index: int) -> None:
        super().__init__(
            f"the state of this node as of entry {at_index} differs from the leader's",
            remedy="remove this node from the cluster, empty its data directory and add it again; "
            "if most nodes say so, stop the leader, start the others again, and do it there",
        )


class ReleaseTooOld(BlixardError):
    """The cluster has come to a level that this release does not know."""

    code = Code.RELEASE_TOO_OLD

    def __init__(self, level: int, supported: int) -> None:
        super().__init__(
            f"the cluster is at level {level}, and this release supports {supported} at most",
            remedy="update this node to the release of the other nodes",
        )


class ReplicatedCluster:
    """The engine's state machine: our state, our bytes.

    `law` and `level` are those of one release: a simulator runs several side by side. `told` hears
    what each entry changed, in their order, and where a snapshot took the place of entries.
    """

    def __init__(self, told: Callable[[Batch], None], law: Law = apply, level: int = LEVEL) -> None:
        self.cluster = Cluster()
        self.decided_index = 0
        """Up to here the log was there when this node was started: see `StateDiffers`."""
        self._told = told
        self._law = law
        self._level = level
        self._applied_index: int | None = 0
        """The index of the last entry applied here; None if that is not known."""
        self._digests: dict[int, bytes] = {}

    @property
    def state_digest(self) -> tuple[int, bytes] | None:
        """The last index that there is a digest for, and the digest of the state as of then."""
        return next(reversed(self._digests.items()), None)

    def apply(self, index: int, entry: bytes) -> Outcome:
        """Apply one entry. Bytes that cannot be read change nothing. Raises `StateDiffers` and
        `ReleaseTooOld`: this node must not go on then."""
        self._remember(index)
        try:
            decoded = codec.decode_entry(entry)
        except codec.DecodeError as error:
            return Rejected(Code.INTERNAL, f"entry {index} cannot be read: {error}")
        if isinstance(decoded.command, AttestState) and index > self.decided_index:
            self._compare(decoded.command)
        before = self.cluster
        self.cluster, outcome = self._law(before, index, decoded)
        self._check_level(self.cluster)
        batch = changes(before, self.cluster, index, decoded, outcome)
        if batch is not None:
            self._told(batch)
        return outcome

    def _remember(self, index: int) -> None:
        """Take the digest of the state at the last round index before `index`, if the state has
        not changed since. Other entries than commands lie between, so none may have that index."""
        applied_index, self._applied_index = self._applied_index, index
        round_index = (index - 1) // DIGEST_EVERY * DIGEST_EVERY
        if applied_index is None or not applied_index <= round_index or round_index == 0:
            return
        self._digests[round_index] = digest(self.snapshot())
        if len(self._digests) > DIGESTS_KEPT:
            del self._digests[next(iter(self._digests))]

    def _compare(self, attested: AttestState) -> None:
        """A node that has no digest of that index, for a snapshot took it there, skips it."""
        mine = self._digests.get(attested.at_index)
        if mine is not None and mine != attested.digest:
            raise StateDiffers(attested.at_index)

    def _check_level(self, cluster: Cluster) -> None:
        if cluster.level > self._level:
            raise ReleaseTooOld(cluster.level, self._level)

    def snapshot(self) -> bytes:
        """The whole state."""
        return codec.encode_cluster(self.cluster)

    def restore(self, data: bytes, index: int) -> None:
        """Take over a whole state, as of `index`. Raises `codec.DecodeError`, `ReleaseTooOld`."""
        cluster = codec.decode_cluster(data)
        self._check_level(cluster)
        self.cluster = cluster
        self._applied_index = None
        self._told(Batch(index, is_gap=True))


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
        meters: Meters = UNMEASURED,
    ) -> None:
        self._engine = engine
        self._state = state
        self._cluster_id = cluster_id
        self._clock = clock
        self._forward = forward
        self._meters = meters
        self._renewals = Renewals(self.propose, self.cluster)
        state.decided_index = engine.status().last_index

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
            state_digest=self._state.state_digest,
        )

    def lag(self) -> Mapping[int, int]:
        """Entries that each other member is not known to have; empty if this node does not lead."""
        return self._engine.lag()

    def propose(
        self, command: Command, done: Done, request: RequestId | None = None, by: str = ""
    ) -> None:
        entry = codec.encode_entry(Entry(command, self._clock.wall_ms(), request, by))
        # However much the cluster has to do, hosts must not lose their leases over it.
        told = _decided(done, self._meters.timed(Timed.COMMIT))
        self._engine.propose(entry, told, urgent=isinstance(command, RenewLeases))

    def submit(self, command: Command, done: Done) -> None:
        status = self._engine.status()
        if status.role == "leader":
            if isinstance(command, RenewLeases):
                self._renewals.offer(command, done)
            else:
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


def _decided(done: Done, committed: Callable[[], None] = lambda: None) -> raft.Done:
    def decided(proposed: raft.Outcome) -> None:
        match proposed:
            case raft.Applied(index, outcome):
                committed()
                done(outcome if isinstance(outcome, Accepted | Rejected) else Accepted(index))
            case raft.NotLeader(leader_id):
                done(Unavailable("this node does not lead", leader_id))
            case raft.Refused(reason):
                done(Rejected(Code.BUSY, reason))
            case raft.OutcomeUnknown(reason):
                done(Unavailable(reason, maybe_applied=True))

    return decided
