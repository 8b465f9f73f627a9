"""Each hole that the guard closes, as the schedule that would fall into it."""

import pytest

from blixard.raft.engine import Applied, RaftTimings
from blixard.raft.guard import Ballot, Fitted, Misfit, fit
from blixard.raft.journal import Journal
from blixard.raft.outcome import Outcome
from blixard.raft.recovery import join, recover
from blixard.raft.wire import Append, Appended, Entry, Kind, Vote, decode, encode
from blixard.v1.raft_pb2 import RaftEnvelope
from raft.lab import Lab, MemoryStore

EMPTY = bytes([Kind.EMPTY])


def journal(*terms: int, committed: int = 0) -> Journal:
    """A journal whose entries have these terms."""
    store = MemoryStore()
    join(store, "c1", 1)
    journal = recover(store, 1)
    for index, term in enumerate(terms, 1):
        journal.add(EMPTY, index, term)
    journal.setRaftCommitIndex(committed)
    return journal


def append(prev_index: int, prev_term: int, *terms: int, commit: int = 0) -> Append:
    entries = [Entry(EMPTY, prev_index + n, term) for n, term in enumerate(terms, 1)]
    return Append(9, commit, prev_index, prev_term, entries)


def shape(append: Append) -> tuple[int, int, list[int], int]:
    indices = [entry.index for entry in append.entries]
    return append.prev_index, append.prev_term, indices, append.commit_index


@pytest.mark.parametrize(
    ("log", "message", "fits", "verified"),
    [
        # The usual case: everything is new.
        (journal(1, 1), append(2, 1, 1, 1, commit=9), (2, 1, [3, 4], 4), 4),
        # Sent again in part: what is there already is not touched, and not acknowledged beyond.
        (journal(1, 1, 1, 1), append(1, 1, 1, 1), (4, 1, [], 0), 3),
        (journal(1, 1, 1, 1), append(1, 1, 1, commit=4), (4, 1, [], 2), 2),
        # It overlaps: only the rest is new.
        (journal(1, 1), append(0, 0, 1, 1, 1), (2, 1, [3], 0), 3),
        # A real conflict: cut from there on.
        (journal(1, 1, 2, 2), append(1, 1, 1, 3, 3), (2, 1, [3, 4], 0), 4),
        # It begins before what is committed, which needs no look.
        (journal(1, 1, 1, committed=2), append(0, 0, 1, 1, 1, 3), (3, 1, [4], 0), 4),
        (journal(1, 1, 1, committed=3), append(0, 0, 1), (3, 1, [], 0), 3),
        # A heartbeat verifies no more than it says.
        (journal(1, 1, 1), append(1, 1, commit=3), (3, 1, [], 1), 1),
    ],
)
def test_only_what_is_new_reaches_the_library(
    log: Journal, message: Append, fits: tuple[int, int, list[int], int], verified: int
) -> None:
    fitted = fit(message, log)
    assert isinstance(fitted, Fitted)
    assert shape(fitted.append) == fits
    assert fitted.verified == verified


@pytest.mark.parametrize(
    ("log", "message", "next_index"),
    [
        (journal(1, 1), append(5, 1, 1), 3),
        (journal(1, 1, 2, 2, 2), append(5, 3), 3),
        (journal(1, 2, 2, 2, committed=3), append(4, 3), 4),
    ],
)
def test_what_does_not_fit_goes_back_a_term_but_not_below_the_commit_index(
    log: Journal, message: Append, next_index: int
) -> None:
    assert fit(message, log) == Misfit(next_index)


def test_a_leader_that_contradicts_what_is_committed_stops_the_process() -> None:
    with pytest.raises(AssertionError, match="committed everywhere"):
        fit(append(2, 9), journal(1, 1, committed=2))
    with pytest.raises(AssertionError, match="committed everywhere"):
        fit(append(0, 0, 1, 9, 9), journal(1, 1, committed=2))


def test_a_committed_entry_is_never_dropped() -> None:
    log = journal(1, 1, 1, committed=2)
    log.deleteEntriesFrom(3)
    with pytest.raises(AssertionError, match="never dropped"):
        log.deleteEntriesFrom(2)


def test_a_vote_counts_once() -> None:
    ballot = Ballot()
    assert ballot.count(3, 2)
    assert not ballot.count(3, 2)
    assert not ballot.is_won([1, 2, 3, 4, 5], 1)
    assert ballot.count(3, 7)
    assert not ballot.is_won([1, 2, 3, 4, 5], 1), "7 is no member"
    assert ballot.count(3, 4)
    assert ballot.is_won([1, 2, 3, 4, 5], 1)
    assert ballot.count(4, 2), "another term begins anew"


def only(lab: Lab, envelope: RaftEnvelope, **changes: object) -> str | None:
    """Deliver a message that was changed, as the newest of its sender."""
    changed = RaftEnvelope.FromString(envelope.SerializeToString())
    changed.sequence += 1_000_000
    for name, value in changes.items():
        setattr(changed, name, value)
    return lab.nodes[changed.receiver].engine.receive(changed)


