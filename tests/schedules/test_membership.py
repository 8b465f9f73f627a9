"""H to K: which configuration counts, on whom, and from when on."""

from pathlib import Path

import pytest

from blixard.raft import library
from blixard.raft.core import Core
from blixard.raft.journal import Journal
from blixard.raft.wire import membership_of
from schedules.subject import TOP, Make, Subject, adding, removing

# H: several changes at once.


def two_removals_at_once(make: Make) -> tuple[Subject, Subject]:
    """The leader of five is asked to remove two members in one tick, and neither removal reaches
    anyone but node 2. Then those two and a third elect another leader, as the old configuration
    lets them."""
    leader, other = make(1, 5), make(3, 5)
    leader.elect(2, 3)
    other.append(1, leader.term, TOP, [leader.term])
    for follower in (2, 3, 4, 5):
        leader.ack(follower, 2)
    leader.remove(4)
    leader.remove(5)
    leader.propose(b"x")
    leader.ack(2, leader.last[0])
    leader.tick()
    other.elect(4, 5)
    return leader, other


def test_defect_h_two_majorities_have_nobody_in_common_on_stock(stock: Make) -> None:
    leader, other = two_removals_at_once(stock)
    assert leader.voters == {1, 2, 3}
    assert leader.acknowledged == [b"x"], "nodes 1 and 2 have it"
    assert other.leads, "nodes 3, 4 and 5 do not, and need nobody else"


def test_defect_h_the_second_change_waits_for_the_first_on_ours(ours: Make) -> None:
    leader, other = two_removals_at_once(ours)
    assert leader.voters == {1, 2, 3, 5}
    assert leader.refusals == [
        "the change of members before this one is not committed yet; try again"
    ]
    assert leader.acknowledged == []
    assert other.leads


def test_defect_h_is_seen_if_changes_are_made_at_any_time(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Core, "may_change_members", lambda _: True)
    leader, other = two_removals_at_once(weakened)
    assert leader.acknowledged == [b"x"]
    assert other.leads


def a_change_before_the_last_is_committed_and_a_restart(member: Subject) -> None:
    """A change is in the log, not committed; the leader starts anew and is elected again."""
    member.elect(2, 3)
    for follower in (2, 3, 4, 5):
        member.ack(follower, 2)
    member.remove(4)
    member.tick()
    member.tick()
    member.restart()
    member.elect(2, 3)
    member.ack(2, 2)
    member.remove(5)
    member.tick()


def test_defect_h_a_restart_does_not_forget_the_change_that_is_under_way_on_ours(
    ours: Make,
) -> None:
    member = ours(members=5)
    a_change_before_the_last_is_committed_and_a_restart(member)
    assert member.refusals == [
        "the change of members before this one is not committed yet; try again"
    ]
    assert member.voters == {1, 2, 3, 5}
    for follower in (2, 3, 5):
        member.ack(follower, member.last[0])
    member.remove(5)
    member.tick()
    assert member.voters == {1, 2, 3}


# I: after a restart, the configuration is whatever the command line says.


def a_restart_after_two_additions(member: Subject) -> None:
    """Nodes 4 and 5 were added, one after the other, and commit with node 3. This member has the
    entries, but was not told yet that they are committed. It starts anew, from the command line
    of the first three, and gets the vote of another one like itself."""
    member.append(3, 1, TOP, [1, 1], changes={2: adding(4), 3: adding(5)})
    assert member.voters == {1, 2, 3, 4, 5}
    member.restart()
    member.elect(2)


def test_defect_i_two_of_five_elect_a_leader_on_stock(stock: Make, tmp_path: Path) -> None:
    member = stock(folder=tmp_path / "1")
    a_restart_after_two_additions(member)
    assert member.log == [TOP, (2, 1), (3, 1), (4, 2)], "the additions are in its log"
    assert member.leads


