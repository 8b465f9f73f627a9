"""A follower that answers slowly or not at all, and how much is sent to it."""

from typing import Final

import pytest

from blixard.raft import replicate, transport
from blixard.raft.wire import BATCH_BYTES, MAX_ENTRY_BYTES, Append
from schedules.subject import TOP, Make, Subject, carry

ENTRY_BYTES: Final = 5_000
ENTRIES: Final = 300


def a_silent_follower(leader: Subject) -> list[Append]:
    """Node 2 has confirmed what was there, and then falls silent; node 3 keeps up. Returns the
    appends with entries that went to node 2."""
    leader.elect(2, 3)
    leader.ack(2, leader.last[0])
    leader.ack(3, leader.last[0])
    leader.sent.clear()
    for _ in range(ENTRIES):
        leader.propose(bytes(ENTRY_BYTES))
        leader.later(0.02)
        leader.ack(3, leader.last[0])
    assert len(leader.acknowledged) == ENTRIES
    return [message for message in leader.said_to(2) if message.entries]


def test_the_whole_backlog_is_sent_to_a_silent_follower_on_stock(stock: Make) -> None:
    appends = a_silent_follower(stock())
    assert sum(len(append.entries) for append in appends) > ENTRIES * 9 // 10


def test_few_appends_are_sent_ahead_on_ours(ours: Make) -> None:
    leader = ours()
    appends = a_silent_follower(leader)
    assert len(appends) == replicate.APPENDS_AHEAD
    leader.ack(2, appends[3].last_index)
    appends = [message for message in leader.said_to(2) if message.entries]
    assert len(appends) <= replicate.APPENDS_AHEAD + 4
    assert sum(len(append.entries) for append in appends) == ENTRIES, "the rest fits in those"


def test_an_append_is_bounded_in_bytes_on_ours(ours: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicate, "BATCH_BYTES", 20_000)
    leader = ours()
    last = a_silent_follower(leader)[-1].last_index
    leader.sent.clear()
    leader.ack(2, last)
    appends = [message for message in leader.said_to(2) if message.entries]
    assert len(appends) == replicate.APPENDS_AHEAD
    sizes = {sum(len(entry.data) for entry in append.entries) for append in appends}
    assert max(sizes) < 20_000 + ENTRY_BYTES


def test_what_may_be_ahead_fits_into_a_link() -> None:
    """Otherwise a link to a slow peer would lose what the leader believes to be on its way."""
    largest = BATCH_BYTES + MAX_ENTRY_BYTES
    assert replicate.APPENDS_AHEAD * largest < transport.QUEUE_BYTES
    assert replicate.APPENDS_AHEAD < transport.QUEUE_MESSAGES


def test_a_follower_that_answers_again_gets_everything_on_ours(ours: Make) -> None:
    leader, follower = ours(1), ours(2)
    a_silent_follower(leader)
    follower.append(1, leader.term, TOP, [leader.term])
    leader.sent.clear()
    for _ in range(20):
        leader.later(0.1)
        carry(leader, follower)
        carry(follower, leader)
    assert follower.log == leader.log


def test_all_of_it_is_seen_to_be_sent_if_nothing_limits_it(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicate, "APPENDS_AHEAD", 10**9)
    assert len(a_silent_follower(weakened())) == ENTRIES