def test_a_repeated_vote_makes_no_leader() -> None:
    lab = Lab().found(5)
    lab.crash(lab.lead())
    votes: list[RaftEnvelope] = []

    def hold(envelope: RaftEnvelope) -> bool:
        if isinstance(decode(envelope.message), Vote):
            votes.append(envelope)
            return False
        return True

    lab.passes = hold
    lab.until(lambda: len(votes) >= 1)
    candidate = lab.nodes[votes[0].receiver].engine
    for more in range(3):
        assert only(lab, votes[0], sequence=10**9 + more) is None
        candidate.tick()
    assert candidate.status().role == "candidate", "two of five"


def test_an_acknowledgement_of_an_earlier_term_does_not_count() -> None:
    lab = Lab().found(3)
    leader = lab.lead()
    told: list[Outcome] = []
    lab.isolate(leader)
    lab.nodes[leader].engine.propose(b"a", told.append)
    lab.nodes[leader].engine.tick()
    status = lab.nodes[leader].engine.status()
    member = next(node for node in lab.nodes if node != leader)
    ack = next(
        envelope
        for envelope in reversed(lab.sent)
        if (envelope.sender, envelope.receiver) == (member, leader)
        and isinstance(decode(envelope.message), Appended)
    )
    ack.message = encode(Appended(next_node_idx=status.last_index + 1, reset=False, success=True))
    assert only(lab, ack, term=status.term - 1) is None
    lab.nodes[leader].engine.tick()
    assert told == []
    assert only(lab, ack, sequence=10**9) is None
    lab.nodes[leader].engine.tick()
    assert [outcome.__class__ for outcome in told] == [Applied]


def test_an_old_snapshot_takes_nothing_back() -> None:
    lab = Lab(timings=RaftTimings(snapshot_entries=10)).found(3)
    away = next(node for node in lab.nodes if node != lab.lead())
    lab.crash(away)
    lab.commit(*(b"%d" % number for number in range(30)))
    lab.start(away)
    lab.until(lambda: len(lab.entries(away)) == 30)
    chunks = [e for e in lab.sent if e.receiver == away and e.HasField("snapshot")]
    lab.commit(b"z")
    lab.until(lambda: lab.entries(away)[-1] == b"z")
    before = lab.nodes[away].engine.status()
    for chunk in chunks:
        assert only(lab, chunk) is None
    lab.settle()
    assert lab.nodes[away].engine.status().last_index == before.last_index
    assert lab.entries(away)[-1] == b"z"


def test_a_damaged_snapshot_is_not_installed() -> None:
    lab = Lab(timings=RaftTimings(snapshot_entries=10)).found(3)
    away = next(node for node in lab.nodes if node != lab.lead())
    lab.crash(away)
    lab.commit(*(b"%d" % number for number in range(30)))
    damaged = 0

    def damage(envelope: RaftEnvelope) -> bool:
        nonlocal damaged
        if envelope.snapshot.data and damaged < 3:
            damaged += 1
            data = bytearray(envelope.snapshot.data)
            data[len(data) // 2] ^= 1
            envelope.snapshot.data = bytes(data)
        return True

    lab.passes = damage
    lab.start(away)
    lab.until(lambda: len(lab.entries(away)) == 30)
    assert damaged == 3


def test_strangers_are_refused() -> None:
    lab = Lab().found(3)
    leader = lab.lead()
    heartbeat = next(e for e in reversed(lab.sent) if e.sender == leader)
    request = next(e for e in lab.sent if isinstance(decode(e.message), Appended))
    assert only(lab, heartbeat, cluster_id="other") == "this node belongs to another cluster"
    assert only(lab, heartbeat, message=b"\xc1") == "a message that cannot be understood"
    assert only(lab, request, sender=9) == "node 9 is not a member of this cluster"
    assert only(lab, request, sender_birth=77) == (
        f"node {request.sender} is not a member of this cluster"
    )
    misled = RaftEnvelope.FromString(heartbeat.SerializeToString())
    other = next(node for node in lab.nodes if node not in (leader, misled.receiver))
    assert lab.nodes[other].engine.receive(misled) == (
        f"this is node {other}, not node {misled.receiver}"
    )


def test_a_long_divergent_tail_converges() -> None:
    lab = Lab().found(3)
    old = lab.lead()
    lab.isolate(old)
    for number in range(3000):
        lab.nodes[old].engine.propose(b"dead %d" % number, lambda _: None)
    lab.nodes[old].engine.tick()
    lab.until(lambda: [node for node in lab.leaders() if node != old] != [])
    new = next(node for node in lab.leaders() if node != old)
    told: list[Outcome] = []
    for number in range(5000):
        lab.nodes[new].engine.propose(b"%d" % number, told.append)
    lab.until(lambda: len(told) == 5000)
    lab.heal()
    lab.until(lambda: len(lab.entries(old)) == 5000, within_s=5)
    assert lab.entries(old) == lab.entries(new)
