"""A short campaign; and that its faults do what their names say, and its record adds up."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from hosts.campaign import Campaign, _last_ticks, _moved, _needless, drawn, open_campaign
from hosts.campaign_record import Record, Round, table
from hosts.campaign_site import GUESTS
from hosts.conftest import OpenLab
from hosts.faults import FAULTS
from hosts.faults_disk import Disk, thaw
from hosts.faults_watchdog import DEVICE, Watchdogs
from hosts.layers import CACHE
from hosts.machine import Machine, retry
from hosts.oracle import Life, boot_ms

PATIENCE = 30


def test_every_block_of_rounds_has_every_fault() -> None:
    names = [drawn(number, list(FAULTS)) for number in range(2 * len(FAULTS))]
    assert Counter(names) == dict.fromkeys(FAULTS, 2)
    first, second = names[: len(FAULTS)], names[len(FAULTS) :]
    assert first != second
    assert names == [drawn(number, list(FAULTS)) for number in range(2 * len(FAULTS))]


def one_round(number: int, sources: str, **what: object) -> Round:
    return Round(number, "power cut", "node1", False, True, sources, **what)  # type: ignore[arg-type]


def moved(seconds: float, target: str) -> dict[str, object]:
    return {"vm": "web", "source": "node1", "target": target, "seconds": seconds}


def test_a_record_goes_on_and_counts_its_own_sources_only(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    Record(path, "old").add(one_round(0, "old", stuck="for ever"))
    record = Record(path, "new")
    assert record.rounds == []
    record.add(one_round(0, "new", moved=[moved(9.5, "node2"), moved(11.0, "node3")]))
    back = one_round(1, "new", moved=[moved(6.0, "node1")], registered_s=4.5)
    Record(path, "new").add(back)

    again = Record(path, "new")
    assert [one.number for one in again.rounds] == [0, 1]
    head, row, leaders, others, everything = table(again.rounds).splitlines()
    assert head.split()[:5] == ["fault", "rounds", "moved", "not", "p50"]
    assert row.split() == ["power", "cut", "2", "2", "0", "9.5", "11.0", "11.0", "1.5", *"00-00"]
    assert everything.split()[1:] == row.split()[2:]
    assert leaders.split()[3:6] == ["0", "0", "0"]
    assert others.split()[2:] == row.split()[2:]


@pytest.mark.parametrize(
    ("what", "bad"),
    [
        ({}, False),
        ({"last_ticks": [{"vm": "web", "host": "node1", "ms": 0}]}, False),
        ({"last_ticks": [{"vm": "web", "host": "node1", "ms": 1}]}, True),
        ({"overlaps": [{"vm": "web"}]}, True),
        ({"resets": ["node1"]}, True),
        ({"needless": [{"vm": "web"}]}, True),
        ({"unmoved": ["web"]}, True),
        ({"stuck": "the cluster does not answer"}, True),
    ],
)
def test_a_round_is_bad_if_a_promise_was_broken(what: dict[str, object], bad: bool) -> None:
    assert one_round(0, "", **what).is_bad is bad
    assert Round(**json.loads(json.dumps(asdict(one_round(0, "", **what))))).is_bad is bad


def test_what_became_of_the_guests_of_a_struck_host() -> None:
    def life(host: str, began_ms: int, ended_ms: int | None, *frozen: tuple[int, int]) -> Life:
        return Life(host, "web", 1, began_ms, 0, 0, ended_ms, 20_000, list(frozen))

    fenced, elsewhere, bystander = life("a", 0, 20_990), life("b", 21_500, None), life("c", 0, 5)
    lives = [fenced, elsewhere]
    assert _moved(lives, 10_000, {"web": "a"}) == [
        {"vm": "web", "source": "a", "target": "b", "seconds": 11.5}
    ]
    assert _needless(lives, 10_000, ["a"]) == []
    assert _needless(lives, 10_000, []) == [{"vm": "web", "host": "a", "after_ms": 10_990}]
    assert _needless([bystander], 0, ["a"]) == [{"vm": "web", "host": "c", "after_ms": 5}]
    assert _last_ticks(lives, ["a"]) == [{"vm": "web", "host": "a", "ms": -10}]
    [frozen] = _last_ticks([life("a", 0, 30_000, (15_000, 30_000))], ["a"])
    assert frozen["ms"] == -6_000, "it could not execute in the end"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "host")
    yield disk
    thaw(disk.data)
    subprocess.run(["umount", str(disk.data.parent)], check=True)


def write(path: Path, text: str, *, sync: bool) -> None:
    with path.open("a") as file:
        file.write(text)
        file.flush()
        if sync:
            os.fsync(file.fileno())


def test_a_disk_that_loses_power_keeps_what_was_synced(disk: Disk) -> None:
    write(disk.data / "file", "synced", sync=True)
    write(disk.data / "file", " and not", sync=False)
    disk.lose_unsynced()
    with pytest.raises(OSError, match="Input/output error"):
        write(disk.data / "late", "late", sync=True)
    disk.attach_again()
    assert (disk.data / "file").read_text() == "synced"
    write(disk.data / "file", ", and so on", sync=True)


def test_a_full_disk_takes_nothing_until_it_is_emptied(disk: Disk) -> None:
    disk.fill()
    with pytest.raises(OSError, match="No space left"):
        (disk.data / "file").write_bytes(bytes(8192))
    disk.empty()
    (disk.data / "file").write_bytes(bytes(8192))


def test_a_disk_that_stands_still_blocks_who_writes(disk: Disk) -> None:
    disk.stand_still()
    file = str(disk.data / "file")
    with subprocess.Popen(
        [sys.executable, "-c", "open(__import__('sys').argv[1], 'w')", file]
    ) as p:
        with pytest.raises(subprocess.TimeoutExpired):
            p.wait(1)
        disk.go_on()
        assert p.wait(PATIENCE) == 0


def test_a_watchdog_cuts_the_power_of_a_host_that_stops_feeding_it(
    new_lab: OpenLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hosts.faults_watchdog.WATCHDOG_MS", 700)
    lab = new_lab({})
    with Watchdogs(lab.machines[:2], lab.folder) as watchdogs:
        fed, calmed = lab.machines[:2]
        fed.start()
        calmed.start()
        calmed.succeed(f"printf V >{DEVICE}")
        assert not watchdogs.all_fed()
        fed.succeed(f"for beat in $(seq 12); do printf . >{DEVICE}; sleep 0.1; done")
        assert watchdogs.all_fed()
        last_ms = boot_ms()
        retry(lambda _: not fed.is_on, PATIENCE)
        assert 500 <= boot_ms() - last_ms <= 3000
        assert calmed.is_on

        fed.start()
        fed.succeed("true")
        quiet_s = time.monotonic() + 1
        retry(lambda _: time.monotonic() > quiet_s, PATIENCE)
        assert fed.is_on, "a host that was switched on anew begins anew"


@pytest.fixture(scope="module")
def campaign(layers: list[Path]) -> Iterator[Campaign]:
    with open_campaign(layers, CACHE / "runs", seed=0) as campaign:
        yield campaign


@pytest.mark.parametrize("fault", ["power cut, leader", "daemon busy", "keeper stopped"])
def test_a_round(campaign: Campaign, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    seen = campaign.round(0, fault)
    with capsys.disabled():
        print(f"\n{seen}")
    assert not seen.is_bad
    if not FAULTS[fault].spares:
        hit = {move["vm"] for move in seen.moved}
        assert all(move["source"] != move["target"] for move in seen.moved)
        assert hit <= set(GUESTS)
        assert len(seen.last_ticks) >= len(hit)


def test_spinning_is_what_a_signal_makes_a_program_of_the_host_do(campaign: Campaign) -> None:
    host: Machine = campaign.site.machines[0]
    sleeper = "import time; [time.sleep(1) for _ in range(600)]"
    host.succeed(f"systemd-run --unit sleeper /opt/blixard/venv/bin/python -c '{sleeper}'")
    stat = Path(f"/proc/{host.main_pid('sleeper.service')}/stat")

    def used() -> int:
        return int(stat.read_text().rpartition(")")[2].split()[11])

    host.wait_until_succeeds("grep -s sleeper /proc/*/cgroup", timeout=PATIENCE)
    retry(lambda _: used() > 0 or b"python" in (stat.parent / "cmdline").read_bytes(), PATIENCE)
    host.succeed("systemctl kill --signal=USR1 sleeper.service")
    before = used()
    retry(lambda _: used() >= before + 50, PATIENCE)
    host.succeed("systemctl kill --signal=USR2 sleeper.service")
    host.succeed("systemctl stop sleeper.service")
