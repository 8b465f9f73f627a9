"""The log as the services use it: callbacks become awaitables, and refusals become exceptions."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from blixard.commands import (
    Command,
)
from blixard.errors import Code
from blixard.machine.changes import Batch
from blixard.model import (
    Accepted,
    Fix,
    Outcome,
    Rejected,
    RequestId,
)
from blixard.ports import Clock, Log, Unavailable
from blixard.wire import actor
from blixard.wire.lease_watch import LeaseWatch
from blixard.wire.recent import RecentEvents
from blixard.wire.status import Refused

LOOK_EVERY_S: Final = 0.2


class NodeLog:
    """Access to this node's log, once the node belongs to a cluster."""

    def __init__(self, node_id: int, clock: Clock) -> None:
        self.node_id = node_id
        self.leases = LeaseWatch(clock)
        self.wall_ms = clock.wall_ms
        self.recent = RecentEvents()
        self.closed = False
        """Whether the node is about to stop."""
        self._listeners: set[Callable[[Batch], None]] = set()
        self._log: Log | None = None
        self._changed = asyncio.Event()

    def open(self, log: Log) -> None:
        """The node belongs to a cluster from now on."""
        self._log = log
        self.announce()

    @property
    def opened(self) -> bool:
        """Whether the node belongs to a cluster."""
        return self._log is not None

    @property
    def log(self) -> Log:
        """This node's log. Raises `Refused` while it belongs to no cluster."""
        if self._log is None:
            raise Refused(
                Rejected(
                    Code.NO_LEADER,
                    f"node-{self.node_id} belongs to no cluster yet",
                    why="it waits for one of its peers to know a cluster",
                    fixes=(Fix("check --peer, or start one node with --bootstrap"),),
                )
            )
        return self._log

    def close(self) -> None:
        """The node is about to stop: whoever watches should go on elsewhere."""
        self.closed = True
        self.announce()

    def tell(self, batch: Batch) -> None:
        """The state has changed."""
        self.recent.take(batch)
        for listener in self._listeners:
            listener(batch)
        self.announce()

    @contextlib.contextmanager
    def listening(self, listener: Callable[[Batch], None]) -> Iterator[None]:
        """Have `listener` told of every change; it must return at once."""
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)

    async def changed(self, timeout_s: float) -> None:
        """Return once something was announced after this call, or after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)

    def announce(self) -> None:
        """Tell the waiting calls that the state has changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for a condition on the state; False if it does not hold within `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    # Who leads changes without an entry, so look now and then as well.
                    await self.changed(LOOK_EVERY_S)
        except TimeoutError:
            return False
        return True

    async def change(self, command: Command, request: RequestId | None) -> Accepted:
        """Propose a command and return once it is applied here. Raises `Refused`."""
        by = actor.asking()
        outcome = await self._decided(lambda done: self.log.propose(command, done, request, by))
        return self._accepted(outcome)

    async def decided(self, command: Command) -> Outcome:
        """Have a node's own command proposed; a rejection is an answer here."""
        outcome = await self._decided(lambda done: self.log.submit(command, done))
        if isinstance(outcome, Unavailable):
            raise self._elsewhere(outcome)
        return outcome

    async def read(self, *, stale: bool) -> Log:
        """The log, fit to be read: linearizable (leader only), or as it is here if `stale`."""
        if not stale:
            outcome = await self._decided(self.log.barrier)
            self._accepted(outcome)
        return self.log

    def leader_only(self) -> Log:
        """The log if this node leads; else `Refused`, with the leader's address."""
        status = self.log.status()
        if not status.is_leader:
            raise self._elsewhere(Unavailable("this node does not lead", status.leader_id))
        return self.log

    async def _decided(
        self, begin: Callable[[Callable[[Outcome | Unavailable], None]], None]
    ) -> Outcome | Unavailable:
        decision: asyncio.Future[Outcome | Unavailable] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome | Unavailable) -> None:
            if not decision.done():
                decision.set_result(outcome)

        begin(done)
        return await decision

    def _accepted(self, outcome: Outcome | Unavailable) -> Accepted:
        match outcome:
            case Accepted():
                return outcome
            case Rejected():
                raise Refused(outcome)
            case Unavailable():
                raise self._elsewhere(outcome)

    def _elsewhere(self, unavailable: Unavailable) -> Refused:
        """Send the caller to the leader, if one is known."""
        status = self.log.status()
        leader_id = unavailable.leader_id or status.leader_id
        known = leader_id is not None and leader_id != status.node_id
        address = status.members.get(leader_id, "") if leader_id is not None and known else ""
        needed = len(status.members) // 2 + 1
        if unavailable.maybe_applied:
            rejected = Rejected(
                Code.OUTCOME_UNKNOWN, unavailable.message, why="it may still take effect"
            )
        else:
            rejected = Rejected(
                Code.NO_LEADER,
                f"node-{self.node_id} does not lead" if known else "no leader is known",
                why=f"a change needs a majority: {needed} of {len(status.members)} nodes",
                fixes=(Fix("see which nodes answer", "blixard cluster status --stale"),),
            )
        return Refused(rejected, leader_address=address, maybe_applied=unavailable.maybe_applied)
