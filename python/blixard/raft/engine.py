"""The engine: one node's part in the replicated log, without I/O, threads or a clock of its own.

A driver feeds it messages with `receive` and has it take a turn soon after each, and after
`pause_s` anyway: `tick`, or `begin`, `write` and `end` one after another. All that a turn wrote is
durable before any of its messages leaves and before any outcome is told.
An engine that has raised is in an unknown state: the process must end, and start from its journal.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from blixard.raft import library
from blixard.raft.core import Core, Machine
from blixard.raft.envelope import Letter, Post
from blixard.raft.journal import Journal, Write
from blixard.raft.membership import Membership
from blixard.raft.outcome import (
    Applied,
    Done,
    NotLeader,
    Outcome,
    OutcomeUnknown,
    Refused,
    Waiters,
)
from blixard.raft.recovery import recover
from blixard.raft.store import Store
from blixard.raft.wire import (
    MAX_ENTRY_BYTES,
    Change,
    Kind,
    Message,
)
from blixard.v1.raft_pb2 import RaftEnvelope, SnapshotChunk

LONGEST_PAUSE_S: Final = 0.25
"""A turn is taken this often at least, for what nobody wakes the engine for."""
SHORTEST_PAUSE_S: Final = 0.01
"""What is overdue because it waits for others is looked at again after this long."""
MAX_WAITING: Final = 10_000
"""So many proposals may wait; then it is better to be refused than to be late."""

_ROLES: Final = {
    library.FOLLOWER: "follower",
    library.CANDIDATE: "candidate",
    library.LEADER: "leader",
}


@dataclass(frozen=True, slots=True)
class RaftTimings:
    """How long things take, and how much of the log is kept."""

    heartbeat_ms: int = 100
    election_min_ms: int = 600
    """A follower that hears no leader for this long, at least, asks to be elected: five heartbeats
    may be lost or held up, and after the death of a leader there is another within a second."""
    election_max_ms: int = 1_200
    """At most; a leader that hears no majority for this long steps down."""
    proposal_timeout_ms: int = 10_000
    snapshot_entries: int = 1_000
    """So many applied entries after one snapshot the next is taken; as many are kept before it."""


@dataclass(frozen=True, slots=True)
class RaftStatus:
    """What an engine knows about consensus."""

    node_id: int
    role: str
    """`leader`, `follower` or `candidate`."""
    term: int
    leader_id: int | None
    commit_index: int
    applied_index: int
    last_index: int
    snapshot_index: int
    members: tuple[tuple[int, str], ...]
    """The configuration of this node's log: ids and addresses, in the order of the ids."""
    heard_ms: dict[int, int]
    """How long ago, in milliseconds, each other node was last heard from."""


class Send(Protocol):
    """The way to other nodes. Only buffers, and loses what it cannot deliver."""

    def __call__(self, receiver: int, address: str, envelope: RaftEnvelope) -> None: ...


class Uniform(Protocol):
    """A source of chance; `random.Random` is one."""

    def uniform(self, a: float, b: float, /) -> float: ...


@dataclass(frozen=True, slots=True)
class Turn:
    """What an engine has to write, if anything, and what it may tell once that is durable."""

    write: Write | None
    outcomes: list[tuple[Done, Outcome]]
    letters: list[Letter]