def test_defect_i_the_configuration_is_that_of_the_log_on_ours(ours: Make, tmp_path: Path) -> None:
    member = ours(folder=tmp_path / "1")
    a_restart_after_two_additions(member)
    assert member.voters == {1, 2, 3, 4, 5}
    assert not member.leads
    member.elect(2, 4)
    assert member.leads


def test_defect_i_is_seen_if_the_log_is_not_asked(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = weakened()
    restart = member.restart

    def forgetful() -> None:
        monkeypatch.setattr(Journal, "members", lambda log, *_: log.snapshot.members)
        restart()

    monkeypatch.setattr(member, "restart", forgetful)
    a_restart_after_two_additions(member)
    assert member.leads


# J: a change is made when it enters the log, and once more when it is applied.


def a_removal_and_an_addition(member: Subject) -> None:
    """Of four members, one was removed (that is committed) and added again (that is not yet).
    The log of this member names four; one of them votes for it."""
    changes = {2: removing(4), 3: adding(4)}
    member.append(3, 1, TOP, [1, 1], commit=2, changes=changes)
    member.tick()
    member.elect(2)


def test_defect_j_two_of_four_elect_a_leader_on_stock(stock: Make) -> None:
    member = stock(members=4)
    a_removal_and_an_addition(member)
    assert member.voters == {1, 2, 3}
    assert member.leads


def test_defect_j_the_configuration_is_that_of_the_whole_log_on_ours(ours: Make) -> None:
    member = ours(members=4)
    a_removal_and_an_addition(member)
    assert member.voters == {1, 2, 3, 4}
    assert not member.leads


def test_defect_j_is_seen_if_changes_are_made_when_applied(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = Core._SyncObj__doApplyCommand

    def again(self: Core, data: bytes) -> None:
        change = membership_of(data)
        if change is not None:
            kind = "add" if change.add else "rem"
            node = library.Node(change.node_id)
            self._SyncObj__doChangeCluster([kind, change.node_id, node])
        apply(self, data)

    monkeypatch.setattr(Core, "_SyncObj__doApplyCommand", again)
    member = weakened(members=4)
    a_removal_and_an_addition(member)
    assert member.voters == {1, 2, 3}
    assert member.leads


# K: a snapshot contains changes that are not committed.


def a_snapshot_before_a_change_is_committed(make: Make) -> Subject:
    """A leader of four has a removal in its log, not committed, when it takes a snapshot of what
    comes before. The receiver of the snapshot never hears of the removal, and is voted for by
    one of the four."""
    old, receiver = make(1, 4), make(3, 4)
    old.append(4, 1, TOP, [1, 1, 1], commit=3, changes={4: removing(4)})
    for chunk in old.compact():
        receiver.hear_chunk(1, 1, chunk, commit=3)
    assert receiver.last == (3, 1)
    receiver.elect(2)
    return receiver


def test_defect_k_two_of_four_elect_a_leader_on_stock(stock: Make) -> None:
    receiver = a_snapshot_before_a_change_is_committed(stock)
    assert receiver.voters == {1, 2, 3}
    assert receiver.leads


def test_defect_k_a_snapshot_has_the_configuration_of_its_last_entry_on_ours(ours: Make) -> None:
    receiver = a_snapshot_before_a_change_is_committed(ours)
    assert receiver.voters == {1, 2, 3, 4}
    assert not receiver.leads


def test_defect_k_is_seen_if_a_snapshot_has_the_configuration_of_now(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = Journal.members
    monkeypatch.setattr(Journal, "members", lambda log, *_: members(log))
    receiver = a_snapshot_before_a_change_is_committed(weakened)
    assert receiver.voters == {1, 2, 3}
    assert receiver.leads


def test_a_change_that_gives_way_is_undone_on_both(stock: Make, ours: Make) -> None:
    """The library does this much: an entry that another leader's takes the place of changes the
    members back."""
    for make in (stock, ours):
        member = make()
        member.append(2, 1, TOP, [1, 1], changes={3: adding(4)})
        assert member.voters == {1, 2, 3, 4}
        member.append(3, 2, (2, 1), [2])
        assert member.voters == {1, 2, 3}
