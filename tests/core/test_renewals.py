"""The leader's side of leases: renewals that arrive together are committed together."""

from dataclasses import replace
from typing import Any

from blixard.commands import Renewal, RenewLeases
from blixard.errors import Code
from blixard.model import Accepted, Cluster, Membership, Node, Outcome, Rejected
from blixard.ports import Done, Unavailable
from blixard.raft.renewals import Renewals


class Proposals:
    """A log that decides when it is told to."""

    def __init__(self) -> None:
        self.cluster = Cluster(
            nodes={
                i: Node(i, f"n{i}:1", f"m{i}", f"j{i}", Membership.MEMBER, incarnation=10 + i)
                for i in (1, 2, 3)
            }
        )
        self.open: list[tuple[RenewLeases, Done]] = []
        self.renewals = Renewals(
            lambda command, done: self.open.append((command, done)), lambda: self.cluster
        )

    def decide(self, outcome: Outcome | Unavailable) -> None:
        command, done = self.open.pop(0)
        nodes = dict(self.cluster.nodes)
        if isinstance(outcome, Accepted):
            for renewal in command.renewals:
                node = nodes[renewal.node_id]
                if node.incarnation == renewal.incarnation and not node.is_down:
                    nodes[node.node_id] = replace(node, seq=max(node.seq, renewal.seq))
        self.cluster = replace(self.cluster, nodes=nodes)
        done(outcome)


def test_renewals_that_come_meanwhile_share_the_next_entry() -> None:
    log = Proposals()
    told: list[Any] = []
    for node_id in (1, 2, 3):
        renewal = Renewal(node_id, 10 + node_id, 100)
        log.renewals.offer(RenewLeases((renewal,)), told.append)
    assert [len(command.renewals) for command, _ in log.open] == [1]
    log.decide(Accepted(7))
    assert told == [Accepted(7)]
    assert [len(command.renewals) for command, _ in log.open] == [2]
    log.decide(Accepted(8))
    assert told == [Accepted(7), Accepted(8), Accepted(8)]
    assert log.open == []


def test_each_renewal_of_a_batch_is_answered_for_itself() -> None:
    log = Proposals()
    log.cluster = replace(
        log.cluster,
        nodes={**log.cluster.nodes, 2: replace(log.cluster.nodes[2], is_down=True)},
    )
    told: dict[str, Any] = {}
    log.renewals.offer(RenewLeases((Renewal(1, 11, 1),)), lambda it: told.update(first=it))
    log.renewals.offer(RenewLeases((Renewal(1, 11, 2),)), lambda it: told.update(alive=it))
    log.renewals.offer(RenewLeases((Renewal(2, 12, 2),)), lambda it: told.update(down=it))
    log.renewals.offer(RenewLeases((Renewal(3, 12, 2),)), lambda it: told.update(old=it))
    log.decide(Unavailable("deposed", maybe_applied=True))
    assert isinstance(told["first"], Unavailable)
    log.decide(Accepted(9))
    assert told["alive"] == Accepted(9)
    assert [told[who].code for who in ("down", "old")] == [Code.STALE, Code.STALE]


def test_a_renewal_that_was_overtaken_ends_no_life() -> None:
    log = Proposals()
    told: list[Any] = []
    log.renewals.offer(RenewLeases((Renewal(1, 11, 5),)), told.append)
    _, done = log.open.pop()
    done(Rejected(Code.STALE, "none of these lives can be renewed"))
    assert isinstance(told[0], Unavailable)