class RaftEngine:
    """One node's replicated log. Single-threaded; raises what the store and the machine raise."""

    def __init__(
        self,
        node_id: int,
        store: Store,
        machine: Machine,
        send: Send,
        clock: Callable[[], float],
        random: Uniform,
        timings: RaftTimings = RaftTimings(),
    ) -> None:
        """Open the journal that `bootstrap` or `join` began. `clock` is monotonic, in seconds.
        Raises `CorruptJournal`, and `BlixardError` if the journal is another node's."""
        self._journal = recover(store, node_id)
        self._journal.open()
        self._send = send
        self._clock = clock
        self._timings = timings
        self._waiters = Waiters()
        self._proposals: list[tuple[bytes, Done]] = []
        self._readers: list[Done] = []
        self._barrier_is_under_way = False
        self._waits_until_s = float("-inf")
        """Until then a successor is to be found."""
        self._heard_s: dict[int, float] = {}
        self.wake: Callable[[], None] = lambda: None
        """Called when a tick is worth while before the next one is due."""
        self._enter()
        self._core = Core(
            self._journal,
            machine,
            port=self,
            clock=clock,
            uniform=random.uniform,
            heartbeat_s=timings.heartbeat_ms / 1000,
            election_s=(timings.election_min_ms / 1000, timings.election_max_ms / 1000),
        )
        self._membership = Membership(
            self._core,
            self._journal,
            self._waiters,
            self._append,
            clock,
            timings.proposal_timeout_ms / 1000,
        )
        self._post = Post(self._journal, self._core, self._membership)

    # What others ask of this node.

    def propose(self, entry: bytes, done: Done, *, urgent: bool = False) -> None:
        """Append a command, if this node leads. `done` is called exactly once, in a later tick.
        What is urgent is taken however many wait."""
        if len(entry) > MAX_ENTRY_BYTES:
            limit_kib = MAX_ENTRY_BYTES // 1024
            self._decide(done, Refused(f"a command has at most {limit_kib} KiB"))
        elif not urgent and len(self._waiters) + len(self._proposals) >= MAX_WAITING:
            self._decide(done, Refused(f"{MAX_WAITING} commands wait already; try again later"))
        else:
            self._proposals.append((entry, done))
            self.wake()

    def barrier(self, done: Done) -> None:
        """Call `done` with `Applied` once all that was committed before this call is applied here:
        what is read then is linearizable. Readers who arrive while a barrier is under way share
        the next one, for that one might have been committed before they came."""
        self._readers.append(done)
        self.wake()

    def add_member(self, node_id: int, address: str, done: Done) -> None:
        """Add a voter, reached at `address`, where it must answer: it is brought up to date before
        it gets its vote. Refused while another change is not committed."""
        self._membership.request(Change(True, node_id, address), done)
        self.wake()

    def remove_member(self, node_id: int, done: Done) -> None:
        """Remove a voter. Refused while another change is not committed, and for the leader
        itself: it must transfer its leadership first, and its successor removes it."""
        self._membership.request(Change(False, node_id), done)
        self.wake()

    def transfer_leadership(self) -> int | None:
        """Ask another member to lead, and return its id; None if this node does not lead or no
        other member has the whole log. Whether it worked is seen in `status`: for an election
        timeout proposals wait for that, so that some member comes to have the whole log."""
        self._enter()
        election_s = self._timings.election_min_ms / 1000
        if self._clock() >= self._waits_until_s + election_s:
            self._waits_until_s = self._clock() + election_s
        successor = self._core.ask_to_lead(self._heard_s)
        self.wake()
        return successor

    def status(self) -> RaftStatus:
        """What is known now."""
        core, journal, now_s = self._core, self._journal, self._clock()
        return RaftStatus(
            node_id=core.self_id,
            role=_ROLES[core.role],
            term=core.term,
            leader_id=core.leader_id,
            commit_index=journal.commit_index,
            applied_index=core.applied_index,
            last_index=journal.last_index,
            snapshot_index=journal.snapshot_index,
            members=tuple((node, member.address) for node, member in core.members.items()),
            heard_ms={
                node: round((now_s - heard_s) * 1000)
                for node, heard_s in sorted(self._heard_s.items())
                if node in core.members
            },
        )

    def lag(self) -> dict[int, int]:
        """Entries that each other member is not known to have; empty if this node does not lead."""
        core = self._core
        others = [node for node in core.members if node != core.self_id and core.leads]
        return {n: self._journal.last_index - core.replicator.match_of(n) for n in others}

    @property
    def journal(self) -> Journal:
        """This node's log, to be looked at."""
        return self._journal

    @property
    def term(self) -> int:
        return self._core.term

    @property
    def leads(self) -> bool:
        """Whether this node believes that it leads."""
        return self._core.leads

    @property
    def applied_index(self) -> int:
        return self._core.applied_index

    # What the driver does.

    @property
    def pause_s(self) -> float:
        """How long the next turn can wait if nothing happens until then, in seconds."""
        return min(max(self._core.due_in_s, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)

    def receive(self, envelope: RaftEnvelope) -> str | None:
        """Take in a message. Returns why its sender is refused, if it is: it should stop."""
        self._enter()
        message = self._post.open(envelope)
        if message is None or isinstance(message, str):
            return message
        self._heard_s[envelope.sender] = self._clock()
        if isinstance(message, SnapshotChunk):
            self._core.receive_chunk(envelope.sender, envelope.term, message)
        else:
            self._core.receive(envelope.sender, envelope.term, message)
        self.wake()
        return None

    def connected(self, node_id: int) -> None:
        """A new connection to a node is open: what was sent before may be lost, and what is sent
        from now on is newer than all that."""
        self._post.connected(node_id)
        self._core.replicator.reconnected(node_id)
        self.wake()

    def tick(self) -> None:
        """Take a whole turn, and wait for the disk."""
        turn = self.begin()
        self.write(turn)
        self.end(turn)

    def begin(self) -> Turn:
        """Do what is due: elections, heartbeats, proposals, commits. Nothing of it is told before
        the turn ends; what arrives meanwhile belongs to the next one."""
        self._enter()
        self._waiters.expire(self._clock())
        self._advance()
        if self._core.leads and len(self._core.members) == 1:
            # A majority of one: what is durable now is committed.
            self._journal.flush()
            self._advance()
        return Turn(self._journal.prepare(), self._waiters.take(), self._post.collect())

    def write(self, turn: Turn) -> None:
        """Make the turn durable. The only call that may be made in another thread, while messages
        and proposals go on arriving. Raises what the store raises."""
        if turn.write is not None:
            self._journal.write(turn.write)

    def end(self, turn: Turn) -> None:
        """Tell the outcomes of a turn that is written, and let its messages leave."""
        assert self._journal.is_durable, "nothing leaves before it is durable"
        self._tell(turn.outcomes)
        for letter in turn.letters:
            self._send(letter.receiver, letter.address, letter.envelope)

    def stop(self) -> None:
        """Tell all who wait that the outcome is unknown. The store is closed by its owner."""
        for done in [*(done for _, done in self._proposals), *self._readers]:
            self._waiters.decided(done, NotLeader(None))
        self._proposals, self._readers = [], []
        self._membership.abandon()
        self._waiters.abandon("this node is stopping")
        self._tell(self._waiters.take())

    def _tell(self, outcomes: list[tuple[Done, Outcome]]) -> None:
        for done, outcome in outcomes:
            done(outcome)

    # How a tick goes.

    def _enter(self) -> None:
        library.lend_clock(self._clock)

    def _advance(self) -> None:
        self._core.doTick()
        self._membership.advance()
        if not self._core.leads or self._clock() >= self._waits_until_s:
            self._append_proposals()
            self._append_barrier()
        if self._core.leads:
            self._core.replicate(heartbeat=False)
        applied_since = self._core.applied_index - self._journal.snapshot_index
        if applied_since >= self._timings.snapshot_entries:
            self._core.compact(keep=self._timings.snapshot_entries)

    def _append_proposals(self) -> None:
        proposals, self._proposals = self._proposals, []
        for entry, done in proposals:
            self._append(bytes([Kind.COMMAND]) + entry, done)

    def _append_barrier(self) -> None:
        if not self._readers or (self._core.leads and self._barrier_is_under_way):
            return
        readers, self._readers = self._readers, []

        def passed(outcome: Outcome) -> None:
            self._barrier_is_under_way = False
            for done in readers:
                done(outcome)
            self.wake()

        self._barrier_is_under_way = True
        self._append(bytes([Kind.EMPTY]), passed)

    def _append(self, data: bytes, done: Done) -> None:
        if not self._core.leads:
            self._waiters.decided(done, NotLeader(self._core.leader_id))
            return
        deadline_s = self._clock() + self._timings.proposal_timeout_ms / 1000
        self._waiters.expect(self._core.append(data), self._core.term, deadline_s, done)

    def _decide(self, done: Done, outcome: Refused) -> None:
        self._waiters.decided(done, outcome)
        self.wake()

    # What the core tells.

    def send(self, receiver: int, message: Message | SnapshotChunk) -> None:
        """Something is to leave at the end of the tick."""
        self._post.say(receiver, message)

    def applied(self, index: int, term: int, result: object) -> None:
        """An entry is applied."""
        self._waiters.applied(index, term, result, self._core.leader_id)

    def skipped(self, index: int) -> None:
        """A snapshot took the place of entries."""
        self._waiters.skipped(index)


__all__ = [
    "Applied",
    "NotLeader",
    "OutcomeUnknown",
    "RaftEngine",
    "RaftStatus",
    "RaftTimings",
    "Refused",
]
