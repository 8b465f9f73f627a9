"""What VMs write, and their consoles, from any node: real daemons, guards and terminals."""

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.loopback import BLIXARD, LoopbackCluster, wait_until
from cluster.runners import flake_of_runner

LEAVE = b"\x1d"
ECHO = """exec 3<&0
echo "up in $PWD"
(
  while read -r said; do echo "heard $said"; done
  echo "input has ended"
) <&3 &
while [ ! -e stop ]; do sleep 0.1; done
kill $! 2>/dev/null
echo "stops now"
"""


@pytest.fixture
def echoing(tmp_path: Path) -> str:
    """A folder whose guest repeats what is typed."""
    return flake_of_runner(tmp_path / "echoing", ECHO)


class Terminal:
    """`blixard` on a terminal of its own."""

    def __init__(self, cluster: LoopbackCluster, *arguments: str, via: int) -> None:
        self.shown = b""
        self.near, far = pty.openpty()
        self.before = self._settings(far)
        self._far = far
        self.process = subprocess.Popen(
            [*BLIXARD, *arguments, "--address", cluster.nodes[via].address],
            stdin=far,
            stdout=far,
            stderr=far,
            env={**os.environ, "BLIXARD_ADDRESS": ""},
            start_new_session=True,
        )

    def _settings(self, far: int) -> list[object]:
        import termios

        return termios.tcgetattr(far)

    def type(self, data: bytes) -> None:
        os.write(self.near, data)

    def shows(self, text: str, timeout_s: float = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while text.encode() not in self.shown:
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"not within {timeout_s} s: {text}; but {self.shown.decode()}"
            if select.select([self.near], [], [], left_s)[0]:
                self.shown += os.read(self.near, 65_536)

    def has_shown(self, text: str) -> bool:
        if select.select([self.near], [], [], 0)[0]:
            self.shown += os.read(self.near, 65_536)
        return text.encode() in self.shown

    def ends(self) -> int:
        """Wait until the command has ended, and left the terminal as it was."""
        status = self.process.wait(timeout=30)
        assert self._settings(self._far) == self.before
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.near)
        os.close(self._far)


Open = Callable[..., Terminal]


@pytest.fixture
def terminal(cluster: LoopbackCluster) -> Iterator[Open]:
    opened = []

    def at(*arguments: str, via: int) -> Terminal:
        opened.append(Terminal(cluster, *arguments, via=via))
        return opened[-1]

    yield at
    for each in opened:
        each.close()


def others(host: int) -> list[int]:
    return [node_id for node_id in (1, 2, 3) if node_id != host]


def test_what_it_writes_is_read_from_every_node(cluster: LoopbackCluster, counting: str) -> None:
    cluster.cli("vm", "create", "web", "--config", counting, "--wait")
    wait_until(lambda: "count 5" in cluster.console("web"), "the guest counts")
    for via in (1, 2, 3):
        lines = cluster.cli("vm", "logs", "web", via=via).stdout.splitlines()
        assert lines[:5] == [f"count {n}" for n in range(1, 6)]
        assert len(cluster.cli("vm", "logs", "web", "-n", "2", via=via).stdout.splitlines()) == 2
    told = [
        json.loads(one)
        for one in cluster.cli("vm", "logs", "web", "-o", "json").stdout.splitlines()
    ]
    assert {one["type"] for one in told} == {"line"}
    assert {one["node"] for one in told} == {f"node-{cluster.host_of('web')}"}

    cluster.cli("vm", "stop", "web", "--wait")
    assert "count 5" in cluster.cli("vm", "logs", "web").stdout, "also when it has stopped"
    assert cluster.cli("vm", "logs", "web", "--build").returncode == 0


