"""Simulated time, and the queue of what is still to happen.

One seed decides all of it: the order of events, every delay, every fault. Nothing here or in what
it drives reads a real clock, draws real chance or starts a thread.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import TYPE_CHECKING

from blixard.sim.plan import Plan
from blixard.sim.trace import Trace

if TYPE_CHECKING:
    from blixard.sim.administrator import Administrator
    from blixard.sim.checks import Checks
    from blixard.sim.computer import Computer
    from blixard.sim.execution import Execution
    from blixard.sim.host import Host
    from blixard.sim.network import Network

CLUSTER_ID = "simulated"


class World:
    """What all simulated parts share."""

    administrator: "Administrator"
    checks: "Checks"
    execution: "Execution"
    network: "Network"

    def __init__(self, plan: Plan, tell: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self.random = Random(plan.seed)
        self.now_us = 0
        self.trace = Trace(lambda: self.now_us, tell)
        self.hosts: dict[int, Host] = {}
        self.computers: list[Computer] = []
        self.struck: dict[str, int] = {}
        """How often each kind of fault truly changed what happened."""
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0

    def at(self, when_us: int, act: Callable[[], None]) -> None:
        """Do something at a time; of the same time, in the order of these calls."""
        self._order += 1
        heappush(self._due, (when_us, self._order, act))

    def later(self, delay_us: float, act: Callable[[], None]) -> None:
        """Do something after a while."""
        self.at(self.now_us + int(delay_us), act)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; ends early, and answers True, once `until` holds (asked 10 times a
        simulated second)."""
        end_us = self.now_us + int(seconds * 1e6)
        ask_us = self.now_us
        due, checks = self._due, self.checks
        while due and due[0][0] <= end_us and not checks.is_broken:
            when_us, _, act = heappop(due)
            if until is not None and when_us >= ask_us:
                if until():
                    heappush(due, (when_us, 0, act))
                    return True
                ask_us = when_us + 100_000
            self.now_us = max(self.now_us, when_us)
            act()
        self.now_us = end_us
        return until is not None and until()

    def bit(self, kind: str) -> None:
        """A fault of this kind took effect."""
        self.struck[kind] = self.struck.get(kind, 0) + 1

    def delay_us(self, bounds_us: tuple[int, int]) -> int:
        """A delay between two bounds."""
        return self.random.randint(*bounds_us)
