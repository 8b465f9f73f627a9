"""Sabotages of the rules of consensus, by the names that the simulator and the explorer take.

The letters are those of the library's defects; see `Sabotage`.
"""
# ruff: noqa: SLF001 - reaches inside

from typing import Final

import msgspec

from blixard.raft import core, library, recovery
from blixard.raft.core import Core
from blixard.raft.engine import RaftEngine
from blixard.raft.envelope import Post
from blixard.raft.guard import Ballot, Order
from blixard.raft.journal import Journal
from blixard.raft.membership import Membership
from blixard.raft.seal import DIGEST_BYTES
from blixard.raft.snapshot import Incoming, Snapshot
from blixard.sim import sabotage
from blixard.sim.sabotage import Change, Edit, Mute, Patch
from blixard.v1.raft_pb2 import SnapshotChunk

_ASSERTIONS: Final = (
    Mute(core, "fit"),
    Mute(Core, "_hear_leader"),
    Mute(Core, "_receive_answer"),
    Mute(Journal, "compact"),
    Mute(Journal, "install"),
    Mute(Journal, "deleteEntriesFrom"),
    Mute(Journal, "setRaftCommitIndex"),
    Mute(Journal, "setCurrentTerm"),
)
"""What would stop a process that has lost its way, before anybody else can see it."""


def _register(name: str, rule: str, *changes: Change, defect: str = "") -> None:
    sabotage.register(name, rule, *changes, *_ASSERTIONS, defect=defect)


_register(
    "commit-index-unverified",
    "a leader's commit index counts only for entries that were compared with this leader's",
    Edit(Core, "_hear_leader", "term: int)", "term: int, commit_index: int = 0)"),
    Edit(Core, "_hear_leader", '"commit_index": 0', '"commit_index": commit_index'),
    Edit(
        Core,
        "_receive_append",
        "(sender, append.term)",
        "(sender, append.term, append.commit_index)",
    ),
    Edit(Core, "receive_chunk", "(sender, sender_term)", "(sender, sender_term, chunk.index)"),
    Edit(core, "fit", "min(append.commit_index, verified)", "append.commit_index"),
    defect="A",
)

_register(
    "append-truncates-matching",
    "an append drops only what contradicts it, and acknowledges only what it has compared",
    Edit(core, "fit", "while (\n", "while False and (\n"),
    Edit(core, "fit", "prev + same if entries else log.last_index", "prev"),
    Edit(Core, "_send_for_library", "self._verified is not None", "False"),
    defect="B",
)

_register(
    "append-unmatched",
    "an append fits only where the entry before it is the leader's",
    Edit(core, "fit", "log.term_at(prev) != append.prev_term", "False"),
)

_register(
    "ack-of-any-term",
    "an answer counts only in the term in which it was given",
    Edit(Core, "_receive_answer", "sender_term != self.term or not self.leads", "not self.leads"),
    defect="C",
)

_register(
    "stale-snapshot-installed",
    "a snapshot takes the place only of a log that does not reach it, or contradicts it",
    Edit(Core, "receive_chunk", "if chunk.index > log.commit_index and not (", "if True or not ("),
    defect="D",
)


def _finish_unchecked(incoming: Incoming, _chunk: SnapshotChunk) -> Snapshot | None:
    data = bytes(incoming._data)
    incoming._transfer, incoming._data = None, bytearray()
    try:
        return msgspec.msgpack.decode(data[DIGEST_BYTES + 8 :], type=Snapshot)
    except msgspec.DecodeError:
        return None


_register(
    "snapshot-checksum",
    "a snapshot is installed only if every bit of it is the one that was sent",
    Patch(Incoming, "finish", _finish_unchecked),
    defect="E",
)

_register(
    "snapshot-transfers-mixed",
    "chunks of different transfers are never joined, and what was joined is checked",
    Edit(Incoming, "add", "transfer != self._transfer", "self._transfer is None"),
    Patch(Incoming, "finish", _finish_unchecked),
    defect="F",
)

_register(
    "vote-counted-twice",
    "a voter counts once, however often its vote arrives",
    Edit(Ballot, "count", "voter in self._voters", "False"),
    Edit(Order, "is_next", "position <= self", "position < self"),
    defect="L",
)

