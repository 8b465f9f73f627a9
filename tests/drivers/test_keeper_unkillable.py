"""What the keeper does about a process that SIGKILL does not end: it leaves its place, so that
systemd reboots the host.

Such a process sleeps in the kernel (state D). Here its cgroup goes on naming it, though it is gone.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from blixard.drivers import keeper
from blixard.drivers.keeper_files import MS, now_ns
from drivers.keeper_room import BOOT, PATIENCE_S, Room, until

K_NS = 1_000 * MS
PATIENT_NS = 600 * MS
ROOT = Path(__file__).parents[2]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.close()


def status(room: Room) -> int:
    """With which the keeper has ended."""
    assert room.keeper is not None
    return room.keeper.wait(PATIENCE_S)


@pytest.mark.parametrize("spared", [False, True])
def test_a_keeper_ends_within_the_budget_of_its_last_deadline(room: Room, spared: bool) -> None:
    client = room.serve()
    deadline_ns = client.renew(500)
    if spared:
        assert client.ask("permit db 7 2 keep") == "ok"
    kept, stuck = room.vm("db") if spared else None, room.vm("web")
    assert status(room) == keeper.UNKILLABLE
    assert PATIENT_NS < now_ns() - deadline_ns < K_NS
    assert stuck.poll() is not None, "it was killed, for all that"
    assert kept is None or kept.poll() is None


def test_no_lease_begins_beside_it(room: Room) -> None:
    client = room.serve()
    client.renew(300)
    room.vm("web")
    until(lambda: client.status()["fenced"])
    answers = set()

    def asked_in_vain() -> bool:
        with contextlib.suppress(OSError):
            answers.add(client.ask(f"renew {BOOT} {now_ns() + 5_000 * MS}"))
        assert room.keeper is not None
        return room.keeper.poll() is not None

    until(asked_in_vain)
    assert answers - {""} == {"no the fence has not ended everything yet: renew again"}
    assert status(room) == keeper.UNKILLABLE
    assert not room.files.deadline_ns()


def test_one_that_appears_while_there_is_no_lease_counts_as_well(room: Room) -> None:
    client = room.serve()
    assert client.status()["fenced"]
    room.vm("web")
    assert status(room) == keeper.UNKILLABLE


def test_the_watchdog_stays_armed(room: Room, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "watchdog")
    reader = os.open(tmp_path / "watchdog", os.O_RDONLY | os.O_NONBLOCK)
    client = room.serve("--watchdog", str(tmp_path / "watchdog"))
    client.renew(500)
    room.vm("web")
    assert status(room) == keeper.UNKILLABLE
    assert not os.read(reader, 1_000).endswith(b"V")
    os.close(reader)


def test_who_fences_in_its_place_says_so_and_ends_alike(room: Room) -> None:
    room.vm("web")
    began_ns = now_ns()
    ended = room.run("once", "--slice", str(room.slice))
    assert ended.returncode == keeper.UNKILLABLE
    assert PATIENT_NS < now_ns() - began_ns < 2 * K_NS
    assert re.search(r"processes \[\d+\] have outlived SIGKILL", ended.stderr)


def test_one_that_dies_late_but_dies_is_no_reason(room: Room) -> None:
    client = room.serve()
    deadline_ns = client.renew(300)
    vm = room.vm("web")
    until(lambda: now_ns() > deadline_ns + PATIENT_NS // 2)
    until(lambda: room.ended(vm))
    client.renew(5_000)
    assert client.ask("permit web 8 2") == "ok"


def test_systemd_does_not_try_again_but_fences_once_and_reboots() -> None:
    """What its units say, as NixOS renders them."""
    text = (ROOT / "tests/nix/golden/minimal").read_text()
    listed = re.findall(r"^RestartPreventExitStatus=(.*)$", text, re.MULTILINE)
    assert f"{keeper.WRONG} {keeper.UNKILLABLE}" in listed
    assert "OnFailure=blixard-keeper-once.service\n" in text
    assert "FailureAction=reboot-immediate\n" in text
