"""Changes of the configuration: one at a time, and a new member is brought up to date first.

A member that the others cannot reach, or that lacks most of the log, counts for every majority and
helps to none. So a node that is to be added gets the log before it gets a vote (the thesis, section
4.2.1), and the entry that adds it names the very journal that has answered, by its `birth`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from blixard.raft.core import Core
from blixard.raft.journal import Journal
from blixard.raft.outcome import Done, NotLeader, Refused, Waiters
from blixard.raft.wire import Change, Member, membership_entry

NEARLY_ENTRIES: Final = 100
"""A node that lacks no more entries than this is up to date enough to be added."""


@dataclass(slots=True)
class Learner:
    """A node that is being brought up to date."""

    node_id: int
    address: str
    done: Done
    heard_s: float
    birth: int = 0
    """As it says itself; 0 until it has answered."""


class Membership:
    """The changes that were asked for on this node."""

    def __init__(
        self,
        core: Core,
        journal: Journal,
        waiters: Waiters,
        append: Callable[[bytes, Done], None],
        clock: Callable[[], float],
        patience_s: float,
    ) -> None:
        self._core = core
        self._journal = journal
        self._waiters = waiters
        self._append = append
        self._clock = clock
        self._patience_s = patience_s
        self._requests: list[tuple[Change, Done]] = []
        self.learner: Learner | None = None

    def request(self, change: Change, done: Done) -> None:
        """Make a change at the next `advance`."""
        self._requests.append((change, done))

    def hears(self, node_id: int, birth: int) -> bool:
        """Whether a message comes from the learner."""
        learner = self.learner
        if learner is None or learner.node_id != node_id or learner.birth not in (0, birth):
            return False
        learner.birth, learner.heard_s = birth, self._clock()
        return True

    def advance(self) -> None:
        """Take up what was requested, and add the learner when it is ready."""
        requests, self._requests = self._requests, []
        for change, done in requests:
            self._begin(change, done)
        if self.learner is not None:
            self._advance_learner(self.learner)
        self._core.learner_id = None if self.learner is None else self.learner.node_id

    def abandon(self) -> None:
        """The engine stops: nothing that is not in the log will be."""
        learners = [] if self.learner is None else [self.learner.done]
        for done in [*learners, *(done for _, done in self._requests)]:
            self._waiters.decided(done, NotLeader(None))
        self._requests, self.learner = [], None

    def _begin(self, change: Change, done: Done) -> None:
        if not self._core.leads:
            self._waiters.decided(done, NotLeader(self._core.leader_id))
            return
        objection = self._objection(change)
        if objection is not None:
            self._waiters.decided(done, Refused(objection))
        elif change.add:
            self.learner = Learner(change.node_id, change.address, done, self._clock())
        else:
            self._append(membership_entry(change), done)

    def _advance_learner(self, learner: Learner) -> None:
        lacks = self._journal.last_index - self._core.replicator.match_of(learner.node_id)
        if not self._core.leads:
            self._waiters.decided(learner.done, NotLeader(self._core.leader_id))
        elif learner.birth and lacks <= NEARLY_ENTRIES:
            change = Change(True, learner.node_id, learner.address, learner.birth)
            self._append(membership_entry(change), learner.done)
        elif self._clock() - learner.heard_s > self._patience_s:
            reason = f"node {learner.node_id} does not answer at {learner.address}"
            self._waiters.decided(learner.done, Refused(reason))
        else:
            return
        self.learner = None

    def _objection(self, change: Change) -> str | None:
        """Why a change cannot be made now."""
        members: dict[int, Member] = self._core.members
        node = f"node {change.node_id}"
        if self.learner is not None:
            return f"node {self.learner.node_id} is being added; try again when it is"
        if not self._core.may_change_members():
            return "the change of members before this one is not committed yet; try again"
        if change.add:
            if change.node_id in members:
                return f"{node} is a member already, at {members[change.node_id].address}"
            if change.address in {member.address for member in members.values()}:
                return f"another member has the address {change.address}"
        elif change.node_id not in members:
            return f"{node} is not a member"
        elif change.node_id == self._core.self_id:
            others = ", ".join(str(member) for member in members if member != change.node_id)
            if not others:
                return f"{node} is the only member"
            return f"{node} leads; another one ({others}) must take the lead before it can leave"
        return None
