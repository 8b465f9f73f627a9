"""A log of one node that decides at once: the state machine without consensus."""

from collections.abc import Callable, Mapping

from blixard.commands import (
    Command,
    Entry,
)
from blixard.machine import apply
from blixard.machine.changes import Batch, changes
from blixard.model import (
    Accepted,
    Cluster,
    RequestId,
)
from blixard.ports import Done, LogStatus, Unavailable

WALL_MS = 1_700_000_000_000


class LocalLog:
    """`ports.Log`, deciding synchronously. `unavailable` makes it refuse, as a follower does."""

    def __init__(self, members: Mapping[int, str], node_id: int = 1) -> None:
        self.members = dict(members)
        self.node_id = node_id
        self.leader_id: int | None = node_id
        self.heard_ms = dict.fromkeys(members, 0)
        self.unavailable: Unavailable | None = None
        self.index = 0
        self.told: Callable[[Batch], None] = lambda _: None
        self._cluster = Cluster()

    def cluster(self) -> Cluster:
        return self._cluster

    def status(self) -> LogStatus:
        return LogStatus(
            cluster_id="c1",
            node_id=self.node_id,
            role="leader" if self.leader_id == self.node_id else "follower",
            term=3,
            leader_id=self.leader_id,
            commit_index=self.index,
            applied_index=self.index,
            members=self.members,
            heard_ms=self.heard_ms,
        )

    def propose(
        self, command: Command, done: Done, request: RequestId | None = None, by: str = ""
    ) -> None:
        if self.unavailable is not None:
            done(self.unavailable)
            return
        self.index += 1
        entry = Entry(command, WALL_MS, request, by)
        before = self._cluster
        self._cluster, outcome = apply(before, self.index, entry)
        batch = changes(before, self._cluster, self.index, entry, outcome)
        if batch is not None:
            self.told(batch)
        done(outcome)

    def submit(self, command: Command, done: Done) -> None:
        self.propose(command, done)

    def barrier(self, done: Done) -> None:
        done(self.unavailable or Accepted(self.index))

    def add_member(self, node_id: int, address: str, done: Done) -> None:
        raise AssertionError("membership is the agent's duty")

    def remove_member(self, node_id: int, done: Done) -> None:
        raise AssertionError("membership is the agent's duty")

    def transfer_leadership(self) -> None:
        raise AssertionError("leadership is the agent's duty")
