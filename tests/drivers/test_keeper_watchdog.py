"""The keeper's watchdog: a FIFO from which a test reads what it is petted with."""

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blixard.drivers.keeper_files import MS, now_ns
from blixard.drivers.keeper_lease import Keeper
from blixard.drivers.keeper_slice import Slice
from blixard.drivers.keeper_watchdog import Watchdog
from drivers.keeper_room import BOOT, PATIENCE_S, Room, until


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.close()


class Fifo:
    """Who would cut the power: sees each byte."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def bytes(self) -> bytes:
        try:
            return os.read(self._file, 1000)
        except BlockingIOError:
            return b""


@pytest.fixture
def fifo(tmp_path: Path) -> Fifo:
    return Fifo(tmp_path / "watchdog")


def test_with_a_watchdog_at_most_one_is_guaranteed(room: Room, fifo: Fifo) -> None:
    client = room.serve("--watchdog", str(fifo.path))
    assert client.status()["watchdog"] == "guaranteed"
    until(fifo.bytes)
    room.kill()
    client = room.serve("--watchdog", str(fifo.path))
    until(fifo.bytes)
    assert room.keeper is not None
    room.keeper.terminate()
    assert room.keeper.wait(PATIENCE_S) == 0
    assert fifo.bytes().endswith(b"V")


def test_without_one_it_is_best_effort(room: Room) -> None:
    assert room.serve().status()["watchdog"] == "best-effort"


def test_a_fifo_that_nobody_reads_is_no_watchdog(room: Room, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "unread")
    ended = room.run("serve", "--watchdog", str(tmp_path / "unread"), "--slice", str(room.slice))
    assert ended.returncode == 2
    assert "cannot be used" in ended.stderr
    assert "best-effort" in ended.stderr


def test_told_to_stop_it_leaves_vms_alone_and_the_watchdog_armed(room: Room, fifo: Fifo) -> None:
    client = room.serve("--watchdog", str(fifo.path))
    client.renew(7_000)
    vm = room.vm("web")
    assert room.keeper is not None
    room.keeper.terminate()
    assert room.keeper.wait(PATIENCE_S) == 0
    assert b"V" not in fifo.bytes()
    assert vm.poll() is None
    assert room.files.deadline_ns() > now_ns()


class Bench:
    """A keeper with a watchdog whose time is set by hand."""

    def __init__(self, room: Room, fifo: Fifo, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = now_ns()
        for module in ("keeper_lease", "keeper_watchdog", "keeper_files"):
            monkeypatch.setattr(f"blixard.drivers.{module}.now_ns", lambda: self.now_ns)
        self._fifo = fifo
        dog = Watchdog(str(fifo.path), 6_000)
        times = {"max_ns": 8_000 * MS, "budget_ns": 1_000 * MS}
        self.keeper = Keeper(room.files, Slice(room.slice), dog, **times)

    def petted(self, after_ms: int) -> bool:
        self.now_ns += after_ms * MS
        self.keeper.keep()
        return bool(self._fifo.bytes())

    def ask(self, request: str) -> str:
        return self.keeper.answer(request.encode())

    def renew(self) -> None:
        """As if stamped now, T = 9 s and K = 1 s."""
        assert self.ask(f"renew {BOOT} {self.now_ns + 8_000 * MS}") == "ok"


@pytest.fixture
def bench(room: Room, fifo: Fifo, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(room, fifo, monkeypatch)


def test_it_is_petted_again_and_again_while_nothing_runs(bench: Bench) -> None:
    assert [bench.petted(125) for _ in range(6)] == [False, True] * 3
    bench.renew()
    assert [bench.petted(1_000) for _ in range(20)] == [True] * 20


def test_it_is_petted_only_if_it_would_bite_before_the_lease_ends(room: Room, bench: Bench) -> None:
    bench.renew()
    vm = room.vm("web")
    assert [bench.petted(1_000) for _ in range(2)] == [True] * 2
    assert not bench.petted(1_000), "at T - W it would bite when the lease ends, not before"
    assert [bench.petted(1_000) for _ in range(4)] == [False] * 4
    bench.renew()
    assert bench.petted(0)
    assert [bench.petted(1_000) for _ in range(7)] == [True] * 2 + [False] * 5
    assert not bench.petted(1_000), "the fence kills now, and has not seen an end"
    until(lambda: room.ended(vm))
    assert bench.petted(0), "fenced, the host need not be reset"


def test_it_bites_after_a_fence_that_takes_its_usual_time(room: Room, bench: Bench) -> None:
    bench.renew()
    vm = room.vm("web")
    stamp_ns = petted_ns = bench.now_ns
    while bench.now_ns < stamp_ns + 8_000 * MS - 75 * MS:
        if bench.petted(75):
            petted_ns = bench.now_ns
    assert vm.poll() is None
    bites_ns = petted_ns + 6_000 * MS
    assert stamp_ns + 8_600 * MS < bites_ns < stamp_ns + 9_000 * MS


def test_an_open_gate_is_as_good_as_a_vm(room: Room, bench: Bench) -> None:
    bench.renew()
    assert bench.ask("permit web 7 2") == "ok"
    assert [bench.petted(1_000) for _ in range(5)] == [True] * 2 + [False] * 3
    assert bench.ask("revoke web") == "ok open"
    assert bench.petted(0)


def test_no_vm_starts_under_a_lease_that_ends_before_the_watchdog_bites(bench: Bench) -> None:
    bench.renew()
    assert [bench.petted(1_000) for _ in range(5)] == [True] * 5
    assert bench.ask("permit web 7 2").startswith("no the lease of this host ends before its watch")
    bench.renew()
    assert bench.ask("permit web 7 2") == "ok"


def test_what_is_kept_does_not_hold_the_watchdog_back(room: Room, bench: Bench) -> None:
    bench.renew()
    assert bench.ask("permit db 7 2 keep") == "ok"
    room.vm("db")
    assert [bench.petted(1_000) for _ in range(20)] == [True] * 20


@pytest.mark.parametrize(("settable", "refused"), [(6, False), (4, False), (10, True), (1, True)])
def test_a_device_that_bites_too_late_or_too_early_is_refused(
    monkeypatch: pytest.MonkeyPatch, settable: int, refused: bool
) -> None:
    asked: list[bytes] = []

    def ioctl(file: int, request: int, argument: bytes) -> bytes:
        asked.append(argument)
        return settable.to_bytes(4, sys.byteorder)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    with pytest.raises(ValueError, match="bites after") if refused else contextlib.nullcontext():
        Watchdog("/dev/null", 6_500)
    assert asked == [(6).to_bytes(4, sys.byteorder)]


def test_a_lost_watchdog_ends_the_keeper(room: Room, bench: Bench, fifo: Fifo) -> None:
    os.close(fifo._file)
    with pytest.raises(BrokenPipeError):
        bench.petted(1_000)
