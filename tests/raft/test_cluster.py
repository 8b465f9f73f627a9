"""The replicated log as its users see it, over crashes, cuts and changes of members."""

from dataclasses import replace

from blixard.raft.engine import Applied, NotLeader, OutcomeUnknown, Refused
from blixard.raft.outcome import Outcome
from blixard.raft.wire import MAX_ENTRY_BYTES
from blixard.v1.raft_pb2 import RaftEnvelope
from raft.lab import Lab, address_of


def same(lab: Lab, *entries: bytes) -> bool:
    return all(lab.entries(node) == list(entries) for node in lab.nodes)


def test_a_single_node_leads_and_commits_at_once(lab: Lab) -> None:
    lab.create(1)
    lab.settle()
    assert lab.leader() == 1
    told: list[Outcome] = []
    lab.nodes[1].engine.propose(b"a", told.append)
    assert told == []
    lab.nodes[1].engine.tick()
    assert told == [Applied(3, b"a")]


def test_three_nodes_agree(lab: Lab) -> None:
    lab.found(3).commit(b"a", b"b", b"c")
    lab.until(lambda: same(lab, b"a", b"b", b"c"))
    histories = [node.machine.history for node in lab.nodes.values()]
    assert histories[0] == histories[1] == histories[2]


def test_a_follower_names_the_leader_instead_of_forwarding(lab: Lab) -> None:
    lab.found(3)
    leader = lab.lead()
    follower = next(node for node in lab.nodes if node != leader)
    outcome = lab.outcome(lab.nodes[follower].engine.propose, b"a")
    assert outcome == NotLeader(leader)
    assert lab.outcome(lab.nodes[follower].engine.barrier) == NotLeader(leader)
    lab.run(1)
    assert same(lab)


def test_a_command_that_is_too_large_is_refused(lab: Lab) -> None:
    lab.create(1)
    lab.lead()
    assert lab.outcome(lab.propose, bytes(MAX_ENTRY_BYTES)).__class__ is Applied
    assert lab.outcome(lab.propose, bytes(MAX_ENTRY_BYTES + 1)) == Refused(
        "a command has at most 512 KiB"
    )


def test_the_largest_commands_reach_everyone(lab: Lab) -> None:
    lab.found(3)
    large = [bytes([number]) * MAX_ENTRY_BYTES for number in range(5)]
    told: list[Outcome] = []
    for entry in large:
        lab.propose(entry, told.append)
    lab.until(lambda: same(lab, *large))
    assert [outcome.__class__ for outcome in told] == [Applied] * 5
    assert max(envelope.ByteSize() for envelope in lab.sent) < 2 * 1024 * 1024


def test_a_new_leader_takes_over_and_the_old_one_catches_up(lab: Lab) -> None:
    lab.found(3).commit(b"a")
    old = lab.lead()
    lab.crash(old)
    lab.commit(b"b")
    lab.start(old)
    lab.until(lambda: same(lab, b"a", b"b"))


def test_all_nodes_lose_power_at_once(lab: Lab) -> None:
    lab.found(3).commit(b"a", b"b")
    for node in list(lab.nodes):
        lab.crash(node)
    for node in (1, 2, 3):
        lab.start(node)
    assert same(lab) or same(lab, b"a", b"b")
    lab.commit(b"c")
    lab.until(lambda: same(lab, b"a", b"b", b"c"))


def test_a_restarted_node_knows_its_members_before_anything_is_applied(lab: Lab) -> None:
    lab.found(3)
    lab.crash(3)
    assert len(lab.start(3).engine.status().members) == 3


def test_an_isolated_leader_acknowledges_nothing_and_gives_up(lab: Lab) -> None:
    lab.found(3).commit(b"a")
    old = lab.lead()
    lab.isolate(old)
    told: list[Outcome] = []
    lab.nodes[old].engine.propose(b"lost", told.append)
    lab.until(lambda: lab.leaders() not in ([old], []))
    new = next(node for node in lab.leaders() if node != old)
    assert lab.outcome(lab.nodes[new].engine.propose, b"b").__class__ is Applied
    lab.until(lambda: lab.leaders() == [new])
    assert told == []
    lab.heal()
    lab.until(lambda: same(lab, b"a", b"b"))
    assert told == [NotLeader(new)], "another entry took its place, so it can be proposed again"


def test_without_a_majority_the_outcome_is_unknown_after_the_deadline(lab: Lab) -> None:
    lab.found(3)
    leader = lab.lead()
    others = [node for node in lab.nodes if node != leader]
    for node in others:
        lab.crash(node)
    told: list[Outcome] = []
    lab.nodes[leader].engine.propose(b"a", told.append)
    lab.run(9.9)
    assert told == []
    lab.run(0.2)
    assert told == [OutcomeUnknown("no majority has confirmed it in time")]
    for node in others:
        lab.start(node)
    lab.commit(b"b")
    assert len(told) == 1, "told once, whatever became of it"


