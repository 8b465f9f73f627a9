"""N: an exception between the application of an entry and the note that it was applied."""

from typing import Any, NoReturn

import pytest

from blixard.model import Rejected
from blixard.raft.outcome import Waiters
from blixard.raft.replica import ReplicatedCluster
from blixard.raft.wire import Append, Entry, Vote, VoteRequest
from schedules.ours import Ours
from schedules.stock import Stock
from schedules.subject import TOP, Make, Subject


def fail() -> NoReturn:
    raise ValueError("a mistake of the caller")


def a_callback_raises(member: Subject) -> None:
    """A client's command is committed, and what the client does about it fails. The tick raises;
    whoever drives the member goes on as if nothing were (the library's own thread does)."""
    member.elect(2)
    member.propose(b"once", then=fail)
    with pytest.raises(ValueError, match="mistake"):
        member.ack(2, member.last[0])
    member.tick()


def test_defect_n_a_command_is_applied_twice_on_stock(stock: Make) -> None:
    member = stock()
    a_callback_raises(member)
    assert member.applied == [b"once", b"once"]


def test_defect_n_a_command_is_applied_once_on_ours(ours: Make) -> None:
    member = ours()
    a_callback_raises(member)
    assert member.applied == [b"once"]
    assert member.acknowledged == [b"once"]
    member.restart()
    member.elect(3)
    member.ack(3, member.last[0])
    assert member.applied == [b"once"], "the same after the restart that is its rule"


def test_defect_n_is_seen_if_callers_are_told_while_an_entry_is_applied(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Waiters, "decided", lambda _, done, outcome: done(outcome))
    member = weakened()
    a_callback_raises(member)
    assert member.applied == [b"once", b"once"]


# A command that the state machine cannot bear.


class Choosy(list[Any]):
    """A history that one command cannot enter."""

    def append(self, item: Any) -> None:
        if b"bad" in item:
            fail()
        super().append(item)


def a_command_raises(member: Subject) -> None:
    """A bad command is committed with a good one behind it, and ticks go on."""
    member.append(2, 1, TOP)
    bad, good = (Entry(member.command(entry), 0, 1) for entry in (b"bad", b"good"))
    entries = [bad._replace(index=2), good._replace(index=3)]
    member.receive(2, Append(1, 3, *TOP, entries))
    for _ in range(5):
        with pytest.raises(ValueError, match="mistake"):
            member.tick()


def test_defect_n_a_bad_command_stops_the_log_but_not_the_member_on_stock(stock: Make) -> None:
    member = stock()
    assert isinstance(member, Stock)
    member.library.history = Choosy()
    a_command_raises(member)
    assert member.applied == []
    assert member.claimed == 3, "it acknowledges and votes as before"
    member.receive(3, VoteRequest(2, 3, 1))
    assert (3, Vote(2)) in member.sent


def test_defect_n_nothing_leaves_after_a_bad_command_on_ours(ours: Make) -> None:
    """The process ends, at each start anew, and says why; it is never half alive."""
    member = ours()
    assert isinstance(member, Ours)
    member.machine.history = Choosy()
    a_command_raises(member)
    assert member.applied == []
    assert member.claimed == TOP[0], "that was before"


def test_defect_n_our_state_machine_bears_every_command() -> None:
    machine = ReplicatedCluster(lambda _: None)
    for entry in (b"", b"\xc1", b"bad", bytes(1000)):
        assert isinstance(machine.apply(1, entry), Rejected)


# The library's own kind of command: to switch to a version of the code.


def an_unknown_version(member: Subject) -> None:
    """The log says to switch to a version that this member does not have; a command follows."""
    version = Entry(b"\3I1\n.", 2, 1)
    command = Entry(member.command(b"once"), 3, 1)
    member.hear(2, Append(1, 3, *TOP, [version, command]))
    member.tick()


def test_defect_n_what_follows_an_unknown_version_is_applied_twice_on_stock(stock: Make) -> None:
    member = stock()
    an_unknown_version(member)
    assert member.applied == [b"once", b"once"]


def test_defect_n_what_follows_an_unknown_kind_is_applied_once_on_ours(ours: Make) -> None:
    member = ours()
    an_unknown_version(member)
    assert member.applied == [b"once"]
