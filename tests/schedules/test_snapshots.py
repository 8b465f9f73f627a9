"""D to G and O: what takes the place of the log, when, and how it travels."""

import shutil
from pathlib import Path

import msgspec
import pytest

from blixard.raft import store
from blixard.raft.core import Core
from blixard.raft.snapshot import Incoming, Snapshot
from blixard.raft.store import CorruptJournal
from blixard.raft.wire import Appended, Message, Mismatch, SnapshotHeld
from blixard.v1.raft_pb2 import SnapshotChunk
from schedules.crashes import Loose, crashes_of
from schedules.ours import Ours
from schedules.stock import Stock, package
from schedules.subject import TOP, Make, Subject, text

STATE = [text(index, 1) for index in range(2, 11)]
"""What is applied at entry 10."""

# D: a snapshot that is older than the log takes the log's place.


def a_snapshot_that_is_late(member: Subject) -> bool:
    """Entries 2 to 30 are acknowledged. Then a snapshot of entry 10 arrives, which was asked for
    before they came, and the leader dies. Returns whether this member votes for one that has no
    more than the snapshot."""
    member.append(2, 1, TOP, [1] * 29)
    assert member.claimed == 30
    for chunk in member.snapshot(10, 1, STATE):
        member.hear_chunk(2, 1, chunk)
    return member.asks_for_vote(3, 2, (10, 1))


def test_defect_d_acknowledged_entries_are_dropped_on_stock(stock: Make) -> None:
    member = stock()
    assert a_snapshot_that_is_late(member), "11 to 30 are lost"
    assert member.last == (10, 1)


def test_defect_d_acknowledged_entries_stay_on_ours(ours: Make) -> None:
    member = ours()
    assert not a_snapshot_that_is_late(member)
    assert member.last == (30, 1)
    assert not member.asks_for_vote(3, 3, (29, 1))


def a_snapshot_of_what_is_applied(member: Subject) -> None:
    """It arrives when entry 30 is applied as well."""
    member.append(2, 1, TOP, [1] * 29, commit=30)
    member.tick()
    for chunk in member.snapshot(10, 1, STATE):
        member.hear_chunk(2, 1, chunk)


def test_defect_d_the_state_goes_back_on_stock(stock: Make) -> None:
    member = stock()
    a_snapshot_of_what_is_applied(member)
    assert member.applied == STATE


def test_defect_d_the_state_never_goes_back_on_ours(ours: Make) -> None:
    member = ours()
    a_snapshot_of_what_is_applied(member)
    assert member.applied == [text(index, 1) for index in range(2, 31)]


def receive_chunk(self: Core, sender: int, sender_term: int, chunk: SnapshotChunk) -> None:
    """As ours, but without a look at the log."""
    self._hear_leader(sender, sender_term)
    if self._incoming.add(sender, sender_term, chunk) == chunk.total:
        snapshot = self._incoming.finish(chunk)
        assert snapshot is not None
        self._install(snapshot)


def test_defect_d_is_seen_if_the_log_is_not_looked_at(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Core, "receive_chunk", receive_chunk)
    member = weakened()
    assert a_snapshot_that_is_late(member)
    assert member.last == (10, 1)


def test_defect_d_a_state_that_would_go_back_stops_the_process(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Core, "receive_chunk", receive_chunk)
    with pytest.raises(AssertionError):
        a_snapshot_of_what_is_applied(weakened())


# E and F: what arrives is not what was sent.


def a_dead_tail(member: Subject) -> None:
    """Entries 2 to 30 of term 1 are in the log of this member alone."""
    member.append(3, 1, TOP, [1] * 29)
    member.sent.clear()


def a_damaged_snapshot(member: Subject) -> None:
    """The leader of term 5 replaces the tail by a snapshot, and a bit of that is wrong."""
    a_dead_tail(member)
    first, second = member.snapshot(10, 5, [b"a" * 100, b"b" * 100])
    flipped = bytearray(second.data)
    flipped[-20] ^= 1
    second.data = bytes(flipped)
    member.hear_chunk(2, 5, first)
    member.hear_chunk(2, 5, second)


