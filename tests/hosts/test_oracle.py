"""The oracle must see what it is there to see, or nothing that it says means anything."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from hosts.conftest import OpenLab
from hosts.lab import Lab
from hosts.machine import Machine, retry
from hosts.oracle import TICK_MS, Life, Oracle, Overlap, boot_ms, overlaps

PATIENCE = 30


def life(host: str, began_ms: int, ended_ms: int | None, *frozen: tuple[int, int]) -> Life:
    """A process of the VM `web`."""
    return Life(host, "web", 0, began_ms, 0, 0, ended_ms, frozen=list(frozen))


@pytest.mark.parametrize(
    ("lives", "found"),
    [
        ([life("a", 0, 100), life("b", 100, None)], None),
        ([life("a", 0, 101), life("b", 100, None)], (100, 101)),
        ([life("a", 0, None), life("b", 100, 200)], (100, 200)),
        ([life("a", 0, None), life("a", 100, None)], (100, 1000)),
        ([life("a", 0, 300, (90, 300)), life("b", 100, None)], None),
        ([life("a", 0, 301, (90, 300)), life("b", 100, None)], (300, 301)),
        ([life("frozen", 0, None), life("b", 500, None)], None),
        ([life("frozen", 0, None), life("b", 499, None)], (499, 500)),
    ],
)
def test_an_overlap_is_where_two_could_execute(
    lives: list[Life], found: tuple[int, int] | None
) -> None:
    seen = overlaps(lives, 1000, {"frozen": 500})
    first, second = sorted(one.host for one in lives)
    assert seen == ([Overlap("web", (first, second), *found)] if found else [])
    lives[1].vm = "other"
    assert not overlaps(lives, 1000, {"frozen": 500})


@pytest.fixture(scope="module")
def lab(new_lab: OpenLab) -> Lab:
    lab = new_lab({})
    for machine in lab.machines[:2]:
        machine.start()
    return lab


@pytest.fixture
def hosts(lab: Lab) -> Iterator[list[Machine]]:
    """Two hosts that run, without guests."""
    hosts = lab.machines[:2]
    for host in hosts:
        host.wait_for_unit("basic.target")
    yield hosts
    for host in hosts:
        if host.is_on:
            host.thaw()
            host.execute("systemctl kill --signal=KILL 'microvm-*.service'")


@pytest.fixture
def oracle(hosts: list[Machine]) -> Iterator[Oracle]:
    with Oracle(hosts) as oracle:
        yield oracle


def begin_guest(host: Machine, vm: str) -> None:
    """Start what the oracle must take for a guest: by hand, past all that Blixard does."""
    # The guest starts no process itself: a child would go by its name until it is another program.
    host.succeed(f"[ -p /run/{vm} ] || mkfifo /run/{vm}")
    hold = f"read forever <>/run/{vm}"
    host.succeed(f"systemd-run --collect --unit microvm-{vm} sh -c '{hold}' -name {vm}")


def sees(oracle: Oracle, where: dict[str, list[str]]) -> None:
    assert oracle.wait(lambda: oracle.where() == where, PATIENCE), oracle.where()


def test_the_same_guest_on_two_hosts_is_seen(hosts: list[Machine], oracle: Oracle) -> None:
    first, second = hosts
    begin_guest(first, "web")
    begin_guest(second, "other")
    sees(oracle, {"web": ["node1"], "other": ["node2"]})
    assert not oracle.overlaps(0)

    begin_guest(second, "web")
    sees(oracle, {"web": ["node1", "node2"], "other": ["node2"]})
    [overlap] = oracle.overlaps(0)
    assert (overlap.vm, overlap.hosts) == ("web", ("node1", "node2"))
    first.succeed("systemctl kill --signal=KILL microvm-web.service")
    sees(oracle, {"web": ["node2"], "other": ["node2"]})
    assert oracle.overlaps(0), "what is over has happened"
    assert not oracle.overlaps(boot_ms()), "since now, nothing has"


def test_an_end_is_noticed_at_once(hosts: list[Machine], oracle: Oracle) -> None:
    begin_guest(hosts[0], "web")
    sees(oracle, {"web": ["node1"]})
    [seen] = oracle.since(0)
    assert 0 <= seen.first_seen_ms - seen.began_ms < 1000
    before_ms = boot_ms()
    os.kill(seen.pid, signal.SIGKILL)
    sees(oracle, {})
    assert seen.ended_ms is not None
    assert before_ms <= seen.ended_ms <= before_ms + TICK_MS


def test_a_zombie_is_no_guest(hosts: list[Machine], oracle: Oracle) -> None:
    careless = "import subprocess, time; subprocess.Popen({guest}); time.sleep(60)"
    guest = careless.format(guest=["sh", "-c", "read forever <>/run/web", "-name", "web"])
    hosts[0].succeed("[ -p /run/web ] || mkfifo /run/web")
    hosts[0].succeed(f'systemd-run --collect --unit microvm-careless python3 -c "{guest}"')
    sees(oracle, {"web": ["node1"]})
    [seen] = oracle.since(0)
    os.kill(seen.pid, signal.SIGKILL)
    sees(oracle, {})
    assert hosts[0].succeed("ps -eo stat,args | grep '^Z.*sh'")


def test_a_frozen_host_executes_nothing(hosts: list[Machine], oracle: Oracle) -> None:
    first, second = hosts
    begin_guest(first, "web")
    sees(oracle, {"web": ["node1"]})
    first.freeze()
    sees(oracle, {})
    begin_guest(second, "web")
    sees(oracle, {"web": ["node2"]})
    assert not oracle.overlaps(0)
    first.crash()
    assert oracle.wait(lambda: len(oracle.since(boot_ms())) == 1, PATIENCE)
    assert not oracle.overlaps(0), "killed while frozen, it has not executed again"

    first.start()
    begin_guest(first, "late")
    first.freeze()
    sees(oracle, {"web": ["node2"]})
    begin_guest(second, "late")
    sees(oracle, {"web": ["node2"], "late": ["node2"]})
    first.thaw()
    assert oracle.wait(lambda: bool(oracle.overlaps(0)), PATIENCE), "thawed, both execute"


def test_a_deadline_is_read_from_a_host_with_a_clock_of_its_own(
    hosts: list[Machine], oracle: Oracle
) -> None:
    host = hosts[0]
    host.crash()
    host.later_s = 5000
    host.start()
    begin_guest(host, "web")
    sees(oracle, {"web": ["node1"]})
    # The deadline is this test's to write.
    host.succeed("systemctl mask --runtime --now blixard-keeper.socket blixard-keeper.service")
    host.succeed(
        "mkdir -p /run/blixard-keeper; cd /run/blixard-keeper; read up _ </proc/uptime;"
        'echo "00 $(( ${up%.*} + 3 ))000000000" >new; mv new deadline'
    )
    expected_ms = boot_ms() + 3000
    [seen] = oracle.since(boot_ms())
    [watched] = (host for host in oracle._hosts if host.name == "node1")
    assert oracle.wait(lambda: watched.deadline_ms is not None, PATIENCE)
    host.succeed("echo 00 0 >/run/blixard-keeper/deadline")
    os.kill(seen.pid, signal.SIGKILL)
    sees(oracle, {})
    assert seen.deadline_ms is not None
    assert abs(seen.deadline_ms - expected_ms) < 1500


def test_looking_is_cheap(hosts: list[Machine], oracle: Oracle) -> None:
    for number in range(6):
        begin_guest(hosts[number % 2], f"vm{number}")
    assert oracle.wait(lambda: len(oracle.where()) == 6, PATIENCE)
    assert oracle._thread.ident is not None
    clock = time.pthread_getcpuclockid(oracle._thread.ident)
    began_s, used_s = time.monotonic(), time.clock_gettime(clock)
    retry(lambda _: time.monotonic() > began_s + 2, PATIENCE)
    share = (time.clock_gettime(clock) - used_s) / (time.monotonic() - began_s)
    print(f"the oracle takes {share:.1%} of a core")
    assert share < 0.1


def test_an_oracle_that_fails_says_so(
    hosts: list[Machine], oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threading.excepthook", lambda _: None)

    def blind() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(oracle, "_look", blind)
    with pytest.raises(RuntimeError, match="blind"):
        oracle.wait(lambda: False, PATIENCE)
