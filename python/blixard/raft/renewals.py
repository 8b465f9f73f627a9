"""The leader's side of leases: renewals that arrive together are committed together.

While one entry is on its way, the next collects whatever comes. So a cluster of any size adds one
entry a round trip at most, and a renewal waits for one other entry at most.
"""

from collections.abc import Callable

from blixard.commands import Renewal, RenewLeases
from blixard.errors import Code
from blixard.machine.leases import has_renewed, is_over
from blixard.model import Accepted, Cluster, Outcome, Rejected
from blixard.ports import Done, Unavailable


class Renewals:
    """Those that wait for the next entry, and those that it carries."""

    def __init__(
        self,
        propose: Callable[[RenewLeases, Done], None],
        cluster: Callable[[], Cluster],
    ) -> None:
        self._propose = propose
        self._cluster = cluster
        self._waiting: list[tuple[Renewal, Done]] = []
        self._is_under_way = False

    def offer(self, command: RenewLeases, done: Done) -> None:
        """Commit one node's renewal with those of others. `done` is told whether it was taken."""
        (renewal,) = command.renewals
        self._waiting.append((renewal, done))
        self._commit()

    def _commit(self) -> None:
        if self._is_under_way or not self._waiting:
            return
        batch, self._waiting = self._waiting, []
        self._is_under_way = True
        command = RenewLeases(tuple(renewal for renewal, _ in batch))
        self._propose(command, lambda outcome: self._committed(batch, outcome))

    def _committed(self, batch: list[tuple[Renewal, Done]], outcome: Outcome | Unavailable) -> None:
        self._is_under_way = False
        for renewal, done in batch:
            done(self._answer(renewal, outcome))
        self._commit()

    def _answer(self, renewal: Renewal, outcome: Outcome | Unavailable) -> Outcome | Unavailable:
        """A renewal counts only if the state says so: the entry speaks of many."""
        if isinstance(outcome, Unavailable):
            return outcome
        cluster = self._cluster()
        if isinstance(outcome, Accepted) and has_renewed(cluster, renewal):
            return outcome
        if is_over(cluster, renewal):
            return Rejected(Code.STALE, f"that life of node-{renewal.node_id} is over")
        return Unavailable("the renewal was overtaken by a later one")
