"""Members that come, when they are of no help yet, and members that go, without knowing it."""

from pathlib import Path

import pytest

from blixard.raft import membership
from blixard.raft.engine import RaftTimings
from blixard.raft.envelope import Post
from blixard.raft.membership import NEARLY_ENTRIES
from blixard.raft.outcome import Applied, Outcome
from blixard.raft.wire import Append, VoteRequest
from raft.lab import Lab
from schedules.subject import Make, Subject

# A newcomer has nothing, and counts.


def a_newcomer_that_is_silent(leader: Subject) -> None:
    """One of three is down. A fourth is added, which does not answer."""
    leader.elect(2)
    leader.ack(2, leader.last[0])
    leader.add(4)
    leader.tick()
    leader.propose(b"x")
    leader.ack(2, leader.last[0])
    leader.tick()


def test_a_newcomer_that_is_silent_stops_the_cluster_on_stock(stock: Make) -> None:
    leader = stock()
    a_newcomer_that_is_silent(leader)
    assert leader.voters == {1, 2, 3, 4}
    assert leader.acknowledged == []


def test_a_newcomer_does_not_count_before_it_has_answered_on_ours(ours: Make) -> None:
    leader = ours()
    a_newcomer_that_is_silent(leader)
    assert leader.voters == {1, 2, 3}
    assert leader.acknowledged == [b"x"]


def lacks_when_it_is_added(lab: Lab) -> int:
    """Let a fourth node join three that have dropped most of their log. Returns how many entries
    it lacks at the moment when the first of the four counts it as a member."""
    lab.found(3).commit(*(b"%d" % number for number in range(NEARLY_ENTRIES * 3)))
    leader = lab.lead()
    lab.join(4)
    lacking: list[int] = []

    def looks(_: object) -> bool:
        if not lacking and 4 in lab.members(leader):
            ends = [lab.nodes[node].engine.status().last_index for node in (leader, 4)]
            lacking.append(ends[0] - ends[1])
        return True

    lab.passes = looks
    assert isinstance(lab.outcome(lab.add, 4), Applied)
    return lacking[0]


def test_a_newcomer_gets_a_snapshot_before_it_gets_a_vote_on_ours() -> None:
    lab = Lab(timings=RaftTimings(snapshot_entries=10))
    assert lacks_when_it_is_added(lab) <= NEARLY_ENTRIES
    newcomer = lab.nodes[4].engine.status()
    assert newcomer.snapshot_index > NEARLY_ENTRIES, "not entry by entry"
    assert len(newcomer.members) == 4


def test_a_newcomer_that_lacks_everything_is_seen_if_that_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(membership, "NEARLY_ENTRIES", 10**9)
    assert lacks_when_it_is_added(Lab(timings=RaftTimings(snapshot_entries=10))) > NEARLY_ENTRIES


# A member that was removed hears nothing of it, and campaigns.


def a_removed_member_campaigns(leader: Subject) -> None:
    """Node 3 is removed, and asks for votes with a term above all others."""
    leader.elect(2, 3)
    leader.ack(2, leader.last[0])
    leader.ack(3, leader.last[0])
    leader.sent.clear()
    leader.remove(3)
    leader.tick()
    leader.later(0.11)
    leader.ack(2, leader.last[0])
    leader.later(0.11)
    assert leader.voters == {1, 2}
    appends = [message for message in leader.said_to(3) if isinstance(message, Append)]
    assert not [append for append in appends if append.last_index == leader.last[0]]
    leader.hear(3, VoteRequest(leader.term + 20, *leader.last))


def test_a_removed_member_overthrows_the_leader_on_stock(stock: Make) -> None:
    leader = stock()
    a_removed_member_campaigns(leader)
    assert not leader.leads
    assert leader.refusals == []


def test_a_removed_member_is_told_so_on_ours(ours: Make) -> None:
    leader = ours()
    a_removed_member_campaigns(leader)
    assert leader.leads
    assert leader.refusals == ["node 3 is not a member of this cluster"]


def test_a_removed_member_is_seen_to_overthrow_the_leader_if_everybody_is_entitled(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Post, "_not_entitled", lambda *_: None)
    leader = weakened()
    a_removed_member_campaigns(leader)
    assert not leader.leads


@pytest.mark.parametrize("hears_of_it", [False, True])
def test_a_removed_member_votes_no_more_on_ours(tmp_path: Path, *, hears_of_it: bool) -> None:
    """Whether it was reached or not: it gets no votes, gives none, and its restart changes
    nothing of that."""
    lab = Lab(tmp_path).found(3)
    leader = lab.lead()
    gone, rest = (node for node in lab.nodes if node != leader)
    if not hears_of_it:
        lab.isolate(gone)
    assert isinstance(lab.outcome(lab.nodes[leader].engine.remove_member, gone), Applied)
    lab.heal()
    lab.run(10)
    assert (gone, f"node {gone} is not a member of this cluster") in lab.refusals
    lab.crash(gone)
    lab.start(gone)
    term = lab.nodes[leader].engine.status().term
    lab.crash(leader)
    lab.run(20)
    assert lab.leaders() == [], "one of two, and one that is no member"
    told: list[Outcome] = []
    lab.nodes[rest].engine.propose(b"x", told.append)
    lab.nodes[gone].engine.propose(b"x", told.append)
    lab.settle()
    assert not [outcome for outcome in told if isinstance(outcome, Applied)]
    lab.start(leader)
    lab.commit(b"y")
    assert gone not in lab.leaders()
    assert lab.nodes[gone].engine.status().term == term, "it campaigned, but never in earnest"
    lab.close()
