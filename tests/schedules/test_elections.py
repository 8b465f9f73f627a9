"""L, and what else decides who leads: who is counted, who may ask, and who must step down."""

import pytest

from blixard.raft.core import Core
from blixard.raft.engine import RaftTimings
from blixard.raft.envelope import Post
from blixard.raft.guard import Ballot, Order
from blixard.raft.wire import LeadNow, PreVoteRequest, Vote, VoteRequest
from raft.lab import STEP_S, Lab
from schedules.ours import Ours
from schedules.subject import TOP, Make, Subject

# L: a vote counts as often as it arrives, whoever gave it.


def one_vote_arrives_twice(member: Subject) -> None:
    """A candidate of five hears twice that node 2 votes for it."""
    member.elect(2)
    member.receive_again()
    member.tick()


def test_defect_l_two_of_five_make_a_leader_on_stock(stock: Make) -> None:
    member = stock(members=5)
    one_vote_arrives_twice(member)
    assert member.leads


def test_defect_l_a_vote_counts_once_on_ours(ours: Make) -> None:
    member = ours(members=5)
    one_vote_arrives_twice(member)
    assert not member.leads
    member.hear(2, Vote(member.term))
    assert not member.leads, "not even if it is said anew"
    member.hear(3, Vote(member.term))
    assert member.leads


def test_defect_l_is_seen_if_votes_are_not_remembered(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ballot, "count", lambda *_: True)
    monkeypatch.setattr(Ballot, "is_won", lambda *_: True)
    monkeypatch.setattr(Order, "is_next", lambda *_: True)
    member = weakened(members=5)
    one_vote_arrives_twice(member)
    assert member.leads


def a_stranger_votes(member: Subject) -> None:
    """Of three, one candidate hears a vote of node 9, which nobody has added or which was
    removed."""
    member.elect(9)


def test_defect_l_a_stranger_makes_a_leader_on_stock(stock: Make) -> None:
    member = stock()
    a_stranger_votes(member)
    assert member.leads


def test_defect_l_a_stranger_has_no_vote_on_ours(ours: Make) -> None:
    member = ours()
    a_stranger_votes(member)
    assert not member.leads
    assert member.refusals == ["node 9 is not a member of this cluster"]


def test_defect_l_is_seen_if_everybody_is_entitled(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Post, "_not_entitled", lambda *_: None)
    member = weakened()
    a_stranger_votes(member)
    assert member.leads


# Two votes in one term, without a restart. (With one: see the durability of the vote.)


def two_candidates_of_one_term(member: Subject) -> list[bool]:
    return [member.asks_for_vote(2, 7, TOP), member.asks_for_vote(3, 7, TOP)]


def test_a_vote_is_given_once_in_a_term_on_both(stock: Make, ours: Make) -> None:
    assert two_candidates_of_one_term(stock()) == [True, False]
    assert two_candidates_of_one_term(ours()) == [True, False]


# Pre-vote: a member that was cut off comes back with a term above all others.


def a_minute_alone(member: Subject) -> None:
    member.append(2, 1, TOP)
    member.run(60)


def test_without_a_pre_vote_terms_grow_alone_on_stock(stock: Make) -> None:
    member = stock()
    a_minute_alone(member)
    assert member.term > 20
    leader = stock(2)
    leader.elect(3)
    leader.hear(1, VoteRequest(member.term, *TOP))
    assert not leader.leads, "it could not even win that election"


def test_the_term_of_a_member_that_was_cut_off_stays_on_ours(ours: Make) -> None:
    member = ours()
    a_minute_alone(member)
    assert member.term == 1


def test_the_terms_grow_alone_if_the_pre_vote_is_not_asked(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Core, "_SyncObj__connectedToAnyone", lambda _: True)
    member = weakened()
    a_minute_alone(member)
    assert member.term > 20


