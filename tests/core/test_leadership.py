"""When a new leader begins to count, and when it wants to be asked again."""

from types import SimpleNamespace
from typing import Any

from blixard.commands import DeclareNodeDown
from blixard.errands import Errands
from blixard.leadership import Leadership
from blixard.lease import down_after_ms
from blixard.model import LEASE_MS, Accepted
from blixard.ports import LogStatus
from core.facts import cluster_of

TERM = 7


class LeadersLog:
    """A log whose barrier passes when it is told to; takes down what is proposed."""

    def __init__(self) -> None:
        self.readers: list[Any] = []
        self.proposed: list[Any] = []
        self.state = cluster_of()

    def cluster(self) -> Any:
        return self.state

    def status(self) -> LogStatus:
        members = {1: "n1:7001", 2: "n2:7001"}
        return LogStatus("c", 1, "leader", TERM, 1, 9, 9, members, {2: 0})

    def barrier(self, done: Any) -> None:
        self.readers.append(done)

    def propose(self, command: Any, done: Any) -> None:
        self.proposed.append(command)


def test_a_new_leader_counts_from_the_first_entry_of_its_term_and_not_from_a_later_step() -> None:
    now_ms = 100_000
    log: Any = LeadersLog()
    clock: Any = SimpleNamespace(boot_ms=lambda: now_ms)
    leadership = Leadership(log, clock, Errands(log))
    assert leadership.step(log.cluster(), log.status()) is None
    now_ms += 400
    log.readers.pop()(Accepted(9))

    now_ms += down_after_ms(LEASE_MS)
    assert leadership.step(log.cluster(), log.status()) == 1, "it is over in a millisecond"
    assert log.proposed == []
    now_ms += 1
    leadership.step(log.cluster(), log.status())
    assert log.proposed == [DeclareNodeDown(1, 11, 0), DeclareNodeDown(2, 12, 0)]
