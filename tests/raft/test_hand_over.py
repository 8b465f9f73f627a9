"""Leadership that is handed over: to whom, and what happens to proposals meanwhile."""

from collections.abc import Iterator

import pytest

from blixard.raft.outcome import Applied, NotLeader, Outcome
from blixard.v1.raft_pb2 import RaftEnvelope
from raft.lab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    with_leader = Lab().found(3)
    with_leader.commit(b"a")
    with_leader.run(0.5)
    yield with_leader
    with_leader.close()


def carries_request(envelope: RaftEnvelope) -> bool:
    """Whether a message asks its receiver to lead."""
    return b"timeout_now" in bytes(envelope.message)


@pytest.mark.parametrize("gone", [0, 1])
def test_a_member_that_is_gone_is_not_asked_though_it_has_the_whole_log(
    lab: Lab, gone: int
) -> None:
    leader = lab.lead()
    followers = sorted(set(lab.nodes) - {leader})
    lab.crash(followers[gone])
    lab.run(0.3)
    assert lab.nodes[leader].engine.transfer_leadership() == followers[1 - gone]
    lab.until(lambda: lab.leader() == followers[1 - gone], within_s=0.5)


def test_nobody_is_asked_who_was_never_heard(lab: Lab) -> None:
    leader = lab.lead()
    for node_id in sorted(set(lab.nodes) - {leader}):
        lab.crash(node_id)
    lab.nodes[leader].engine._heard_s.clear()
    assert lab.nodes[leader].engine.transfer_leadership() is None


def test_proposals_wait_while_a_successor_is_to_be_found(lab: Lab) -> None:
    leader = lab.lead()
    engine = lab.nodes[leader].engine
    told: list[Outcome] = []
    engine.transfer_leadership()
    last = engine.status().last_index
    engine.propose(b"b", told.append)
    engine.barrier(told.append)
    engine.tick()
    assert engine.status().last_index == last
    lab.until(lambda: len(told) == 2, within_s=0.5)
    assert lab.leader() not in (None, leader)
    assert all(isinstance(outcome, NotLeader) for outcome in told)


def test_proposals_go_on_when_no_successor_is_found(lab: Lab) -> None:
    leader = lab.lead()
    engine = lab.nodes[leader].engine
    told: list[Outcome] = []
    lab.passes = lambda envelope: not carries_request(envelope)
    engine.transfer_leadership()
    engine.propose(b"b", told.append)
    for _ in range(200):
        # Asked again and again, as one does that wants to leave.
        engine.transfer_leadership()
        lab.step()
    assert lab.leader() == leader
    assert [type(outcome) for outcome in told] == [Applied]