def test_defect_e_a_dead_tail_is_acknowledged_on_stock(stock: Make) -> None:
    member = stock()
    a_damaged_snapshot(member)
    assert member.claimed == 30, "none of which the leader has"
    assert member.last == (30, 1)


def test_defect_e_the_damaged_snapshot_has_replaced_the_good_one_on_stock(
    stock: Make, tmp_path: Path
) -> None:
    member = stock(folder=tmp_path / "1")
    member.append(2, 1, TOP, [1] * 9, commit=10)
    member.compact()
    a_damaged_snapshot(member)
    member.restart()
    member.tick()
    assert member.applied == [], "ten entries are gone from the state, and from the log"
    assert member.log[0][0] > 1


def test_defect_e_a_damaged_snapshot_is_asked_for_again_on_ours(ours: Make) -> None:
    member = ours()
    a_damaged_snapshot(member)
    assert member.claimed == 0
    assert member.sent[-1] == (2, SnapshotHeld(1, 0))
    assert member.applied == []
    assert member.last == (30, 1)
    for chunk in member.snapshot(10, 5, [b"a", b"b"]):
        member.hear_chunk(2, 5, chunk)
    assert member.applied == [b"a", b"b"]
    assert member.log == [(10, 5)]


def finish(self: Incoming, chunk: SnapshotChunk) -> Snapshot | None:
    """As ours, but trusting: the seal is cut off instead of compared."""
    return msgspec.msgpack.decode(bytes(self._data)[24:], type=Snapshot)


def test_defect_e_is_seen_if_nothing_is_compared(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Incoming, "finish", finish)
    member = weakened()
    a_damaged_snapshot(member)
    assert member.applied not in ([], [b"a" * 100, b"b" * 100]), "a state that never was"


def halves_of_two_snapshots(member: Subject) -> None:
    """The leader of term 5 dies in the middle of a transfer; that of term 6 was in the middle of
    one as well when the connection to it was lost and found again."""
    a_dead_tail(member)
    first, _ = member.snapshot(10, 5, [b"a" * 100, b"b" * 100])
    _, second = member.snapshot(10, 5, [b"c" * 100, b"d" * 100])
    member.hear_chunk(2, 5, first)
    member.hear_chunk(3, 6, second)


def test_defect_f_halves_are_joined_and_a_dead_tail_is_acknowledged_on_stock(stock: Make) -> None:
    member = stock()
    halves_of_two_snapshots(member)
    assert member.claimed == 30, "of term 1, to the leader of term 6"


def test_defect_f_a_half_begins_at_its_beginning_on_ours(ours: Make) -> None:
    member = ours()
    halves_of_two_snapshots(member)
    assert member.claimed == 0
    assert member.sent[-1] == (3, SnapshotHeld(1, 0)), "from the start, please"
    assert member.last == (30, 1)