def test_who_hears_a_leader_grants_no_pre_vote_on_ours(ours: Make) -> None:
    member = ours()
    member.append(2, 1, TOP)
    member.hear(3, PreVoteRequest(2, *TOP), 1)
    assert [message.granted for node, message in member.sent if node == 3] == [False]
    member.later(RaftTimings().election_min_ms / 1000)
    member.hear(3, PreVoteRequest(2, *TOP), 1)
    assert [message.granted for node, message in member.sent if node == 3] == [False, True]


# Check-quorum: a leader that nobody answers.


def test_a_leader_without_a_quorum_leads_on_for_half_a_minute_on_stock(stock: Make) -> None:
    member = stock()
    member.elect(2)
    member.run(25)
    assert member.leads, "others follow another leader for 23 s by now"


def test_a_leader_without_a_quorum_steps_down_within_an_election_timeout_on_ours(
    ours: Make,
) -> None:
    member = ours(members=5)
    member.elect(2, 3)
    member.run(1)
    assert member.leads
    for _ in range(20):
        member.ack(2, member.last[0])
        member.ack(3, member.last[0])
        member.run(1)
    assert member.leads, "three of five are a quorum"
    member.ack(2, member.last[0])
    longest_s = RaftTimings().election_max_ms / 1000
    member.run(longest_s + STEP_S)
    assert (member.leads, member.term) == (False, 1), "it begins no new term by that"


def test_a_leader_without_a_quorum_is_seen_to_lead_on_if_it_is_patient(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = weakened(members=5)
    assert isinstance(member, Ours)
    monkeypatch.setattr(member.core.conf, "leaderFallbackTimeout", 30.0)
    member.elect(2, 3)
    member.run(25)
    assert member.leads


def test_a_leader_that_hears_nobody_gives_way_though_all_hear_it_on_ours() -> None:
    """Its heartbeats keep everyone else from an election for as long as it leads."""
    lab = Lab().found(3)
    deaf = lab.lead()
    began_s = lab.now_s
    longest_s = lab.timings.election_max_ms / 1000
    lab.passes = lambda envelope: envelope.receiver != deaf
    lab.until(lambda: deaf not in lab.leaders(), within_s=longest_s + 2 * STEP_S)
    lab.until(lambda: lab.leaders() != [], within_s=3 * longest_s)
    assert lab.leaders() != [deaf]
    assert lab.now_s - began_s < 4 * longest_s


def test_a_follower_that_hears_nobody_disturbs_nobody_on_ours() -> None:
    lab = Lab().found(3)
    leader = lab.lead()
    term = lab.nodes[leader].engine.status().term
    deaf = next(node for node in lab.nodes if node != leader)
    lab.passes = lambda envelope: envelope.receiver != deaf
    lab.run(20)
    assert lab.leaders() == [leader]
    assert {node.engine.status().term for node in lab.nodes.values()} == {term}


def test_the_answers_of_a_removed_member_keep_no_leader_on_ours(ours: Make) -> None:
    member = ours()
    member.elect(2, 3)
    member.ack(2, member.last[0])
    member.ack(3, member.last[0])
    member.remove(3)
    member.tick()
    for _ in range(25):
        member.ack(3, member.last[0])
        member.run(0.1)
    assert not member.leads, "one of two"


def test_an_acknowledgement_of_an_earlier_term_keeps_no_leader_on_ours(ours: Make) -> None:
    member = ours()
    member.append(2, 4, TOP)
    member.elect(3)
    for _ in range(25):
        member.ack(2, 1, term=4)
        member.run(0.1)
    assert not member.leads


def test_only_the_leader_hands_over(ours: Make) -> None:
    """A request of an earlier leader begins no election."""
    member = ours()
    member.append(2, 4, TOP)
    member.sent.clear()
    member.hear(3, LeadNow(4))
    member.hear(2, LeadNow(3))
    assert not [message for _, message in member.sent if isinstance(message, VoteRequest)]
    member.hear(2, LeadNow(4))
    assert [node for node, message in member.sent if isinstance(message, VoteRequest)] == [2, 3]
