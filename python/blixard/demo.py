"""`blixard demo`: a real cluster and a real microVM on this machine, in front of your eyes.

Three daemons on loopback, each with its own data directory, run as processes of their own. Every
command that is shown is really run. Whatever the demo started is gone when it ends.
"""

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from blixard.errors import BlixardError

VM: Final = "hello"
VCPUS: Final = 2
MEMORY_MIB: Final = 1024
TINY: Final = Path(__file__).parents[2] / "vm-templates" / "tiny"
DEADLINE_S: Final = 60.0
SHOWN_LINES: Final = 6
MAJORITY_OF: Final = 3
"""Fewer nodes have no majority left when one of them is lost."""
NIX_OPTIONS: Final = {
    # The tiny template is made of this machine's own BusyBox, QEMU and kernel, without a network.
    "sandbox": "false",
    "filter-syscalls": "false",
    "substituters": "",
    "build-users-group": "",
    "flake-registry": "",
}


@dataclass(slots=True)
class DemoNode:
    """One daemon of the demo."""

    node_id: int
    address: str
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return f"node-{self.node_id}"


def run(nodes: int, config: str | None, *, keep: bool) -> int:
    """Run the demo with the VM source `config`, or the tiny template.

    Raises `BlixardError` where it breaks off.
    """
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="blixard-demo-"))
    demo = Demo(directory, nodes)
    try:
        demo.form_cluster()
        demo.boot(config or f"{TINY}#tiny")
        demo.restart_leader()
        if nodes >= MAJORITY_OF:
            demo.lose_host()
        if keep:
            demo.leave_running()
            return 0
        demo.delete()
    finally:
        if not keep:
            demo.clean_up()
    _say(f"Done in {time.monotonic() - began:.0f} s. Nothing was left behind.")
    return 0