def test_defect_f_is_seen_if_chunks_are_joined_as_they_come(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(self: Incoming, _sender: int, _term: int, chunk: SnapshotChunk) -> int:
        self._data += chunk.data
        return len(self._data)

    monkeypatch.setattr(Incoming, "add", add)
    member = weakened()
    halves_of_two_snapshots(member)
    assert member.applied == [], "the checksum still finds out"
    monkeypatch.setattr(Incoming, "finish", finish)
    member = weakened()
    halves_of_two_snapshots(member)
    joined = b"".join(member.applied)
    assert b"a" in joined, "a state that never was"
    assert b"d" in joined


# G: the snapshot is in place in one tick, and the journal follows in the next.


def thirty_entries(member: Subject) -> None:
    """Entries 2 to 30 are acknowledged, and 2 to 20 applied."""
    member.append(2, 1, TOP, [1] * 29, commit=20)
    assert member.claimed == 30
    assert len(member.applied) == 19


def test_defect_g_a_crash_in_between_drops_acknowledged_entries_on_stock(
    stock: Make, tmp_path: Path
) -> None:
    member = stock(folder=tmp_path / "1")
    assert isinstance(member, Stock)
    thirty_entries(member)
    member.library.forceLogCompaction()
    member.tick()
    crashed = stock(folder=shutil.copytree(tmp_path / "1", tmp_path / "crashed"))
    crashed.tick()
    assert crashed.log == [(19, 1), (20, 1)]
    assert crashed.asks_for_vote(3, 2, (20, 1)), "21 to 30 are lost"


def compactions(ours: Make, folder: Path) -> tuple[int, int]:
    """Compact; for each statement on the disk, start from what a crash there leaves. Returns how
    many starts went well and how many were refused; fails if one of them has lost an entry."""
    member = ours(folder=folder / "1")
    assert isinstance(member, Ours)
    thirty_entries(member)
    crashes = crashes_of(member, folder / "crashes")
    member.compact()
    started = refused = 0
    for crash in crashes:
        try:
            crashed = ours(folder=crash)
        except CorruptJournal:
            refused += 1
            continue
        started += 1
        assert crashed.last == (30, 1)
        assert crashed.applied in ([], [text(index, 1) for index in range(2, 21)])
        assert not crashed.asks_for_vote(3, 2, (29, 1))
    assert len(crashes) > 5
    return started, refused


def test_defect_g_a_crash_at_any_moment_drops_nothing_on_ours(ours: Make, tmp_path: Path) -> None:
    _, refused = compactions(ours, tmp_path)
    assert not refused


def test_defect_g_is_noticed_if_each_statement_stands_for_itself(
    weakened: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store._open
    monkeypatch.setattr(store, "_open", lambda path: Loose(real(path)))
    started, refused = compactions(weakened, tmp_path)
    assert started
    assert refused


# O: while a snapshot is being made, the leader sends nothing, as fast as it can.


def a_follower_that_needs_a_snapshot(leader: Subject) -> None:
    """The leader has dropped what node 2 lacks and asks for."""
    leader.append(3, 1, TOP, [1] * 20, commit=20)
    leader.compact()
    leader.elect(3)
    leader.ack(3, leader.last[0])
    misfit: Message = Mismatch(leader.last[0], 2)
    if isinstance(leader, Stock):
        leader.library.forceLogCompaction()
        leader.tick()
        misfit = Appended(2, reset=True, success=False)
    leader.sent.clear()
    leader.receive(2, misfit, leader.term)


def test_defect_o_thousands_of_empty_messages_in_one_tick_on_stock(stock: Make) -> None:
    """They end only because each look at the clock takes 20 us here."""
    leader = stock()
    a_follower_that_needs_a_snapshot(leader)
    leader.later(0.1)
    empty = [message for node, message in leader.sent if node == 2]
    assert len(empty) > 1000
    assert all(message["serialized"] is None for message in empty)


def chunks_in_fifty_ticks(leader: Subject) -> int:
    a_follower_that_needs_a_snapshot(leader)
    for _ in range(50):
        leader.tick()
    return sum(isinstance(message, SnapshotChunk) for _, message in leader.sent)


def test_defect_o_one_chunk_waits_for_its_answer_on_ours(ours: Make) -> None:
    """A snapshot is made within one tick, so there is always one that can be sent."""
    assert chunks_in_fifty_ticks(ours()) == 1


def test_defect_o_is_seen_if_no_answer_is_awaited(
    weakened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = weakened()
    assert isinstance(leader, Ours)
    monkeypatch.setattr(leader.core.replicator, "_retry_s", 0.0)
    assert chunks_in_fifty_ticks(leader) == 50


class Unreadable:
    """A file on a disk that fails."""

    def read(self, _size: int) -> bytes:
        raise OSError("input/output error")


def test_defect_o_a_dump_that_cannot_be_read_breaks_every_tick_on_stock(
    stock: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours sends what it holds in memory, and there is no file to be read."""
    leader = stock(folder=tmp_path / "1")
    leader.append(3, 1, TOP, [1] * 20, commit=20)
    leader.compact()
    leader.elect(3)
    leader.receive(2, Appended(2, reset=True, success=False))
    unreadable = lambda *_: Unreadable()  # noqa: E731
    monkeypatch.setattr(package.serializer, "open", unreadable, raising=False)
    for _ in range(3):
        with pytest.raises(TypeError, match="bool"):
            leader.later(0.2)
