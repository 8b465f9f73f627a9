"""A, B, C and M: what the log of one member says about those of the others."""

import pytest

from blixard.raft import core, library, replicate
from blixard.raft.core import Core
from blixard.raft.guard import Fitted
from blixard.raft.journal import Journal
from blixard.raft.replicate import Progress, Replicator
from blixard.raft.wire import Append, Vote
from schedules.stock import Stock
from schedules.subject import TOP, Make, Subject, carry, text

# A: a part of a snapshot moves the commit index over entries that nobody has compared.


def dead_entries_and_a_first_chunk(member: Subject) -> None:
    """A leader of term 1 is cut off with two commands. The others go on, and drop from the log
    what it lacks; their leader of term 5 begins to send it a snapshot."""
    member.elect(2)
    member.propose(b"dead")
    member.propose(b"dead too")
    first, _ = member.snapshot(100, 5, [b"other"] * 90)
    member.hear_chunk(2, 5, first, commit=100)


def test_defect_a_dead_entries_are_applied_and_acknowledged_on_stock(stock: Make) -> None:
    member = stock()
    dead_entries_and_a_first_chunk(member)
    assert member.applied == [b"dead", b"dead too"]
    assert member.acknowledged == [b"dead", b"dead too"]


def test_defect_a_a_chunk_commits_nothing_on_ours(ours: Make) -> None:
    member = ours()
    dead_entries_and_a_first_chunk(member)
    assert member.applied == []
    assert member.acknowledged == []