class Demo:
    """The cluster of the demo and its story, act by act."""

    def __init__(self, directory: Path, nodes: int) -> None:
        self._directory = directory
        self._nodes = [
            DemoNode(node_id, f"127.0.0.1:{port}", directory / f"node-{node_id}")
            for node_id, port in enumerate(_free_ports(nodes), start=1)
        ]
        self._addresses = [option for node in self._nodes for option in ("--address", node.address)]

    # --- the acts -------------------------------------------------------------------------------

    def form_cluster(self) -> None:
        """Start the daemons: the first founds the cluster, the others join it."""
        _say(f"A cluster of {len(self._nodes)} nodes on this machine, under {self._directory}:")
        for node in self._nodes:
            self._start(node)
        self._until(
            lambda: (
                [node["state"] for node in self._status()["nodes"]] == ["up"] * len(self._nodes)
            ),
            "all nodes are ready",
        )
        self._blixard("cluster", "status")

    def boot(self, config: str) -> None:
        """Create the VM, wait until it runs, and read what its guest says."""
        _say("A microVM, built by Nix and started by the node that has room:")
        self._blixard("vm", "create", VM, "--config", config, "--wait")
        self._blixard("vm", "list")
        _say("What the guest itself says on its console:")
        self._until(lambda: "heartbeat" in self._console(), "the guest speaks")
        _show(self._console())

    def restart_leader(self) -> None:
        """Stop and start the leader's daemon; the VM does not notice."""
        leader = self._node(self._status()["leader_id"])
        before = self._console()
        _say(f"{leader.name} leads. Its daemon is stopped, and the others choose a new leader:")
        self._stop(leader)
        self._until(
            lambda: self._status()["leader_id"] not in (None, leader.node_id), "a new leader"
        )
        self._blixard("cluster", "status")
        _say(f"The daemon of {leader.name} comes back, and finds what it left:")
        self._start(leader)
        self._until(
            lambda: all(node["state"] == "up" for node in self._status()["nodes"]),
            f"{leader.name} is back",
        )
        self._until(lambda: self._vm()["state"] == "running", "the VM is found again")
        self._until(lambda: len(self._console()) > len(before), "the guest goes on")
        if not self._console().startswith(before):
            raise BlixardError("the guest was restarted", remedy=f"read {self._directory}/*/log")
        self._blixard("vm", "status", VM)
        _say("The guest went on counting all the while:")
        _show(self._console())

    def lose_host(self) -> None:
        """Kill all of the node that runs the VM, guest included; the VM runs on another one."""
        self._until(
            lambda: (self._vm()["standby"] or {}).get("readiness") == "built", "a standby is ready"
        )
        lost = next(node for node in self._nodes if node.name == self._vm()["node"])
        _say(f"Power failure: all of {lost.name} is killed, its daemon, the guard and the guest:")
        began = time.monotonic()
        self._kill(lost)
        self._until(lambda: self._vm()["node"] not in (None, lost.name), "another node takes it")
        took_s = time.monotonic() - began
        self._until(lambda: self._vm()["state"] == "running", "the VM runs elsewhere")
        self._blixard("node", "list")
        self._blixard("vm", "list")
        self._until(lambda: "heartbeat" in self._console(), "the new guest speaks")
        _show(self._console(), lines=2)
        _say(
            f"{self._vm()['node']} took {VM} over {took_s:.1f} s after the kill: when the lease of "
            f"{lost.name} was surely over, and no sooner."
        )

    def delete(self) -> None:
        """Stop the VM gracefully, and delete it."""
        _say("The guest is asked to power off, and the VM is deleted:")
        console = self._console_path()
        self._blixard("vm", "stop", VM, "--wait")
        _show(console.read_text(errors="replace"), lines=2)
        self._blixard("vm", "delete", VM, "--yes", "--wait")

    def leave_running(self) -> None:
        """Tell how to go on, and how to end it."""
        pids = " ".join(str(node.process.pid) for node in self._nodes if node.process)
        _say("Everything was left running (--keep). Go on with:")
        _echo(f"  export BLIXARD_ADDRESS={self._nodes[0].address}\n  blixard vm status {VM}")
        _say("and end it with:")
        _echo(f"  blixard vm delete {VM} --yes --wait\n  kill {pids}\n  rm -r {self._directory}")

    def clean_up(self) -> None:
        """Leave nothing behind, however the story ended."""
        running = [node for node in self._nodes if node.process is not None]
        if running:
            with contextlib.suppress(BlixardError, subprocess.TimeoutExpired):
                self._run(
                    "vm", "delete", VM, "--yes", "--kill", "--if-exists", "--wait", quiet=True
                )
        for node in self._nodes:
            self._stop(node)
        shutil.rmtree(self._directory, ignore_errors=True)

    # --- daemons --------------------------------------------------------------------------------

    def _start(self, node: DemoNode) -> None:
        node.directory.mkdir(exist_ok=True)
        settings = node.directory / "blixard.toml"
        if not settings.exists():
            settings.write_text(self._settings(node))
        _echo(f"  $ blixard node --config {settings}")
        with (node.directory / "log").open("ab") as log:
            node.process = subprocess.Popen(
                [*_BLIXARD, "node", "--config", str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _settings(self, node: DemoNode) -> str:
        peers = [f"{p.node_id}:{p.address}" for p in self._nodes if p.node_id < node.node_id]
        options = "\n".join(f'{key} = "{value}"' for key, value in NIX_OPTIONS.items())
        return (
            f'[node]\nid = {node.node_id}\nbind = "{node.address}"\npeers = {json.dumps(peers)}\n'
            f'data_dir = "{node.directory / "data"}"\ndriver = "process"\n'
            f'socket = "{node.directory / "api.sock"}"\n\n'
            f"[capacity]\nvcpus = {VCPUS}\nmemory_mib = {MEMORY_MIB}\n\n[nix.options]\n{options}\n"
        )

    def _stop(self, node: DemoNode) -> None:
        if node.process is None:
            return
        node.process.send_signal(signal.SIGTERM)
        try:
            node.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            node.process.kill()
            node.process.wait()
        node.process = None

    def _kill(self, node: DemoNode) -> None:
        """End a node as a power failure would: whatever works in its directory is of it."""
        assert node.process is not None
        node.process.kill()
        node.process.wait()
        node.process = None
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "cwd").readlink().is_relative_to(node.directory.resolve()):
                    os.kill(int(process.name), signal.SIGKILL)

    def _node(self, node_id: int) -> DemoNode:
        return next(node for node in self._nodes if node.node_id == node_id)

    # --- what is seen ---------------------------------------------------------------------------

    def _status(self) -> Mapping[str, Any]:
        output = self._run("cluster", "status", "-o", "json", quiet=True)
        status: Mapping[str, Any] = json.loads(output)
        return status

    def _vm(self) -> Mapping[str, Any]:
        vm: Mapping[str, Any] = json.loads(self._run("vm", "status", VM, "-o", "json", quiet=True))
        return vm

    def _console_path(self) -> Path:
        held_by = self._vm()["node"]
        node = next(node for node in self._nodes if node.name == held_by)
        return node.directory / "data" / "vms" / VM / "console.log"

    def _console(self) -> str:
        try:
            return self._console_path().read_text(errors="replace")
        except (FileNotFoundError, StopIteration):
            return ""

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for a condition; a call that fails meanwhile counts as not yet."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(BlixardError):
                if holds():
                    return
            for node in self._nodes:
                if node.process is not None and node.process.poll() is not None:
                    log = (node.directory / "log").read_text(errors="replace")
                    raise BlixardError(f"the daemon of {node.name} ended:\n{log[-2000:]}")
            time.sleep(0.1)
        raise BlixardError(
            f"{DEADLINE_S:.0f} s were not enough until {what}",
            remedy="run it again with --keep and read the logs under the directory named above",
        )

    # --- commands -------------------------------------------------------------------------------

    def _blixard(self, *arguments: str) -> None:
        """Show a command, run it, and show what it prints."""
        _echo(f"  $ {shlex.join(['blixard', *arguments])}")
        self._run(*arguments, quiet=False)

    def _run(self, *arguments: str, quiet: bool) -> str:
        completed = subprocess.run(
            [*_BLIXARD, *arguments, *self._addresses],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if quiet else None,
            env={**os.environ, "BLIXARD_ADDRESS": ""},
            text=True,
            check=False,
            timeout=10 * DEADLINE_S,
        )
        if not quiet and completed.stdout:
            _echo(_indented(completed.stdout))
        if completed.returncode != 0:
            what = shlex.join(["blixard", *arguments])
            raise BlixardError(
                f"{what} ended with {completed.returncode}\n{completed.stderr or ''}"
            )
        return completed.stdout


_BLIXARD: Final = (sys.executable, "-P", "-m", "blixard")


def _echo(text: str) -> None:
    """Tell the spectator at once, also through a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _say(text: str) -> None:
    _echo(f"\n{text}")


def _show(console: str, lines: int = SHOWN_LINES) -> None:
    _echo("\n".join(f"  | {line}" for line in console.splitlines()[-lines:]))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())


def _free_ports(count: int) -> Iterator[int]:
    """Ports that are free now; they are held until all are known, so that they differ."""
    with contextlib.ExitStack() as held:
        for _ in range(count):
            listener = held.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            yield listener.getsockname()[1]
