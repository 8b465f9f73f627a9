"""The keeper as a program, beside a cgroup that a folder stands in for."""

import contextlib
import errno
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blixard.drivers.keeper_files import MS, Gate, now_ns
from blixard.drivers.keeper_lease import Keeper, Unkillable
from blixard.drivers.keeper_slice import Slice
from drivers.keeper_room import BOOT, PATIENCE_S, PROGRAM, Room, until

OTHER_BOOT = "f" * 32


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.close()


def test_a_gate_is_open_from_its_permit_until_it_is_revoked(room: Room) -> None:
    client = room.serve()
    assert client.ask("permit web 7 2") == "no the lease of this host has ended: renew first"
    client.renew(5_000)
    assert not room.passes("web")
    assert client.ask("permit web 7 2") == "ok"
    assert (room.directory / "gates/web").read_text() == "7 2 lease\n"
    assert room.passes("web")
    assert not room.passes("other")
    assert client.status()["gates"] == {"web": {"epoch": 7, "incarnation": 2, "keep": False}}
    assert client.ask("revoke web") == "ok open"
    assert not room.passes("web")
    assert client.ask("revoke web") == "ok shut"


def test_at_the_deadline_everything_ends_but_what_is_kept(room: Room) -> None:
    client = room.serve()
    deadline_ns = client.renew(300)
    assert [client.ask("permit web 7 2"), client.ask("permit db 8 2 keep")] == ["ok", "ok"]
    leased, kept, files = room.vm("web"), room.vm("db"), room.vm("db", "microvm-virtiofsd")
    until(lambda: room.ended(leased))
    assert 0 <= now_ns() - deadline_ns < 1_000 * MS
    assert client.status()["fenced"]
    assert (kept.poll(), files.poll()) == (None, None)
    assert [path.name for path in (room.directory / "gates").iterdir()] == ["db"]
    assert not (room.directory / "deadline").exists()
    assert room.passes("db")
    assert client.ask("permit web 9 2").startswith("no the lease of this host has ended")
    client.renew(5_000)
    assert not client.status()["fenced"]
    assert not room.passes("web"), "a new lease alone starts nothing"
    assert client.ask("permit web 9 2") == "ok"


def test_while_fenced_what_appears_is_killed_and_no_lease_begins_before(room: Room) -> None:
    client = room.serve()
    late = room.vm("late")
    until(lambda: room.ended(late))
    # It answers once its first fence has ended. That would wait for the other process to leave the
    # slice, which here happens only when it is asked for below.
    assert client.status()["fenced"]
    other = room.vm("other")
    answer = client.ask(f"renew {BOOT} {now_ns() + 5_000 * MS}")
    assert answer == "no the fence has not ended everything yet: renew again"
    until(lambda: room.ended(other))
    client.renew(5_000)


