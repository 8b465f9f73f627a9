"""The daemon's side of the keeper's socket, with real keepers that are late, stopped or missing."""

import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from blixard.drivers import host, keeper_client, systemd
from blixard.drivers.host import SystemClock
from blixard.drivers.keeper_client import KeeperClient, UnansweredError
from blixard.drivers.keeper_files import MS, Gate
from blixard.drivers.systemd import SystemdUnits
from blixard.drivers.systemd_facts import UnitFacts
from blixard.drivers.systemd_files import UnitFiles
from blixard.errors import BlixardError
from blixard.ports import Run, UnitState
from drivers.keeper_room import BOOT, Room
from drivers.processes import wait_until
from drivers.watch import Watch


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """Where nobody waits long for an answer."""
    monkeypatch.setattr(keeper_client, "ANSWER_S", 0.4)
    monkeypatch.setattr(systemd, "_RETRY_S", 0.05)
    room = Room(tmp_path)
    yield room
    room.close()


@asynccontextmanager
async def connected(room: Room) -> AsyncIterator[KeeperClient]:
    client = KeeperClient(Path(room.listener.getsockname()), BOOT)
    client.open()
    yield client
    await client.close()


def tell(room: Room, number: signal.Signals) -> None:
    assert room.keeper is not None
    room.keeper.send_signal(number)


def ahead_ms(by_ms: int) -> int:
    return SystemClock().boot_ms() + by_ms


async def has_deadline(room: Room, deadline_ms: int) -> None:
    await wait_until(lambda: room.files.deadline_ns() == deadline_ms * MS)


async def test_the_newest_deadline_is_told_as_soon_as_there_is_a_keeper(room: Room) -> None:
    async with connected(room) as client:
        newest_ms = ahead_ms(7_000)
        for deadline_ms in (newest_ms - 2, newest_ms, newest_ms - 1):
            client.renew(deadline_ms)
        room.serve()
        await has_deadline(room, newest_ms)
        client.renew(newest_ms - 1)
        client.renew(newest_ms + 1)
        await has_deadline(room, newest_ms + 1)


async def test_a_keeper_that_has_forgotten_the_deadline_is_told_again(room: Room) -> None:
    async with connected(room) as client:
        deadline_ms = ahead_ms(7_000)
        client.renew(deadline_ms)
        room.serve()
        await has_deadline(room, deadline_ms)
        room.kill()
        room.files.end_lease()
        room.serve()
        await has_deadline(room, deadline_ms)


async def test_a_keeper_that_is_stopped_holds_nobody_up(room: Room) -> None:
    """More renewals than its socket takes, and none waits or fails."""
    room.serve()
    async with connected(room) as client:
        first_ms = ahead_ms(5_000)
        client.renew(first_ms)
        await has_deadline(room, first_ms)
        tell(room, signal.SIGSTOP)
        with pytest.raises(UnansweredError, match="does not answer"):
            await client.permit("web", 7, 2, keep=False)
        for number in range(1, 2_000):
            client.renew(first_ms + number)
        with pytest.raises(BlixardError, match="does not answer"):
            await client.revoke("web")
        assert room.files.deadline_ns() == first_ms * MS
        tell(room, signal.SIGCONT)
        await has_deadline(room, first_ms + 1_999)
        assert room.files.gates() == {}, "nobody waits for what was asked then"
        await client.permit("web", 8, 2, keep=False)
        assert await client.revoke("web")
        assert not await client.revoke("web")


async def test_a_keeper_that_was_never_asked_has_not_opened_a_gate(room: Room) -> None:
    client = KeeperClient(room.directory / "nowhere", BOOT)
    client.open()
    with pytest.raises(BlixardError, match="nowhere: No such file") as missing:
        await client.permit("web", 7, 2, keep=True)
    assert not isinstance(missing.value, UnansweredError)
    assert "blixard-keeper" in missing.value.remedy
    await client.close()


async def test_what_is_refused_is_not_done(room: Room) -> None:
    room.serve()
    async with connected(room) as client:
        with pytest.raises(BlixardError, match="refuses: the lease of this host has") as refused:
            await client.permit("web", 7, 2, keep=True)
        assert not isinstance(refused.value, UnansweredError)


