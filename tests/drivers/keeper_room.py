"""A room for the keeper: a directory, a socket, and a slice that folders stand in for."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blixard.drivers import keeper
from blixard.drivers.keeper_files import MS, KeeperFiles, now_ns

BOOT = "0123456789abcdef0123456789abcdef"
PATIENCE_S = 10
PROGRAM = [sys.executable, "-I", "-S", keeper.__file__]


def until(holds: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.005)


class Room:
    """A directory for the keeper, and a slice whose cgroups are folders with real processes."""

    def __init__(self, path: Path) -> None:
        self.directory = path / "keeper"
        self.slice = path / "slice"
        self.slice.mkdir()
        self.files = KeeperFiles(self.directory, BOOT)
        self.files.create()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(path / "socket"))
        self.listener.listen()
        self.keeper: subprocess.Popen[bytes] | None = None
        self.deputy: subprocess.Popen[bytes] | None = None
        self._vms: list[subprocess.Popen[bytes]] = []
        self._clients: list[KeeperClient] = []

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the program to its end."""
        command = [*PROGRAM, *words, "--boot-id", BOOT, "--directory", str(self.directory)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )

    def passes(self, name: str) -> bool:
        """Whether a VM may start now."""
        ended = self.run("gate", name)
        assert ended.returncode in {0, 1}, ended.stderr
        return ended.returncode == 0

    def serve(self, *words: str) -> "KeeperClient":
        """Start the keeper as systemd does: its socket is there before it, and after it."""
        listener = self.listener.fileno()
        self.keeper = subprocess.Popen(
            [
                *("bash", "-c", f'exec "$@" 3<&{listener}', "bash"),
                *(*PROGRAM, "serve", "--boot-id", BOOT, "--directory", str(self.directory)),
                *("--slice", str(self.slice), *words),
            ],
            pass_fds=(listener,),
        )
        return self.connect()

    def depute(self) -> None:
        """Start the deputy."""
        where = ("--directory", str(self.directory), "--slice", str(self.slice))
        with (self.directory / "said").open("wb") as said:
            self.deputy = subprocess.Popen(
                [*PROGRAM, "deputy", "--boot-id", BOOT, *where], stderr=said
            )

    def deputy_said(self) -> str:
        """What it has logged, but for what it could not have here."""
        lines = (self.directory / "said").read_text().splitlines()
        return "".join(line for line in lines if not line.startswith("goes on without"))

    def connect(self) -> "KeeperClient":
        client = KeeperClient(self.listener.getsockname())
        self._clients.append(client)
        return client

    def kill(self) -> None:
        assert self.keeper is not None
        self.keeper.kill()
        self.keeper.wait()

    def vm(self, name: str, unit: str = "microvm") -> subprocess.Popen[bytes]:
        """A process in the cgroup of a unit. No cgroup.kill is there: as before Linux 5.14."""
        group = self.slice / f"{unit}@{name}.service"
        group.mkdir(exist_ok=True)
        vm = subprocess.Popen(["sleep", "1000"])
        self._vms.append(vm)
        (group / "cgroup.procs").write_text(f"{vm.pid}\n")
        return vm

    def ended(self, vm: subprocess.Popen[bytes]) -> bool:
        """Whether a process is gone; a cgroup of the kernel would no longer list it."""
        if vm.poll() is None:
            return False
        for procs in self.slice.glob("*/cgroup.procs"):
            if procs.read_text() == f"{vm.pid}\n":
                procs.write_text("")
        return True

    def close(self) -> None:
        for process in [self.keeper, self.deputy, *self._vms]:
            if process is not None:
                process.kill()
                process.wait()
        for client in self._clients:
            client.close()
        self.listener.close()


class KeeperClient:
    """Asks, and waits for each answer."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(address)

    def ask(self, request: str | bytes) -> str:
        self.send(request)
        return self.socket.recv(1 << 18).decode()

    def send(self, request: str | bytes) -> None:
        self.socket.send(request if isinstance(request, bytes) else request.encode())

    def renew(self, ahead_ms: int) -> int:
        """Renew, which must succeed, and return the deadline."""
        deadline_ns = now_ns() + ahead_ms * MS
        assert self.ask(f"renew {BOOT} {deadline_ns}") == "ok"
        return deadline_ns

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.ask("status").removeprefix("ok "))
        return answer

    def close(self) -> None:
        self.socket.close()