def test_a_node_that_was_cut_off_disturbs_nobody_when_it_returns(lab: Lab) -> None:
    lab.found(3).commit(b"a")
    leader = lab.lead()
    term = lab.nodes[leader].engine.status().term
    away = next(node for node in lab.nodes if node != leader)
    lab.isolate(away)
    lab.run(20)
    assert lab.nodes[away].engine.status().term == term
    lab.heal()
    lab.run(5)
    assert lab.lead() == leader
    assert lab.nodes[leader].engine.status().term == term


def test_leadership_is_handed_over_on_request(lab: Lab) -> None:
    lab.found(3).commit(b"a")
    old = lab.lead()
    lab.run(0.2)
    successor = lab.nodes[old].engine.transfer_leadership()
    assert successor not in (None, old)
    lab.until(lambda: lab.leader() == successor, within_s=0.5)
    assert lab.nodes[old].engine.transfer_leadership() is None
    lab.commit(b"b")


def test_a_barrier_is_shared_by_those_who_came_before_it(lab: Lab) -> None:
    lab.found(3).commit(b"a")
    engine = lab.nodes[lab.lead()].engine
    last = engine.status().last_index
    told: list[Outcome] = []
    for _ in range(10):
        engine.barrier(told.append)
    engine.tick()
    engine.barrier(told.append)
    engine.tick()
    assert engine.status().last_index == last + 1, "the late reader waits for the next barrier"
    lab.settle()
    assert told == [Applied(last + 1)] * 10 + [Applied(last + 2)]


def test_a_deposed_leader_answers_no_reader(lab: Lab) -> None:
    lab.found(3)
    old = lab.lead()
    lab.isolate(old)
    told: list[Outcome] = []
    lab.nodes[old].engine.barrier(told.append)
    lab.run(8)
    assert told == []
    lab.run(3)
    assert [outcome.__class__ for outcome in told] == [OutcomeUnknown]


def test_one_turn_of_proposals_is_one_transaction() -> None:
    lab = Lab().found(3)
    leader = lab.lead()
    lab.run(1)
    before = {node: disk.commits for node, disk in lab.disks.items()}
    told: list[Outcome] = []
    for number in range(100):
        lab.propose(b"%d" % number, told.append)
    lab.until(lambda: len(told) == 100)
    lab.run(1)
    assert {node: disk.commits - before[node] for node, disk in lab.disks.items()} == dict.fromkeys(
        lab.disks, 1
    )
    assert lab.entries(leader) == [b"%d" % number for number in range(100)]


def test_a_follower_that_is_far_behind_gets_a_snapshot(lab: Lab) -> None:
    lab.timings = replace(lab.timings, snapshot_entries=10)
    lab.found(3)
    away = next(node for node in lab.nodes if node != lab.lead())
    lab.crash(away)
    entries = [b"%d" % number + bytes(100_000) for number in range(40)]
    lab.commit(*entries)
    status = lab.nodes[lab.lead()].engine.status()
    assert status.snapshot_index >= status.applied_index - 10
    lab.start(away)
    lab.sent.clear()
    lab.until(lambda: lab.entries(away) == entries)
    chunks = [e.snapshot for e in lab.sent if e.receiver == away and e.HasField("snapshot")]
    assert len(chunks) > 10, "more than one chunk"
    assert lab.nodes[away].engine.status().members == status.members
    lab.crash(away)
    lab.start(away)
    lab.commit(b"z")
    lab.until(lambda: lab.entries(away) == [*entries, b"z"])


def test_a_snapshot_that_was_cut_off_is_sent_again(lab: Lab) -> None:
    lab.timings = replace(lab.timings, snapshot_entries=10)
    lab.found(3)
    away = next(node for node in lab.nodes if node != lab.lead())
    lab.crash(away)
    entries = [b"%d" % number + bytes(100_000) for number in range(40)]
    lab.commit(*entries)
    lab.start(away)
    chunks = 0

    def lossy(envelope: RaftEnvelope) -> bool:
        nonlocal chunks
        chunks += envelope.HasField("snapshot")
        return chunks % 5 != 2  # not in step with what is repeated

    lab.passes = lossy
    lab.until(lambda: lab.entries(away) == entries, within_s=60)


def test_members_come_and_go_while_commands_are_committed(lab: Lab) -> None:
    lab.found(3).commit(b"a")
    lab.join(4)
    assert lab.outcome(lab.add, 4).__class__ is Applied
    lab.commit(b"b")
    gone = next(node for node in lab.nodes if node not in (4, lab.lead()))
    assert lab.outcome(lab.remove, gone).__class__ is Applied
    lab.commit(b"c")
    assert gone not in lab.members(4)
    lab.until(lambda: lab.entries(4) == [b"a", b"b", b"c"])
    lab.run(10)
    assert lab.leader() is not None, "the one that was removed does not disturb"
    lab.crash(lab.lead())
    lab.crash(gone)
    lab.commit(b"d")
    assert lab.entries(4) == [b"a", b"b", b"c", b"d"]


