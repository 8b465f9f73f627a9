"""pysyncobj's consensus algorithm, corrected.

The library decides who leads and what is committed. Its defects are corrected from outside: each
method whose name begins with `_SyncObj__` replaces the library's private one of that name, and each
`receive_` method is what lies between a message and the library. The configuration follows the log
alone: it is derived from the snapshot and the entries after it, whether committed or not.
"""
# ruff: noqa: N802 - names of the library

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from blixard.raft import library
from blixard.raft.guard import Ballot, Misfit, fit
from blixard.raft.journal import Journal
from blixard.raft.replicate import NEWS_S, Replicator
from blixard.raft.snapshot import Incoming, Snapshot
from blixard.raft.wire import (
    Append,
    Appended,
    Kind,
    LeadNow,
    Message,
    Mismatch,
    PreVote,
    PreVoteRequest,
    SnapshotHeld,
    Vote,
    VoteRequest,
    from_library,
    to_library,
)
from blixard.v1.raft_pb2 import SnapshotChunk

_log = logging.getLogger(__name__)


class Machine(Protocol):
    """What the log is replicated for."""

    def apply(self, index: int, entry: bytes) -> object:
        """Apply one committed command. What it raises ends this node, never the command."""
        ...

    def snapshot(self) -> bytes:
        """The whole state as of the last applied command."""
        ...

    def restore(self, data: bytes, index: int) -> None:
        """Replace the state by one that `snapshot` gave, on this node or another, as of `index`."""
        ...


class Port(Protocol):
    """What the core tells its engine, in the middle of a tick: nothing that leaves the node."""

    def send(self, receiver: int, message: Message | SnapshotChunk) -> None: ...

    def applied(self, index: int, term: int, result: object) -> None: ...

    def skipped(self, index: int) -> None:
        """A snapshot took the place of all entries up to `index`."""
        ...


class _Outbox(library.Transport):  # type: ignore[misc]
    """The library's transport: hands on what it wants to say."""

    def __init__(self, send: Callable[[int, Message], None]) -> None:
        super().__init__(None, None, None)
        self._send = send

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        self._send(node.id, from_library(message))
        return True


