"""What a node tells Prometheus, on a listener of its own.

What happens is told through `ports.Meters` and counted at once. What is, is read when somebody
asks: the daemon leaves what it saw with every step, and a thread makes an answer of it, so that no
request waits for the daemon's loop, nor the loop for a request.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry, disable_created_metrics

from blixard.machine.changes import Batch
from blixard.metrics.collector import NodeCollector, Seen
from blixard.metrics.listener import Listener
from blixard.metrics.meters import PrometheusMeters
from blixard.model import Cluster
from blixard.ports import Clock, LogStatus


class Led(Protocol):
    """The log, as its engine knows it here."""

    def status(self) -> LogStatus: ...

    def cluster(self) -> Cluster: ...

    def lag(self) -> Mapping[int, int]: ...


class Will(Protocol):
    """The agent of this node."""

    @property
    def lease_left_ms(self) -> int: ...

    def leads_in(self, term: int) -> bool: ...


class Metrics:
    """All metrics of one node."""

    def __init__(self, node_id: int, version: str, journal: Path, clock: Clock) -> None:
        """`journal` is the directory that holds the log, to be measured."""
        # A second time series for each counter, which nothing here reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.meters = PrometheusMeters(self.registry, clock)
        self._clock = clock
        self._collector = NodeCollector(node_id, version, journal, clock, self.meters)
        self._leads = False
        self.registry.register(self._collector)

    @contextlib.asynccontextmanager
    async def served(self, bind: str | None) -> AsyncIterator[None]:
        """Listen at `bind` (host:port), if that is anywhere. Raises `BlixardError`."""
        if bind is None:
            yield
            return
        listener = Listener(self.registry, bind)
        try:
            yield
        finally:
            await asyncio.to_thread(listener.close)

    def look(self, log: Led, agent: Will) -> None:
        """A step has ended: keep what it left, to be told until the next one."""
        status, cluster = log.status(), log.cluster()
        self._leads = status.is_leader and agent.leads_in(status.term)
        self.meters.forget(cluster.vms)
        if status.is_leader:
            self.meters.leads(status.term)
        self._collector.seen = Seen(
            status=status,
            cluster=cluster,
            lag=log.lag(),
            leads=self._leads,
            fence_ms=self._clock.boot_ms() + agent.lease_left_ms,
            at_ms=self._clock.wall_ms(),
        )

    def changed(self, batch: Batch, cluster: Cluster) -> None:
        """An entry was applied here, and this is what it changed."""
        for name in batch.vms:
            vm = cluster.vms.get(name)
            if vm is not None:
                self.meters.changed(vm, leads=self._leads)