def test_the_deadline_is_never_moved_back(room: Room) -> None:
    client = room.serve()
    deadline_ns = client.renew(5_000)
    client.renew(1_000)
    assert client.status()["deadline_ns"] == deadline_ns
    assert (room.directory / "deadline").read_text() == f"{BOOT} {deadline_ns}\n"


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ("renew BOOT +0", "was 0 ms ago: renew earlier"),
        ("renew BOOT +8500", "8000 are allowed: stamp renewals with CLOCK_BOOTTIME"),
        (f"renew {OTHER_BOOT} +5000", "is not that of this boot"),
        ("renew BOOT soon", "DEADLINE_NS 'soon' is no number"),
        ("renew BOOT -1", "DEADLINE_NS '-1' is no number"),
        ("renew BOOT " + "9" * 30, "is no number: write at most 18 digits"),
        ("renew BOOT", "this is no request"),
        ("permit ../web 7 2", "NAME '../web' is no VM's"),
        ("permit Web 7 2", "NAME 'Web' is no VM's"),
        ("permit -web 7 2", "NAME '-web' is no VM's"),
        ("permit " + "a" * 64 + " 7 2", "is no VM's: write a DNS label"),
        ("permit web seven 2", "EPOCH 'seven' is no number"),
        ("permit web 7 x", "INCARNATION 'x' is no number"),
        ("permit web 7 2 forever", "this is no request"),
        ("permit web 5 2", "EPOCH 5 is over: web is at 6"),
        ("revoke .", "NAME '.' is no VM's"),
        ("release", "this is no request: write renew"),
        (b"\xff\x00", "this is no request"),
    ],
)
def test_what_is_malformed_is_refused_and_changes_nothing(
    room: Room, request_: str | bytes, answer: str
) -> None:
    client = room.serve()
    deadline_ns = client.renew(5_000)
    assert client.ask("permit web 6 2") == "ok"
    before = client.status()
    if isinstance(request_, str):
        request_ = request_.replace("BOOT", BOOT)
        head, plus, ahead_ms = request_.partition("+")
        request_ = f"{head}{now_ns() + int(ahead_ms) * MS}" if plus else request_
    said = client.ask(request_)
    assert said.startswith("no ")
    assert answer in said
    assert client.status() == before
    assert before["deadline_ns"] == deadline_ns


def test_clients_that_misbehave_disturb_nobody(room: Room) -> None:
    client = room.serve()
    client.renew(5_000)
    loud = room.connect()
    loud.send(b"x" * 600)
    deaf = room.connect()
    with contextlib.suppress(OSError):
        while True:
            deaf.socket.settimeout(0.05)
            deaf.send("status")
    crowd = [room.connect() for _ in range(80)]
    assert crowd[-1].ask("revoke web") == "ok shut"
    # The crowd has taken the places of those who came first.
    room.connect().renew(5_000)


def test_a_permit_that_nobody_learns_of_opens_no_gate(room: Room) -> None:
    client = room.serve()
    client.renew(7_000)
    assert room.keeper is not None
    room.keeper.send_signal(signal.SIGSTOP)
    hasty = room.connect()
    hasty.send("permit web 7 2")
    hasty.close()
    room.keeper.send_signal(signal.SIGCONT)
    assert client.status()["gates"] == {}

    assert room.connect().ask("revoke web") == "ok shut"


def test_a_keeper_that_was_killed_goes_on_where_it_was(room: Room) -> None:
    client = room.serve()
    deadline_ns = client.renew(1_500)
    vm = room.vm("web")
    assert client.ask("permit web 7 2") == "ok"
    room.kill()
    client = room.serve()
    assert client.status()["deadline_ns"] == deadline_ns
    assert room.passes("web")
    assert vm.poll() is None
    until(lambda: room.ended(vm))
    assert now_ns() >= deadline_ns


@pytest.mark.parametrize("deadline", ["past", "other boot", "beyond", "garbage", "none"])
def test_a_keeper_that_does_not_know_the_deadline_fences_first(room: Room, deadline: str) -> None:
    vm = room.vm("web")
    room.files.open("web", Gate(7, 2, keep=False))
    texts = {
        "past": f"{BOOT} {now_ns() - 1}",
        "other boot": f"{OTHER_BOOT} {now_ns() + 5_000 * MS}",
        "beyond": f"{BOOT} {now_ns() + 9_000 * MS}",
        "garbage": "soon",
    }
    if deadline in texts:
        (room.directory / "deadline").write_text(texts[deadline])
    client = room.serve()
    until(lambda: room.ended(vm))
    assert client.status()["fenced"]
    assert not room.passes("web")


def test_a_renewal_that_waited_while_the_keeper_was_held_up_counts(room: Room) -> None:
    client = room.serve()
    deadline_ns = client.renew(300)
    vm = room.vm("web")
    assert room.keeper is not None
    room.keeper.send_signal(signal.SIGSTOP)
    client.send(f"renew {BOOT} {now_ns() + 7_000 * MS}")
    until(lambda: now_ns() > deadline_ns + 50 * MS)
    room.keeper.send_signal(signal.SIGCONT)
    assert client.socket.recv(100) == b"ok"
    assert not client.status()["fenced"]
    assert vm.poll() is None


