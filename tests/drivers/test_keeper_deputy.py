"""The deputy of the keeper as a program, beside a keeper that is not punctual."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from blixard.drivers.keeper_deputy import AGAIN_NS, GRACE_NS, LONGEST_NS, Deputy
from blixard.drivers.keeper_files import MS, Gate, now_ns
from blixard.drivers.keeper_slice import Slice
from drivers.keeper_room import BOOT, Room, until

K_NS = 1_000 * MS


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.close()


def test_it_ends_what_a_keeper_that_stands_still_does_not(room: Room) -> None:
    client = room.serve()
    room.depute()
    deadline_ns = client.renew(1_500)
    assert [client.ask("permit web 7 2"), client.ask("permit db 8 2 keep")] == ["ok", "ok"]
    vm, kept = room.vm("web"), room.vm("db")
    assert room.keeper is not None
    room.keeper.send_signal(signal.SIGSTOP)
    until(lambda: vm.poll() is not None)
    assert GRACE_NS <= now_ns() - deadline_ns < K_NS
    assert kept.poll() is None
    assert room.files.gates().keys() == {"db"}
    assert not room.files.deadline_ns()

    # The keeper has missed all this. What is left of the old lease must not pass into a new one.
    client.send(f"renew {BOOT} {now_ns() + 5_000 * MS}")
    room.keeper.send_signal(signal.SIGCONT)
    assert client.socket.recv(100) == b"no the fence has not ended everything yet: renew again"
    until(lambda: room.ended(vm))
    client.renew(5_000)
    assert client.ask("permit web 9 2") == "ok"
    assert room.passes("web")


def test_it_ends_what_a_keeper_has_left_that_is_gone(room: Room) -> None:
    client = room.serve()
    room.depute()
    deadline_ns = client.renew(1_000)
    vm = room.vm("web")
    room.kill()
    until(lambda: room.ended(vm))
    assert now_ns() - deadline_ns < K_NS


def test_it_kills_on_and_on_where_nobody_else_does(room: Room) -> None:
    room.depute()
    for _ in range(3):
        vm = room.vm("web")
        until(lambda: room.ended(vm))  # noqa: B023


def test_beside_a_keeper_that_is_punctual_it_does_nothing(room: Room) -> None:
    client = room.serve()
    room.depute()
    deadline_ns = client.renew(500)
    vm = room.vm("web")
    until(lambda: room.ended(vm))
    until(lambda: now_ns() > deadline_ns + 2 * GRACE_NS)
    client.renew(5_000)
    vm = room.vm("web")
    until(lambda: now_ns() > deadline_ns + 2 * GRACE_NS + 3 * AGAIN_NS)
    assert vm.poll() is None
    assert room.deputy_said() == ""


def test_it_waits_for_the_deadline_and_follows_it(room: Room) -> None:
    deputy = Deputy(room.files, Slice(room.slice))
    room.files.set_deadline(now_ns() + 8_000 * MS)
    assert 8_000 * MS < deputy.look() <= 8_000 * MS + GRACE_NS
    assert GRACE_NS < 500 * MS < LONGEST_NS
    room.files.end_lease()
    assert deputy.look() == AGAIN_NS


def test_what_begins_with_a_new_lease_is_not_taken_for_what_was_there(room: Room) -> None:
    deputy = Deputy(room.files, Slice(room.slice))
    old = room.vm("web")
    deputy.look()
    old.kill()
    until(lambda: room.ended(old))
    # The keeper gives a lease and a VM begins, while the deputy has read that there is none.
    room.files.open("web", Gate(7, 2, keep=False))
    new = room.vm("web")
    deputy.look()
    assert new.poll() is None
    deputy.look()
    until(lambda: room.ended(new))
