"""A daemon that is told to read its configuration anew, as systemd tells it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from blixard import config
from blixard.config.live import taken
from cluster.loopback import free_port

PRESENT = config.load(None, {"node": {"id": 1, "data_dir": "/srv"}})


def test_what_can_change_is_taken_and_the_rest_is_named() -> None:
    wanted = config.load(
        None,
        {
            "node": {"id": 2, "data_dir": "/srv", "log_level": "debug", "bootstrap": False},
            "capacity": {"vcpus": 3},
            "nix": {"options": {"cores": "1"}},
            "lease": {"renew_ms": 900},
            "watchdog": {"mode": "best-effort"},
            "metrics": {"bind": "127.0.0.1:9101"},
        },
    )
    live, waiting = taken(PRESENT, wanted)
    assert live == replace(PRESENT, log_level="debug", capacity=wanted.capacity, nix=wanted.nix)
    assert waiting == ["node.id", "node.bootstrap", "lease", "watchdog.mode", "metrics.bind"]
    assert taken(PRESENT, PRESENT) == (PRESENT, [])


class Node:
    """A daemon, the file that it reads, and what it tells the service manager."""

    def __init__(self, directory: Path, more: str = "") -> None:
        self.file = directory / "blixard.toml"
        self.address = f"127.0.0.1:{free_port()}"
        self._directory = directory
        self.write(more)
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(str(directory / "notify"))
        self._notices.settimeout(20)
        with (directory / "log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "blixard", "node", "--config", str(self.file)],
                env={**os.environ, "NOTIFY_SOCKET": str(directory / "notify")},
                stderr=log,
            )

    def write(self, more: str = "", bind: str = "", id_: int = 1) -> None:
        self.file.write_text(
            f'[node]\nid = {id_}\nbind = "{bind or self.address}"\ndriver = "process"\n'
            f'data_dir = "{self._directory}/data"\nsocket = "{self._directory}/api.sock"\n{more}'
        )

    def until(self, *words: str) -> str:
        """The first notice that has all the words."""
        while True:
            notice = self._notices.recv(65_536).decode()
            if all(word in notice for word in words):
                return notice

    def hang_up(self) -> None:
        self._process.send_signal(signal.SIGHUP)

    def reload(self) -> None:
        self.hang_up()
        assert "MONOTONIC_USEC=" in self.until("RELOADING=1")
        self.until("READY=1")

    def vcpus(self) -> int:
        """What the cluster knows of this node."""
        command = [sys.executable, "-m", "blixard", "cluster", "status", "-o", "json"]
        answer = subprocess.run(
            command,
            env={**os.environ, "BLIXARD_ADDRESS": self.address},
            check=True,
            capture_output=True,
            timeout=30,
        )
        [node] = json.loads(answer.stdout)["nodes"]
        return int(node["vcpus"])

    def offers(self, vcpus: int) -> None:
        """Wait until the cluster knows that."""
        deadline_s = time.monotonic() + 20
        while self.vcpus() != vcpus:
            assert time.monotonic() < deadline_s
            self.until("STATUS=")

    def end(self) -> int:
        """End it, and return its exit status."""
        self._process.terminate()
        status = self._process.wait(timeout=20)
        self._notices.close()
        return status


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    try:
        node.until("STATUS=leader", "lease 7.")
        yield node
    finally:
        node.end()


def test_the_cluster_learns_of_another_capacity(node: Node) -> None:
    node.write("[capacity]\nvcpus = 3\n")
    node.reload()
    node.offers(3)


def test_what_needs_a_restart_is_said_until_there_was_one(node: Node, tmp_path: Path) -> None:
    node.write('log_level = "debug"\n', bind=f"127.0.0.1:{free_port()}", id_=7)
    node.reload()
    told = "needs a restart: node.id, node.bind, node.advertise"
    node.until("STATUS=leader", told)
    assert f"configuration taken; {told}" in (tmp_path / "log").read_text()
    assert node.vcpus() >= 1, "it listens where it did"
    node.write()
    node.reload()
    assert "restart" not in node.until("STATUS=leader")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[capacity\n", "blixard.toml is no valid TOML"),
        ("[capacity]\nvcpu = 2\n", 'unknown key "vcpu" in blixard.toml'),
        ("[capacity]\nvcpus = 0\n", "capacity.vcpus: 0 is out of range"),
    ],
)
def test_a_file_with_a_mistake_changes_nothing(node: Node, text: str, why: str) -> None:
    before = node.vcpus()
    node.write(text)
    node.reload()
    node.until("STATUS=leader", f"configuration not taken: {why}")
    assert node.vcpus() == before
    node.write("[capacity]\nvcpus = 5\n")
    node.reload()
    assert "not taken" not in node.until("STATUS=leader")
    node.offers(5)


def test_a_node_that_waits_to_join_lives_on_and_reads_it_later(tmp_path: Path) -> None:
    node = Node(tmp_path, "bootstrap = false\n")
    try:
        node.until("STATUS=waits to join")
        node.write("bootstrap = false\n[capacity]\nvcpus = 3\n")
        node.hang_up()
        for _ in range(3):
            node.until("STATUS=waits to join")
    finally:
        assert node.end() == 0


def test_a_configuration_can_be_checked_beforehand(tmp_path: Path) -> None:
    file = tmp_path / "blixard.toml"
    check = [sys.executable, "-m", "blixard", "node", "--config", str(file), "--check"]
    file.write_text("[node]\nid = 4\n")
    sound = subprocess.run(check, capture_output=True, text=True, timeout=30, check=True)
    assert sound.stdout == "node-4: the configuration is sound\n"
    file.write_text("[node]\nid = 0\n")
    wrong = subprocess.run(check, capture_output=True, text=True, timeout=30, check=False)
    assert wrong.returncode == 2
    assert "node.id: 0 is out of range" in wrong.stderr
    assert not (tmp_path / "data").exists()