def test_one_change_of_members_at_a_time(lab: Lab) -> None:
    lab.found(3)
    leader = lab.lead()
    other = next(node for node in lab.nodes if node != leader)
    told: list[Outcome] = []
    engine = lab.nodes[leader].engine
    for change in (other, leader):
        engine.remove_member(change, told.append)
    engine.add_member(9, address_of(9), told.append)
    lab.settle()
    busy = Refused("the change of members before this one is not committed yet; try again")
    assert sorted(map(str, told)) == sorted(map(str, [busy, busy, told[-1]]))
    assert told[-1].__class__ is Applied
    assert lab.outcome(lab.add, leader) == Refused(
        f"node {leader} is a member already, at {address_of(leader)}"
    )
    assert lab.outcome(lab.remove, 77) == Refused("node 77 is not a member")
    rest = next(node for node in lab.nodes if node not in (leader, other))
    assert lab.outcome(lab.remove, leader) == Refused(
        f"node {leader} leads; another one ({rest}) must take the lead before it can leave"
    )


def test_a_node_that_does_not_answer_is_not_added(lab: Lab) -> None:
    lab.found(1)
    assert lab.outcome(lab.add, 2) == Refused(f"node 2 does not answer at {address_of(2)}")
    lab.commit(b"a")
    assert list(lab.members(1)) == [1]


def test_a_node_that_nobody_has_added_is_silent(lab: Lab) -> None:
    lab.create(1)
    lab.lead()
    lab.join(2)
    lab.run(10)
    assert not [envelope for envelope in lab.sent if envelope.sender == 2]
    assert lab.nodes[2].engine.status().term == 0


def test_the_founder_survives_a_crash_while_the_second_member_is_added(lab: Lab) -> None:
    """The entry that adds node 2 is durable on node 1 alone, and two of two must vote."""
    lab.create(1)
    lab.commit(b"a")
    lab.join(2)
    lab.add(2, lambda _: None)
    while len(lab.members(1)) == 1:
        lab.nodes[1].engine.tick()
        lab.passes = lambda _: len(lab.members(1)) == 1
        lab.step()
    assert list(lab.members(2)) == []
    lab.crash(1)
    lab.passes = lambda _: True
    lab.start(1)
    lab.commit(b"b")
    lab.until(lambda: lab.entries(2) == [b"a", b"b"])


def test_a_node_that_was_wiped_counts_for_nothing_until_it_is_added_again(lab: Lab) -> None:
    lab.found(3).commit(b"a")
    leader = lab.lead()
    wiped, third = (node for node in lab.nodes if node != leader)
    lab.crash(wiped)
    for path in (lab.folder / str(wiped)).iterdir():  # type: ignore[operator]
        path.unlink()
    lab.crash(third)
    lab.join(wiped, birth=99)
    told: list[Outcome] = []
    lab.nodes[leader].engine.propose(b"b", told.append)
    lab.run(12)
    assert [outcome.__class__ for outcome in told] == [OutcomeUnknown]
    assert lab.leaders() == [], "it does not vote either"
    reason = f"node {wiped} has begun anew: remove it from the cluster and add it again"
    assert (leader, reason) in lab.refusals
    lab.start(third)
    lab.commit(b"c")
    lab.until(lambda: lab.leader() in (leader, third))
    assert lab.outcome(lab.remove, wiped).__class__ is Applied
    assert lab.outcome(lab.add, wiped).__class__ is Applied
    lab.until(lambda: lab.entries(wiped) == [b"a", b"b", b"c"])


def test_who_lacks_the_entry_that_added_a_member_can_still_elect_it(lab: Lab) -> None:
    """Of 1 to 5, node 2 was added last; 4 has not heard of it, and 3 lacks the last entry. With 1
    and 5 gone, only node 2 can lead, and only with the vote of 4, whose log does not name it."""
    lab.found(1)
    for node in (3, 4, 5):
        lab.join(node)
        assert lab.outcome(lab.add, node).__class__ is Applied
    lab.until(lambda: lab.lead() == 1 and len(lab.members(4)) == 4)
    lab.isolate(4)
    lab.join(2)
    assert lab.outcome(lab.add, 2).__class__ is Applied
    lab.until(lambda: len(lab.members(3)) == 5)
    lab.isolate(3)
    lab.commit(b"a")
    lab.until(lambda: lab.entries(2) == [b"a"])
    lab.crash(1)
    lab.crash(5)
    lab.heal()
    lab.until(lambda: lab.leader() == 2)
    lab.until(lambda: lab.entries(4) == [b"a"])


def test_a_node_that_hears_no_leader_names_none(lab: Lab) -> None:
    lab.found(3)
    leader = lab.lead()
    away = next(node for node in lab.nodes if node != leader)
    assert lab.nodes[away].engine.status().leader_id == leader
    lab.isolate(away)
    lab.run(lab.timings.election_max_ms / 1000 + 0.1)
    assert lab.nodes[away].engine.status().leader_id is None
