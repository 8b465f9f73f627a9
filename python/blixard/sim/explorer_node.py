"""A node's engine, which takes on any state of its node, and gives it back after each input."""
# ruff: noqa: SLF001 - takes a node apart

from collections import deque
from collections.abc import Iterable
from typing import Any, cast

from blixard.raft import library
from blixard.raft import snapshot as snapshots
from blixard.raft.engine import RaftEngine
from blixard.raft.guard import Ballot
from blixard.raft.journal import Head
from blixard.raft.outcome import Applied, Done, Outcome, _Waiter
from blixard.raft.replicate import Progress
from blixard.raft.snapshot import Outgoing, _Transfer
from blixard.sim.explorer_state import (
    NOW_S,
    TIMINGS,
    Following,
    History,
    Memory,
    MemoryDisk,
    NodeState,
    address_of,
    snapshot_of,
)
from blixard.v1.raft_pb2 import RaftEnvelope

Input = tuple[Any, ...]
"""What a node is given: a verb, and what it needs."""


class Process:
    """A node's engine, which takes on any state of its node."""

    def __init__(self, node: int, state: NodeState) -> None:
        self.node = node
        self.disk = MemoryDisk(state.disk)
        self.sent: list[RaftEnvelope] = []
        self.told: list[tuple[int, bytes]] = []
        """Index and entry of each proposal that was acknowledged."""
        self.start()

    def start(self) -> None:
        """Start the node from its disk."""
        self.machine = History()
        self.engine = RaftEngine(
            self.node, self.disk, self.machine, self._send, lambda: NOW_S, _Middle(), TIMINGS
        )
        self.core: Any = self.engine._core
        self.nodes = {node: library.Node(node) for node in self.core.members}

    def _send(self, receiver: int, address: str, envelope: RaftEnvelope) -> None:
        assert address == address_of(receiver)
        self.sent.append(envelope)

    def waiter(self, entry: bytes) -> Done:
        """One who waits for `entry`."""
        return _Client(entry, self.told)

    def put(self, state: NodeState) -> None:
        """Become a running node in this state."""
        memory = state.memory
        assert memory is not None
        self.sent.clear()
        self.told.clear()
        self.disk.put(state.disk)
        self.machine.applied = list(memory.history)
        self._put_journal(state.disk.head, memory)
        self._put_library(memory)
        self._put_core(memory)
        engine = self.engine
        engine._waiters._waiting = {
            index: [_Waiter(term, NOW_S + 10**6, self.waiter(entry)) for term, entry in those]
            for index, those in memory.waiting
        }
        engine._post._order._last = {}
        engine._post._connections = {}
        engine._post._sequence = 0

    def _put_journal(self, head: Head, memory: Memory) -> None:
        journal = self.engine._journal
        journal._head = journal._durable = head
        journal._entries = list(memory.entries)
        journal._chains = list(memory.chains)
        journal._changes = list(memory.changes)
        journal.snapshot = None if memory.snapshot is None else snapshot_of(memory.snapshot)
        journal._snapshot_is_new = memory.snapshot_is_new
        journal._term, journal._vote = memory.journal_vote
        journal._commit_index = memory.journal_commit
        journal._opened = head.opened
        journal._stored_to = memory.stored_to

    def _put_library(self, memory: Memory) -> None:
        core, nodes = self.core, self.nodes
        core._SyncObj__raftState = memory.role
        core._SyncObj__raftCurrentTerm = memory.term
        core._SyncObj__votedForNodeId = memory.vote
        core._SyncObj__raftLeader = None if memory.leader is None else nodes[memory.leader]
        core._SyncObj__votesCount = memory.votes[0] if memory.votes else 0
        core._SyncObj__raftElectionDeadline = float("-inf") if memory.election_is_due else NOW_S + 1
        core._SyncObj__transferInProgress = memory.transfer_in_progress
        core._SyncObj__raftCommitIndex = memory.commit
        core._SyncObj__raftLastApplied = memory.applied
        core._SyncObj__noopIDx = memory.noop
        core._SyncObj__newAppendEntriesTime = NOW_S + 1
        core._SyncObj__raftMatchIndex = {
            nodes[book.member]: book.library_match
            for book in memory.following
            if book.library_match is not None
        }
        core._SyncObj__lastResponseTime = dict.fromkeys(nodes.values(), NOW_S)

    def _put_core(self, memory: Memory) -> None:
        core = self.core
        core.members = dict(memory.members)
        others = [node for node, _ in memory.members if node != self.node]
        self.nodes.update((node, library.Node(node)) for node in others if node not in self.nodes)
        core._SyncObj__otherNodes = {self.nodes[node] for node in others}
        core._leader_heard_s = float("-inf")
        core._pre_vote_ends_s = 0.0
        votes = memory.votes
        core._votes = Ballot(memory.term, set(votes[1])) if votes else Ballot()
        asked = memory.pre_votes
        core._pre_votes = Ballot() if asked is None else Ballot(memory.term + 1, set(asked))
        transfer, data = memory.incoming
        core._incoming._transfer = transfer and _Transfer(*transfer)
        core._incoming._data = bytearray(data)
        replicator = core.replicator
        replicator._transfers = memory.transfers
        replicator._term = memory.term if memory.following else 0
        replicator._members = {book.member: _progress(book) for book in memory.following}

    def give(self, given: Input) -> None:
        """Take in an input; `core` and `engine` act on it at the next tick at the latest."""
        engine, core = self.engine, self.core
        match given:
            case ("deliver", bytes(message), bool(is_stale)):
                envelope = RaftEnvelope.FromString(message)
                sender = (envelope.sender, envelope.sender_birth)
                engine._post._order._last[sender] = (1, 5)
                envelope.epoch, envelope.sequence = 1, 5 if is_stale else 6
                engine.receive(envelope)
            case ("ask",):
                core._SyncObj__raftElectionDeadline = float("-inf")
            case ("campaign",):
                self._step_down()
                core._SyncObj__raftElectionDeadline = float("-inf")
                core._pre_votes = Ballot(core.term + 1, set(core.members))
            case ("heartbeat",):
                # So long after the last one that a chunk which got no answer is sent again too.
                core._SyncObj__newAppendEntriesTime = 0.0
                for progress in core.replicator._members.values():
                    progress.chunk_due_s = 0.0
            case ("propose", bytes(entry)):
                engine.propose(entry, self.waiter(entry))
            case ("compact",):
                core.compact(keep=0)
            case ("connected", int(peer)):
                engine.connected(peer)
            case _:
                raise AssertionError(given)

    def _step_down(self) -> None:
        """A leader that has heard nobody for an election timeout gives up."""
        if self.core.leads:
            responses = self.core._SyncObj__lastResponseTime
            self.core._SyncObj__lastResponseTime = dict.fromkeys(responses, float("-inf"))
            self.engine.tick()

    def take(self, *, torn: bool = False) -> NodeState:
        """The state of the running node; if `torn`, as if it had stopped before the mark of its
        last transaction was written."""
        if torn:
            return NodeState(self.disk.take(torn=True), None)
        journal, core, engine = self.engine._journal, self.core, self.engine
        disk = self.disk.take()
        assert journal._head == self.disk.head(), "the journal knows its disk"
        voters = tuple(sorted(core._votes._voters)) if core._votes.term == core.term else ()
        leads = core.role == library.LEADER
        assert not engine._readers, "readers are not explored"
        assert engine._membership.learner is None, "changes of members are not explored"
        transfer = core._incoming._transfer
        return NodeState(
            disk,
            Memory(
                entries=tuple(journal._entries),
                chains=tuple(journal._chains),
                changes=tuple(journal._changes),
                snapshot=None if journal.snapshot is None else snapshots.encode(journal.snapshot),
                snapshot_is_new=journal._snapshot_is_new,
                stored_to=journal._stored_to,
                journal_vote=(journal._term, journal._vote),
                journal_commit=journal._commit_index,
                role=core.role,
                term=core.term,
                vote=core._SyncObj__votedForNodeId,
                leader=core.leader_id,
                votes=(
                    (core._SyncObj__votesCount, voters) if core.role == library.CANDIDATE else None
                ),
                pre_votes=(
                    tuple(sorted(core._pre_votes._voters))
                    if core._pre_votes.term == core.term + 1
                    else None
                ),
                election_is_due=core._SyncObj__raftElectionDeadline < NOW_S,
                transfer_in_progress=core._SyncObj__transferInProgress,
                commit=core._SyncObj__raftCommitIndex,
                applied=core.applied_index,
                noop=core._SyncObj__noopIDx if leads else None,
                following=tuple(self._following()) if leads else (),
                members=tuple(core.members.items()),
                transfers=core.replicator._transfers,
                incoming=(
                    transfer and (transfer.sender, transfer.sender_term, transfer.transfer),
                    bytes(core._incoming._data),
                ),
                waiting=tuple(
                    (index, tuple((one.term, cast("_Client", one.done).entry) for one in those))
                    for index, those in sorted(engine._waiters._waiting.items())
                ),
                history=tuple(self.machine.applied),
            ),
        )

    def _following(self) -> Iterable[Following]:
        for member, progress in self.core.replicator._members.items():
            out = progress.transfer
            yield Following(
                member=member,
                next_index=progress.next_index,
                match_index=progress.match_index,
                library_match=self.core._SyncObj__raftMatchIndex.get(self.nodes[member]),
                probing=progress.probing,
                probe_is_due=progress.probe_due_s <= NOW_S,
                ahead=tuple(progress.ahead),
                told_commit=progress.told_commit,
                transfer=out and (out.transfer, out._data, out.arrived),
                chunk_is_due=progress.chunk_due_s <= NOW_S,
            )


class _Middle:
    """No chance: no deadline passes by itself."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


class _Client:
    """One who waits for a proposal."""

    def __init__(self, entry: bytes, told: list[tuple[int, bytes]]) -> None:
        self.entry = entry
        self._told = told

    def __call__(self, outcome: Outcome) -> None:
        if isinstance(outcome, Applied):
            self._told.append((outcome.index, self.entry))


def _progress(book: Following) -> Progress:
    progress = Progress(
        book.next_index,
        book.match_index,
        book.probing,
        0.0 if book.probe_is_due else NOW_S + 1,
        deque(book.ahead),
        book.told_commit,
        chunk_due_s=0.0 if book.chunk_is_due else NOW_S + 1,
    )
    if book.transfer is not None:
        number, data, arrived = book.transfer
        progress.transfer = Outgoing(number, snapshot_of(data), data)
        progress.transfer.arrived = arrived
    return progress
