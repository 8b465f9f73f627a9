"""Real daemons on loopback: own processes, own data directories, driven by the command line."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from blixard.cli.cluster_view import cluster_json
from blixard.cli.vm_view import as_json
from blixard.wire.client import CallFailed, Client

BLIXARD = (sys.executable, "-P", "-m", "blixard")
NIX_OPTIONS = {
    "sandbox": "false",
    "filter-syscalls": "false",
    "substituters": "",
    "build-users-group": "",
    "flake-registry": "",
}
POLL_S = 0.1


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_until(holds: Callable[[], Any], what: str, timeout_s: float = 30.0) -> Any:
    """Wait for a condition, and return what it returned."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = holds()
        if value:
            return value
        time.sleep(POLL_S)
    raise AssertionError(f"not within {timeout_s} s: {what}")


@dataclass
class LoopbackNode:
    """One daemon."""

    node_id: int
    address: str
    directory: Path
    metrics: str = ""
    """Where it answers Prometheus, `host:port`."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return f"node-{self.node_id}"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid


class LoopbackCluster:
    """Up to nine daemons. The first founds the cluster, and later ones join it."""

    def __init__(
        self, directory: Path, *, vcpus: int = 8, memory_mib: int = 8192, metrics: bool = False
    ) -> None:
        self.directory = directory
        self._metrics = metrics
        self._capacity = f"[capacity]\nvcpus = {vcpus}\nmemory_mib = {memory_mib}\n"
        self.nodes: dict[int, LoopbackNode] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing of it is left; how daemons and VMs end when they are told to is tested."""
        kill_all_of(self.directory)
        for node in self.nodes.values():
            self._end(node.node_id, signal.SIGKILL)

    # --- daemons --------------------------------------------------------------------------------

    def start(self, *node_ids: int) -> None:
        """Start daemons; a new one joins through those that are there already."""
        for node_id in node_ids:
            known = self.nodes.get(node_id)
            node = known or LoopbackNode(
                node_id, f"127.0.0.1:{free_port()}", self.directory / str(node_id)
            )
            if known is None:
                self._configure(node)
            with (node.directory / "log").open("ab") as log:
                node.process = subprocess.Popen(
                    [*BLIXARD, "node", "--config", str(node.directory / "blixard.toml")],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self.nodes[node_id] = node

    def _configure(self, node: LoopbackNode) -> None:
        node.directory.mkdir(parents=True)
        if self._metrics:
            node.metrics = f"127.0.0.1:{free_port()}"
        metrics = f'[metrics]\nbind = "{node.metrics}"\n\n' if self._metrics else ""
        peers = [f"{peer.node_id}:{peer.address}" for peer in self.nodes.values()]
        options = "\n".join(f'{key} = "{value}"' for key, value in NIX_OPTIONS.items())
        (node.directory / "blixard.toml").write_text(
            f'[node]\nid = {node.node_id}\nbind = "{node.address}"\npeers = {json.dumps(peers)}\n'
            f'data_dir = "{node.directory / "data"}"\nsocket = "{node.directory / "api.sock"}"\n'
            f'driver = "process"\n\n{self._capacity}\n{metrics}[nix.options]\n{options}\n'
        )

    def stop(self, node_id: int) -> None:
        """Stop a daemon as systemd would."""
        self._end(node_id, signal.SIGTERM)

    def kill(self, *node_ids: int) -> None:
        """kill -9, all of them before any is waited for."""
        for node_id in node_ids:
            process = self.nodes[node_id].process
            assert process is not None
            process.kill()
        for node_id in node_ids:
            self._end(node_id, signal.SIGKILL)

    def lose(self, node_id: int) -> None:
        """The whole host at once: kill -9 of the daemon, and of all that it has started."""
        kill_all_of(self.nodes[node_id].directory)
        self._end(node_id, signal.SIGKILL)

    def _end(self, node_id: int, number: signal.Signals) -> None:
        node = self.nodes[node_id]
        if node.process is not None:
            node.process.send_signal(number)
            node.process.wait(timeout=30)
            node.process = None

    # --- the command line -----------------------------------------------------------------------

    def cli(
        self, *arguments: str, check: bool = True, via: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `blixard`, at all nodes' addresses or at one's."""
        nodes = [self.nodes[via]] if via is not None else list(self.nodes.values())
        addresses = [option for node in nodes for option in ("--address", node.address)]
        completed = subprocess.run(
            [*BLIXARD, *arguments, *addresses],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "BLIXARD_ADDRESS": "", "COLUMNS": ""},
            text=True,
            check=False,
            timeout=300,
        )
        if check:
            assert completed.returncode == 0, f"{arguments}: {completed}"
        return completed

    def json(self, *arguments: str) -> dict[str, Any]:
        """What a command prints with `-o json`."""
        printed: dict[str, Any] = json.loads(self.cli(*arguments, "-o", "json").stdout)
        return printed

    def _client(self) -> Client:
        """What waits asks again and again, and shall not start a program for it."""
        return Client([node.address for node in self.nodes.values()], timeout_ms=10_000)

    def status(self) -> Mapping[str, Any]:
        """The cluster's status, as `cluster status -o json` prints it; empty while none answers."""
        with contextlib.suppress(CallFailed), self._client() as client:
            return cluster_json(client.cluster_status())
        return {}

    def host_of(self, name: str) -> int:
        """The node that holds a VM."""
        return int(self.vm(name)["node"].removeprefix("node-"))

    def vm(self, name: str) -> Mapping[str, Any]:
        """One VM, as `vm status -o json` prints it."""
        with self._client() as client:
            return as_json(client.vm_status(name).vm)

    def settled(self, *node_ids: int, timeout_s: float = 30.0) -> None:
        """Wait until exactly these nodes are up."""

        def ready() -> bool:
            nodes = self.status().get("nodes", [])
            states = {node["id"]: node["state"] for node in nodes}
            return states == dict.fromkeys(node_ids, "up")

        wait_until(ready, f"{node_ids} up", timeout_s)

    def leader_id(self) -> int:
        """The node that leads."""
        leader: int = wait_until(lambda: self.status().get("leader_id"), "a leader")
        return leader

    def console(self, name: str) -> str:
        """What the guest has written, wherever it runs."""
        for node in self.nodes.values():
            path = node.directory / "data" / "vms" / name / "console.log"
            if path.exists():
                return path.read_text(errors="replace")
        return ""


def kill_all_of(directory: Path) -> None:
    """kill -9 of whatever runs in a directory, or was given it as an argument."""
    own = (str(directory), f"{directory}/")
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            folder = str((entry / "cwd").readlink())
            if own[1] in command or folder == own[0] or folder.startswith(own[1]):
                os.kill(int(entry.name), signal.SIGKILL)


@contextlib.contextmanager
def three_nodes(
    directory: Path, *, metrics: bool = False, **sizes: int
) -> Iterator[LoopbackCluster]:
    """A cluster of three that is ready."""
    with LoopbackCluster(directory, metrics=metrics, **sizes) as cluster:
        cluster.start(1, 2, 3)
        cluster.settled(1, 2, 3)
        yield cluster