class Core(library.SyncObj):  # type: ignore[misc]
    """One member's consensus. Not one of its methods may be called before `lend_clock`."""

    def __init__(
        self,
        journal: Journal,
        machine: Machine,
        port: Port,
        clock: Callable[[], float],
        uniform: Callable[[float, float], float],
        heartbeat_s: float,
        election_s: tuple[float, float],
    ) -> None:
        self._journal = journal
        self._machine = machine
        self._port = port
        self._clock = clock
        self._uniform = uniform
        self._heartbeat_s = heartbeat_s
        self._election_s = election_s
        self.self_id = journal.node_id
        self.members = journal.members()
        self.learner_id: int | None = None
        """A node that gets the log, but has no vote."""
        self._verified: int | None = None
        self._votes = Ballot()
        self._pre_votes = Ballot()
        self._pre_vote_ends_s = 0.0
        self._leader_heard_s = float("-inf")
        self._incoming = Incoming()
        self.replicator = Replicator(journal, port.send, clock, election_s[0])
        super().__init__(
            library.Node(self.self_id),
            [library.Node(member) for member in self.members if member != self.self_id],
            library.configuration(journal, heartbeat_s, election_s),
            transport=_Outbox(self._send_for_library),
        )
        if journal.snapshot is not None:
            machine.restore(journal.snapshot.state, journal.snapshot.index)
        self._SyncObj__raftLastApplied: int = journal.snapshot_index
        if list(self.members) == [self.self_id]:
            # There is nobody to wait for.
            self._SyncObj__raftElectionDeadline = float("-inf")

    # What the engine asks.

    @property
    def term(self) -> int:
        return int(self._SyncObj__raftCurrentTerm)

    @property
    def role(self) -> int:
        """`library.FOLLOWER`, `CANDIDATE` or `LEADER`."""
        return int(self._SyncObj__raftState)

    @property
    def leads(self) -> bool:
        return self.role == library.LEADER

    @property
    def leader_id(self) -> int | None:
        """Who leads as far as is known here; None once nothing was heard of it for so long that
        others may have elected another one."""
        leader: Any = self._SyncObj__raftLeader
        if leader is None or not (self.leads or self._hears_leader(self._election_s[1])):
            return None
        return int(leader.id)

    @property
    def applied_index(self) -> int:
        return self._SyncObj__raftLastApplied

    @property
    def due_in_s(self) -> float:
        """In how many seconds something is due by time alone: heartbeats and news for a leader, an
        election for the others. Not positive if it is overdue."""
        if not self.leads:
            return float(self._SyncObj__raftElectionDeadline - self._clock())
        if self.replicator.owes_news:
            return NEWS_S
        return float(self._SyncObj__newAppendEntriesTime - self._clock())

    @property
    def is_member(self) -> bool:
        """Whether this node's own log names it."""
        member = self.members.get(self.self_id)
        return member is not None and member.birth == self._journal.birth

    def may_change_members(self) -> bool:
        """Whether the leader may change the configuration: one change at a time, and none before
        an entry of its term is committed (the thesis, section 4.1, and the correction to it)."""
        committed = self._journal.commit_index
        return self._journal.last_change() <= committed and self._SyncObj__noopIDx <= committed

    def append(self, data: bytes) -> int:
        """Add an entry as the leader, and return its index."""
        assert self.leads
        index = self._journal.last_index + 1
        self._journal.add(data, index, self.term)
        self._follow_members()
        return index

    def replicate(self, *, heartbeat: bool) -> None:
        """Send what is new to the members, as the leader."""
        learners = [] if self.learner_id is None else [self.learner_id]
        others = {*self.members, *learners} - {self.self_id}
        self.replicator.advance(self.term, sorted(others), heartbeat=heartbeat)

    def ask_to_lead(self, heard_s: Mapping[int, float]) -> int | None:
        """Ask a member that has the whole log to take over (the thesis, section 3.10): the one that
        was heard from last. None if there is none."""
        last_index, match = self._journal.last_index, self.replicator.match_of
        ready = [
            member
            for member in self.members
            if member != self.self_id and member in heard_s and match(member) == last_index
        ]
        if not self.leads or not ready:
            return None
        best = max(ready, key=lambda member: (heard_s[member], -member))
        self._port.send(best, LeadNow(term=self.term))
        return best

    def compact(self, keep: int) -> None:
        """Take a snapshot of what is applied, and drop the entries it replaces but `keep`."""
        if self.applied_index > self._journal.snapshot_index:
            self._journal.compact(self.applied_index, self._machine.snapshot(), keep)

    # What arrives.

    def receive(self, sender: int, sender_term: int, message: Message) -> None:
        """Take in a message from one that is entitled to send it; see `engine`."""
        match message:
            case Append():
                self._receive_append(sender, message)
            case Appended() | Mismatch() | SnapshotHeld():
                self._receive_answer(sender, sender_term, message)
            case VoteRequest() | LeadNow():
                self._to_library(sender, message)
            case Vote(term):
                if term == self.term and self._votes.count(term, sender):
                    self._to_library(sender, message)
            case PreVoteRequest():
                self._receive_pre_vote_request(sender, message)
            case PreVote(term, granted):
                if sender_term > self.term:
                    self._enter(sender_term)
                elif granted and term == self.term + 1:
                    self._pre_votes.count(term, sender)

    def receive_chunk(self, sender: int, sender_term: int, chunk: SnapshotChunk) -> None:
        """Take in a part of a snapshot, and answer how much of it is held."""
        if sender_term < self.term:
            self._port.send(sender, SnapshotHeld(chunk.transfer, 0))
            return
        self._hear_leader(sender, sender_term)
        held = chunk.total
        log = self._journal
        if chunk.index > log.commit_index and not (
            log.base_index <= chunk.index <= log.last_index
            and log.term_at(chunk.index) == chunk.term
        ):
            held = self._incoming.add(sender, sender_term, chunk)
            if held == chunk.total:
                snapshot = self._incoming.finish(chunk)
                if snapshot is None:
                    _log.warning("snapshot of entry %d arrived damaged; asked again", chunk.index)
                    held = 0
                else:
                    self._install(snapshot)
        self._port.send(sender, SnapshotHeld(chunk.transfer, held))

    def _receive_append(self, sender: int, append: Append) -> None:
        if append.term < self.term:
            # The answer carries our term: a leader of the past steps down when it learns of it.
            self._port.send(sender, Mismatch(append.prev_index, append.prev_index))
            return
        self._hear_leader(sender, append.term)
        match fit(append, self._journal):
            case Misfit(next_index):
                self._port.send(sender, Mismatch(append.prev_index, next_index))
            case fitted:
                self._verified = fitted.verified
                self._to_library(sender, fitted.append)
                self._verified = None
                self._follow_members()

    def _hear_leader(self, sender: int, term: int) -> None:
        """Follow the leader of `term`, whatever its message says."""
        assert not (self.leads and term == self.term), "a term has one leader"
        self._leader_heard_s = self._clock()
        self._pre_votes = Ballot()
        # An append that carries nothing and commits nothing.
        heard = {"type": "append_entries", "term": term, "commit_index": 0}
        self._SyncObj__onMessageReceived(library.Node(sender), heard)

    def _receive_answer(
        self, sender: int, sender_term: int, answer: Appended | Mismatch | SnapshotHeld
    ) -> None:
        """Take in an answer to this leader, if it was given in this term; a later term ends its
        leadership. The library would take answers of any term."""
        if sender_term > self.term:
            self._enter(sender_term)
        if sender_term != self.term or not self.leads:
            return
        if sender in self.members:
            self._to_library(sender, Appended(next_node_idx=0, reset=False, success=False))
        match answer:
            case Appended(next_index, success=True):
                assert next_index <= self._journal.last_index + 1, "nobody has more than the leader"
                if sender in self.members:
                    self._to_library(sender, answer)
                self.replicator.matched(sender, next_index - 1)
            case Mismatch(prev_index, next_index):
                self.replicator.mismatched(sender, prev_index, next_index)
            case SnapshotHeld(transfer, held):
                self.replicator.held(sender, transfer, held)

    def _enter(self, term: int) -> None:
        self._SyncObj__setCurrentTerm(term, None)
        self._SyncObj__setState(library.FOLLOWER)
        self._SyncObj__raftLeader = None

    def _to_library(self, sender: int, message: Message) -> None:
        self._SyncObj__onMessageReceived(library.Node(sender), to_library(message))

    def _send_for_library(self, receiver: int, message: Message) -> None:
        if isinstance(message, Appended) and self._verified is not None:
            # The library acknowledges to the end of its log; only this much is known to agree.
            next_index = min(message.next_node_idx, self._verified + 1)
            message = Appended(next_node_idx=next_index, reset=False, success=True)
        self._port.send(receiver, message)

    def _install(self, snapshot: Snapshot) -> None:
        self._journal.install(snapshot)
        self._machine.restore(snapshot.state, snapshot.index)
        self._SyncObj__raftLastApplied = snapshot.index
        self._SyncObj__raftCommitIndex = snapshot.index
        self._follow_members()
        self._port.skipped(snapshot.index)

    def _follow_members(self) -> None:
        """Make the library's configuration that of the log."""
        members = self._journal.members()
        for member in sorted((set(members) | set(self.members)) - {self.self_id}):
            if (member in members) != (member in self.members):
                change = "add" if member in members else "rem"
                self._SyncObj__doChangeCluster([change, member, library.Node(member)])
        self.members = members

    # Elections.

    def would_vote(self, request: VoteRequest | PreVoteRequest) -> bool:
        """Whether the sender's log reaches as far as this one's, and there is no leader who would
        be disturbed (the thesis, section 4.2.3)."""
        mine = (self._journal.last_term, self._journal.last_index)
        reaches = (request.last_log_term, request.last_log_index) >= mine
        return reaches and not self.leads and not self._hears_leader(self._election_s[0])

    def _hears_leader(self, within_s: float) -> bool:
        return self._clock() - self._leader_heard_s < within_s

    def _receive_pre_vote_request(self, sender: int, request: PreVoteRequest) -> None:
        granted = request.term > self.term and self.would_vote(request)
        self._port.send(sender, PreVote(term=request.term, granted=granted))

    def _SyncObj__connectedToAnyone(self) -> bool:
        """Asked when the election deadline has passed: may this node campaign? Only if a majority
        would vote for it, so that a node that was cut off disturbs nobody when it returns."""
        if not self.is_member:
            return False
        term = self.term + 1
        if len(self.members) == 1 or self._SyncObj__transferInProgress:
            return True
        if self._pre_votes.term == term and self._pre_votes.is_won(self.members, self.self_id):
            self._pre_votes = Ballot()
            return True
        now_s = self._clock()
        if self._pre_votes.term != term or now_s >= self._pre_vote_ends_s:
            self._pre_votes = Ballot(term)
            self._pre_vote_ends_s = now_s + self._SyncObj__generateRaftTimeout()
            request = PreVoteRequest(term, self._journal.last_index, self._journal.last_term)
            for member in self.members:
                if member != self.self_id:
                    self._port.send(member, request)
        return False

    def _SyncObj__generateRaftTimeout(self) -> float:
        return self._uniform(*self._election_s)

    # The rest of what the library does not get right.

    def _SyncObj__sendAppendEntries(self) -> None:
        self._SyncObj__newAppendEntriesTime = self._clock() + self._heartbeat_s
        self.replicate(heartbeat=True)

    def _SyncObj__doApplyCommand(self, data: bytes) -> None:
        index = self.applied_index + 1
        term = self._journal.term_at(index)
        self._port.applied(
            index, term, self._machine.apply(index, data[1:]) if data[0] == Kind.COMMAND else None
        )

    def _SyncObj__tryLogCompaction(self) -> None:
        """The engine takes snapshots, within its own tick."""

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None:  # noqa: ARG002, N803
        raise AssertionError("snapshots do not pass through the library")