def test_defect_a_is_seen_if_a_chunk_moves_the_commit_index(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hear(self: Core, sender: int, term: int) -> None:
        heard = {"type": "append_entries", "term": term, "commit_index": 100}
        self._SyncObj__onMessageReceived(library.Node(sender), heard)

    monkeypatch.setattr(Core, "_hear_leader", hear)
    member = weakened()
    dead_entries_and_a_first_chunk(member)
    assert member.applied == member.acknowledged == [b"dead", b"dead too"]


# B: an append that was sent again takes away what was acknowledged after it.


def an_append_that_was_overtaken(member: Subject) -> bool:
    """Entries 2 to 30 are acknowledged, and the leader counts them as committed. Then 21 to 24
    arrive again, the first of two messages; the leader dies. Returns whether this member votes
    for a candidate that has no more than 24."""
    member.append(2, 1, TOP, [1] * 29)
    assert member.claimed == 30
    member.append(2, 1, (20, 1), [1] * 4)
    return member.asks_for_vote(3, 2, (24, 1))


def test_defect_b_acknowledged_entries_are_dropped_on_stock(stock: Make) -> None:
    member = stock()
    assert an_append_that_was_overtaken(member), "25 to 30 are lost"
    assert member.last == (24, 1)


def test_defect_b_acknowledged_entries_stay_on_ours(ours: Make) -> None:
    member = ours()
    assert not an_append_that_was_overtaken(member)
    assert member.last == (30, 1)


def an_append_before_an_own_tail(member: Subject) -> None:
    """The other half: that entries agree up to 24 says nothing about a tail behind them."""
    member.append(2, 1, TOP, [1] * 29)
    member.sent.clear()
    member.append(3, 2, (20, 1), [1] * 4, commit=30)


def test_defect_b_no_more_is_acknowledged_than_was_compared_on_ours(ours: Make) -> None:
    member = ours()
    an_append_before_an_own_tail(member)
    assert member.claimed == 24
    assert member.applied[-1] == text(24, 1)


def test_defect_b_a_tail_is_acknowledged_and_applied_if_the_whole_log_counts(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generous(append: Append, log: Journal) -> Fitted:
        end = log.last_index
        anchored = Append(append.term, append.commit_index, end, log.term_at(end), [])
        return Fitted(anchored, end)

    member = weakened()
    member.append(2, 1, TOP, [1] * 29)
    monkeypatch.setattr(core, "fit", generous)
    member.append(3, 2, (20, 1), [1] * 4, commit=30)
    assert member.claimed == 30
    assert member.applied[-1] == text(30, 1)


def test_defect_b_is_seen_if_appends_pass_as_they_are(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def whole(append: Append, log: Journal) -> Fitted:
        return Fitted(append, append.last_index)

    monkeypatch.setattr(core, "fit", whole)
    member = weakened()
    assert an_append_that_was_overtaken(member)
    assert member.last == (24, 1)


def a_leader_that_dies_in_the_middle_of_sending_again(make: Make) -> list[bytes]:
    """The same with three members and nothing but their own messages. The answer to the first
    append arrives a heartbeat before the others; the leader dies when the first message that it
    sent in between has arrived, and the follower is elected in its place. Returns what clients
    were told to be committed and the new leader lacks."""
    leader, follower, third = make(1), make(2), make(3)
    leader.elect(2)
    for _ in range(3):
        leader.later(0.11)
        carry(leader, follower)
        carry(follower, leader)
    leader.sent.clear()
    for number in range(29):
        leader.propose(b"%d" % number + bytes(8000))
    leader.later(0.11)
    carry(leader, follower)
    first, *others = follower.said_to(1)
    leader.sent.clear()
    leader.hear(2, first)
    leader.later(0.11)
    again = leader.said_to(2)[0]
    for answer in others:
        leader.hear(2, answer)
    assert len(leader.acknowledged) > 10
    follower.hear(1, again)
    follower.elect()
    assert third.asks_for_vote(2, follower.term, follower.last)
    follower.hear(3, Vote(follower.term))
    follower.later(0.11)
    follower.ack(3, follower.last[0])
    assert follower.leads
    return [entry for entry in leader.acknowledged if entry not in follower.applied]


def test_defect_b_the_next_leader_lacks_what_clients_were_told_on_stock(stock: Make) -> None:
    lost = a_leader_that_dies_in_the_middle_of_sending_again(stock)
    assert len(lost) > 10


def test_defect_b_the_next_leader_has_what_clients_were_told_on_ours(ours: Make) -> None:
    assert a_leader_that_dies_in_the_middle_of_sending_again(ours) == []


# C: an acknowledgement counts in whatever term it arrives.


def a_late_acknowledgement(member: Subject) -> None:
    """The leader of term 1, of five, is overruled: its entries give way to those of term 5. It is
    elected again in term 7, and only now hears what node 2 acknowledged in term 1."""
    member.elect(2, 3)
    first = member.term
    member.propose(b"gone")
    member.propose(b"gone too")
    member.append(3, first + 4, TOP, [first + 4])
    assert member.last == (2, first + 4)
    member.elect(4, 5)
    member.propose(b"late")
    member.ack(4, 4)
    member.tick()
    assert member.acknowledged == []
    member.ack(2, 4, term=first)
    member.tick()


def test_defect_c_two_copies_of_five_are_a_commit_on_stock(stock: Make) -> None:
    member = stock(members=5)
    a_late_acknowledgement(member)
    assert member.acknowledged == [b"late"], "only this member and node 4 have it"


def test_defect_c_an_acknowledgement_counts_in_its_own_term_on_ours(ours: Make) -> None:
    member = ours(members=5)
    a_late_acknowledgement(member)
    assert member.acknowledged == []
    member.ack(5, 4)
    member.tick()
    assert member.acknowledged == [b"late"]


def test_defect_c_is_seen_if_answers_of_any_term_count(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = Core._receive_answer
    monkeypatch.setattr(
        Core,
        "_receive_answer",
        lambda self, sender, _, answer: receive(self, sender, self.term, answer),
    )
    member = weakened(members=5)
    a_late_acknowledgement(member)
    assert member.acknowledged == [b"late"]


def test_defect_c_nobody_has_more_than_the_leader_on_stock(stock: Make) -> None:
    member = stock(members=5)
    member.elect(2, 3)
    member.ack(2, 49)
    assert isinstance(member, Stock)
    matches = {node.id: index for node, index in member.private("raftMatchIndex").items()}
    assert matches[2] == 49 > member.last[0]


def test_defect_c_who_has_more_than_the_leader_stops_ours(ours: Make) -> None:
    member = ours(members=5)
    member.elect(2, 3)
    with pytest.raises(AssertionError, match="more than the leader"):
        member.ack(2, 49)


# M: the answers to appends that were sent ahead undo the step back that an earlier one asked for.


def a_long_backlog_behind_a_divergence(make: Make) -> tuple[Subject, Subject]:
    """The follower's log parts from the leader's at its last entry, and the leader has more than
    fits in one append. Both then talk, undisturbed, for 30 rounds."""
    leader, follower = make(1), make(2)
    follower.append(3, 4, TOP, [1] * 1069 + [4])
    leader.append(3, 5, TOP, [1] * 2999)
    leader.elect(3)
    for _ in range(30):
        carry(leader, follower)
        carry(follower, leader)
        leader.later(0.15)
    assert leader.leads
    return leader, follower


def test_defect_m_the_logs_never_meet_on_stock(stock: Make) -> None:
    _, follower = a_long_backlog_behind_a_divergence(stock)
    assert follower.last == (1071, 4)


def test_defect_m_the_logs_meet_on_ours(ours: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicate, "BATCH_BYTES", 2000)
    leader, follower = a_long_backlog_behind_a_divergence(ours)
    assert follower.log == leader.log


def test_defect_m_is_seen_if_each_answer_moves_the_leader(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow(self: Replicator, member: int, prev_index: int, next_index: int) -> None:
        progress: Progress = self._members[member]
        progress.probing = False
        progress.next_index = next_index
        progress.ahead.clear()

    monkeypatch.setattr(Replicator, "mismatched", follow)
    monkeypatch.setattr(replicate, "BATCH_BYTES", 2000)
    _, follower = a_long_backlog_behind_a_divergence(weakened)
    assert follower.last == (1071, 4)