def test_who_follows_goes_on_where_it_goes(
    cluster: LoopbackCluster, echoing: str, terminal: Open
) -> None:
    cluster.cli("vm", "create", "web", "--config", echoing, "--wait")
    host = cluster.host_of("web")
    elsewhere, third = others(host)
    follower = terminal("vm", "logs", "web", "--follow", via=third)
    follower.shows("up in ")
    person = terminal("vm", "console", "web", via=third)
    person.shows(f"at the console of web on node-{host}")
    person.type(b"one\n")
    person.shows("heard one")
    follower.shows("heard one")

    cluster.cli("vm", "move", "web", "--to", f"node-{elsewhere}", "--wait")
    for each in (follower, person):
        each.shows("stops now")
        each.shows(f"web has moved from node-{host} to node-{elsewhere}")
    person.shows(f"at the console of web on node-{elsewhere}")
    person.type(b"two\n")
    person.shows("heard two")
    follower.shows("heard two")
    assert follower.shown.count(b"up in ") == 2, "all that it has written there, once"
    assert b"input has ended" not in follower.shown

    person.type(LEAVE)
    person.shows("web goes on without you")
    assert person.ends() == 0
    follower.process.send_signal(signal.SIGINT)
    assert follower.ends() == 130


def test_a_console_is_one_persons(cluster: LoopbackCluster, echoing: str, terminal: Open) -> None:
    cluster.cli("vm", "create", "web", "--config", echoing, "--wait")
    host = cluster.host_of("web")
    first = terminal("vm", "console", "web", "--escape", "^A", via=host)
    first.shows("Ctrl-A leaves the console")
    first.shows("at the console of web")
    for via in (1, 2, 3):
        second = terminal("vm", "console", "web", via=via)
        second.shows("BLX-3033")
        second.shows("is held by ")
        second.shows("vm logs web --follow")
        assert second.ends() == 3
    first.type(b"still here" + LEAVE + b"\n")
    first.shows("heard still here" + LEAVE.decode())
    first.process.send_signal(signal.SIGTERM)
    assert first.ends() == 128 + signal.SIGTERM
    again = terminal("vm", "console", "web", via=host)
    again.shows("heard still here")
    again.type(LEAVE)
    assert again.ends() == 0


def test_what_cannot_be_is_told(cluster: LoopbackCluster, echoing: str, terminal: Open) -> None:
    none = cluster.cli("vm", "logs", "nobody", check=False)
    assert (none.returncode, "BLX-4001" in none.stderr) == (4, True)
    many = cluster.cli("vm", "logs", "nobody", "-n", "10001", check=False)
    assert (many.returncode, "10000" in many.stderr) == (2, True)
    cluster.cli("vm", "create", "web", "--config", echoing, "--stopped", "--wait")
    never = cluster.cli("vm", "logs", "web", check=False)
    assert (never.returncode, "has written nothing" in never.stderr) == (3, True)
    piped = cluster.cli("vm", "console", "web", check=False)
    assert (piped.returncode, "needs a terminal" in piped.stderr) == (2, True)
    person = terminal("vm", "console", "web", via=1)
    person.shows("BLX-3016")
    person.shows("blixard vm start web")
    assert person.ends() == 3

    cluster.cli("vm", "start", "web", "--wait")
    host = cluster.host_of("web")
    cluster.kill(host)
    lost = cluster.cli("vm", "logs", "web", via=others(host)[0], check=False)
    assert (lost.returncode, f"node-{host} does not answer" in lost.stderr) == (5, True)
    person = terminal("vm", "console", "web", via=others(host)[0])
    person.shows(f"node-{host} does not answer")
    assert person.ends() == 5


def test_who_follows_a_vm_sees_it_go_on_after_its_host_is_lost(
    cluster: LoopbackCluster, echoing: str, terminal: Open
) -> None:
    cluster.cli("vm", "create", "web", "--config", echoing, "--failover", "always", "--wait")
    host = cluster.host_of("web")
    follower = terminal("vm", "logs", "web", "--follow", via=others(host)[0])
    person = terminal("vm", "console", "web", via=others(host)[1])
    lost = terminal("vm", "logs", "web", "--follow", via=host)
    for each in (follower, person, lost):
        each.shows("up in ")
    cluster.lose(host)
    for each in (follower, person):
        each.shows(f"web has moved from node-{host} to ", 60)
        each.shows("up in ")
    lost.shows("another node is asked")
    person.shows(f"at the console of web on node-{cluster.host_of('web')}")
    person.type(b"here\n")
    for each in (follower, person):
        each.shows("heard here")

    def is_heard() -> bool:
        person.type(b"again\n")
        return lost.has_shown("heard again")

    # It asked another node in the meantime, and what was written before that is not repeated.
    wait_until(is_heard, "who asked the lost node follows again")