async def test_a_daemon_without_file_descriptors_is_connected_once_it_has_some(room: Room) -> None:
    room.serve()
    next_file = os.dup(0)
    os.close(next_file)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_file, limits[1]))
    try:
        async with connected(room) as client:
            await wait_until(lambda: "Too many open files" in client._trouble)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert not await client.revoke("web")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_the_mode_is_what_the_keeper_said_last(room: Room, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "watchdog")
    reader = os.open(tmp_path / "watchdog", os.O_RDONLY | os.O_NONBLOCK)
    async with connected(room) as client:
        room.serve("--watchdog", str(tmp_path / "watchdog"))
        await wait_until(lambda: client.guaranteed)
        room.kill()
        assert client.guaranteed, "the watchdog bites without its keeper"
        room.serve()
        await wait_until(lambda: not client.guaranteed)
    os.close(reader)


# --- what the driver makes of it ------------------------------------------------------------------


class ObedientBus:
    """A systemd that does at once what it is told."""

    def __init__(self, units: SystemdUnits, ours: object) -> None:
        self._units = units
        self.facts = UnitFacts()

    def open(self) -> None:
        self._units.connected({})

    async def close(self) -> None:
        pass

    async def watch(self, vm: str) -> None:
        self._units.changed(vm, self.facts)

    async def run_job(self, method: str, vm: str) -> str:
        self.facts = UnitFacts("active")
        await self.watch(vm)
        return "done"

    async def has_ended(self, vm: str) -> None:
        self.facts = UnitFacts()
        await self.watch(vm)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@asynccontextmanager
async def driver(
    room: Room, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SystemdUnits]:
    for name, part in {
        "systemd_bus": SimpleNamespace(SystemdBus=ObedientBus),
        "systemd_journal": SimpleNamespace(last_lines=lambda *_: []),
    }.items():
        monkeypatch.setitem(sys.modules, f"blixard.drivers.{name}", part)
    monkeypatch.setattr(host, "boot_id", lambda: BOOT)
    (room.directory / "state").mkdir()
    files = UnitFiles(room.directory / "state", room.directory / "records")
    units = SystemdUnits(files, wake=watch, keeper=Path(room.listener.getsockname()))
    await units.open()
    deadline_ms = ahead_ms(7_000)
    units.renew(deadline_ms)
    await has_deadline(room, deadline_ms)
    yield units
    await units.close()


def state(units: SystemdUnits) -> UnitState:
    seen = units.seen()
    assert seen is not None
    return seen["web"].state


async def test_no_vm_has_exited_before_its_gate_is_shut(
    room: Room, watch: Watch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    room.serve()
    async with driver(room, watch, monkeypatch) as units:
        units.start("web", Run(3, 7, 1, "/nix/store/web"))
        await watch.until(lambda: state(units) is UnitState.ACTIVE)
        tell(room, signal.SIGSTOP)
        bus: Any = units._bus
        await bus.has_ended("web")
        await wait_until(lambda: "the gate of web is not shut yet" in caplog.text)
        assert state(units) is UnitState.STOPPING
        tell(room, signal.SIGCONT)
        await watch.until(lambda: state(units) is UnitState.EXITED)
        assert room.files.gates() == {}


async def test_nor_one_whose_gate_may_have_been_opened(
    room: Room, watch: Watch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A keeper that died before it could answer. What it opened heeds no deadline."""
    room.serve()
    async with driver(room, watch, monkeypatch) as units:
        tell(room, signal.SIGSTOP)
        units.start("web", Run(3, 7, 1, "/nix/store/web", keep=True))
        await wait_until(lambda: "the gate of web is not shut yet" in caplog.text)
        room.kill()
        room.files.open("web", Gate(7, 1, keep=True))
        caplog.clear()
        await wait_until(lambda: "the gate of web is not shut yet" in caplog.text)
        assert state(units) is UnitState.STOPPING
        room.serve()
        await watch.until(lambda: state(units) is UnitState.EXITED)
        assert room.files.gates() == {}


async def test_a_start_without_a_keeper_comes_to_nothing(
    room: Room, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.serve()
    async with driver(room, watch, monkeypatch) as units:
        room.kill()
        room.listener.close()
        Path(units._keeper._address).unlink()
        units.start("web", Run(3, 7, 1, "/nix/store/web"))
        await watch.until(lambda: state(units) is UnitState.EXITED)
        seen = units.seen()
        assert seen is not None
        assert seen["web"].detail.startswith("could not be started: the keeper of this host does")