def test_a_gate_that_nobody_shut_in_time_is_shut(room: Room) -> None:
    client = room.serve()
    deadline_ns = client.renew(300)
    assert client.ask("permit web 7 2") == "ok"
    room.kill()
    until(lambda: now_ns() > deadline_ns)
    assert (room.directory / "gates/web").exists()
    assert not room.passes("web")


@pytest.mark.parametrize("text", ["", "7", "7 2 x", "x 2 lease", "7 2 lease more"])
def test_a_damaged_gate_is_shut(room: Room, text: str) -> None:
    room.serve().renew(5_000)
    (room.directory / "gates/web").write_text(text)
    assert not room.passes("web")


def test_what_does_not_die_costs_the_keeper_its_place(room: Room) -> None:
    client = room.serve()
    vm = room.vm("web")
    # Nobody reaps it or takes it off the list: to the keeper it is there still.
    assert room.keeper is not None
    assert room.keeper.wait(PATIENCE_S) == 77
    client.close()
    ended = room.run("once", "--slice", str(room.slice))
    assert ended.returncode == 77
    assert "outlived SIGKILL" in ended.stderr
    assert room.ended(vm)
    assert room.run("once", "--slice", str(room.slice)).returncode == 0


def test_once_spares_what_is_kept(room: Room) -> None:
    room.files.open("db", Gate(7, 2, keep=True))
    room.files.open("web", Gate(8, 2, keep=False))
    kept = room.vm("db")
    assert room.run("once", "--slice", str(room.slice)).returncode == 0
    assert kept.poll() is None
    assert room.files.kept() == set(room.files.gates()) == {"db"}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], "write serve, deputy, once or gate NAME"),
        (["serve", "--max-ms", "soon"], "--max-ms: 'soon' is no number of milliseconds"),
        (["serve", "--maximum", "1"], "--maximum: give one of --boot-id"),
        (["serve", "--watchdog", "/nowhere/watchdog"], "cannot be used: No such file"),
        (["serve", "--watchdog", "/dev/null"], "cannot be used: Inappropriate ioctl"),
    ],
)
def test_wrong_settings_are_told_and_end_it(room: Room, words: list[str], error: str) -> None:
    extra = ["--slice", str(room.slice)] if words else []
    command = [*PROGRAM, *words, *extra]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert error in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_lease_that_cannot_be_noted_is_not_given(room: Room, monkeypatch: Any) -> None:
    client = Keeper(room.files, Slice(room.slice), max_ns=8_000 * MS, budget_ns=0)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    answer = client.answer(f"renew {BOOT} {now_ns() + 5_000 * MS}".encode())
    assert answer == "no [Errno 28] No space left on device"
    assert client.deadline_ns == 0


def test_only_the_same_process_that_stays_is_unkillable(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = now_ns()
    monkeypatch.setattr("blixard.drivers.keeper_lease.now_ns", lambda: now)
    strict = Keeper(room.files, Slice(room.slice), max_ns=8_000 * MS, budget_ns=0)
    for _ in range(10):
        storm = room.vm("web")
        strict.keep()
        until(lambda: room.ended(storm))  # noqa: B023
        now += 300 * MS
    room.vm("web")
    strict.keep()
    now += 500 * MS
    strict.keep()
    now += 101 * MS
    with pytest.raises(Unkillable):
        strict.keep()


def test_the_kernels_own_way_is_preferred(room: Room) -> None:
    vm = room.vm("web")
    (room.slice / "cgroup.kill").write_text("")
    Slice(room.slice).kill(set())
    assert (room.slice / "cgroup.kill").read_text() == "1"
    assert vm.poll() is None