_register(
    "vote-of-any-term",
    "a vote counts only in the term in which it was given",
    Edit(
        Core,
        "receive",
        "if term == self.term and self._votes.count(term, sender):\n"
        "                self._to_library(sender, message)",
        "if self._votes.count(self.term, sender):\n"
        "                self._to_library(sender, Vote(self.term))",
    ),
    defect="L",
)

_register(
    "two-changes-at-once",
    "no change of the members begins before the one before it is committed",
    Patch(Core, "may_change_members", lambda _: True),
    defect="H",
)

_register(
    "members-from-snapshot-only",
    "a change of the members counts from the moment it is in the log, after a restart as well",
    Edit(
        Journal,
        "__init__",
        "is not None\n",
        "is not None and entry.index <= max(1, head.commit_index)\n",
    ),
    defect="I",
)

_register(
    "members-of-snapshot-uncommitted",
    "a snapshot has the members as of its last entry, not those of now",
    Edit(Journal, "compact", "self.members(index)", "self.members()"),
    defect="K",
)

_register(
    "pre-vote",
    "a node campaigns only if a majority would vote for it",
    Patch(Core, "_SyncObj__connectedToAnyone", lambda node: node.is_member),
)

_register(
    "fsync-before-send",
    "nothing leaves a node before all that it has written is durable",
    # Written is only what earlier turns have left, when the next message comes.
    Edit(RaftEngine, "receive", "self._enter()\n", "self._enter()\n    self._journal.flush()\n"),
    Edit(RaftEngine, "begin", "Turn(self._journal.prepare(),", "Turn(None,"),
)

_register(
    "vote-not-durable",
    "term and vote are durable before a vote leaves",
    Edit(Journal, "_next_head", "term=self._term", "term=self._head.term"),
    Edit(Journal, "_next_head", "vote=self._vote", "vote=self._head.vote"),
)

_register(
    "vote-for-shorter-log",
    "a vote goes only to a candidate whose log reaches as far as the voter's",
    Edit(
        library.SyncObj,
        "_SyncObj__onMessageReceived",
        "if lastLogTerm < self.__getCurrentLogTerm():",
        "if False:",
    ),
    Edit(
        library.SyncObj,
        "_SyncObj__onMessageReceived",
        "if lastLogTerm == self.__getCurrentLogTerm() and",
        "if False and",
    ),
)

_register(
    "mark-not-checked",
    "a journal that ends below its high-water mark is not trusted",
    Patch(recovery, "_check_mark", lambda _head, _slots: None),
)

_register(
    "barrier-shared-late",
    "who came after a barrier was proposed waits for the next one",
    Edit(
        RaftEngine,
        "_append_barrier",
        "for done in readers:",
        "late, self._readers = self._readers, []\n        for done in [*readers, *late]:",
    ),
)

_register(
    "barrier-skipped",
    "a leader answers a reader only after an entry of its term was committed since",
    Edit(
        RaftEngine,
        "barrier",
        "self._readers.append(done)",
        "(self._waiters.decided(done, Applied(0)) if self._core.leads "
        "else self._readers.append(done))",
    ),
)

_register(
    "commit-of-older-term",
    "a leader counts copies only of entries of its own term (the paper, figure 8)",
    Edit(library.SyncObj, "_onTick", "if commitTerm != self.__raftCurrentTerm:", "if False:"),
)

_register(
    "wiped-node-votes",
    "a node that has begun anew is not the one that the configuration names",
    Edit(Post, "_misled", "envelope.receiver_birth not in (0, self._journal.birth)", "False"),
    Edit(
        Post,
        "_not_entitled",
        "member is not None and member.birth == envelope.sender_birth",
        "member is not None",
    ),
    Edit(Post, "_not_entitled", "envelope.receiver_birth == self._journal.birth", "True"),
    Patch(Core, "is_member", property(lambda node: node.self_id in node.members)),
)

_register(
    "learner-skipped",
    "a new node gets its vote only once it has nearly the whole log",
    Edit(
        Membership,
        "_advance_learner",
        "learner.birth and lacks <= NEARLY_ENTRIES",
        "learner.birth",
    ),
)
