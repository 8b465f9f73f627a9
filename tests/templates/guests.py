"""Builds runners with the real Nix and runs them in the real QEMU."""

import os
import select
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

TEMPLATES = Path(__file__).parents[2] / "vm-templates"
FAULTY = Path(__file__).parent / "faulty"

BOOT_S = 90
"""For a guest to boot under emulation, on a machine that is busy otherwise."""

NIX_CONFIG = """
experimental-features = nix-command flakes
build-users-group =
sandbox = false
substitute = false
substituters =
flake-registry =
"""


def nix_build(flake: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Realise the runner of VM `name`; standard output is Nix's JSON."""
    attribute = f"nixosConfigurations.{name}.config.microvm.declaredRunner"
    return nix("build", "--no-link", "--json", f"path:{flake}#{attribute}")


def nix(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["nix", *arguments],
        env=os.environ | {"NIX_CONFIG": NIX_CONFIG},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


class Guest:
    """A runner at work in `folder`. Its console comes over a socket, as under systemd's journal."""

    def __init__(self, runner: Path, folder: Path, user: int | None = None) -> None:
        self.runner = runner
        self.folder = folder
        self.output = ""
        self._console, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [runner / "bin/microvm-run"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=theirs.fileno(),
                stderr=theirs.fileno(),
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._console.close()

    def wait_for(self, text: str, timeout_s: float = BOOT_S) -> None:
        """Read the console until `text` has come."""
        deadline = time.monotonic() + timeout_s
        while text not in self.output:
            assert self._read(deadline), f"the console ended without {text!r}:\n{self.output}"

    def wait_for_end(self, timeout_s: float = BOOT_S) -> int:
        """Read the console to its end; give the exit status."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline):
            pass
        return self.process.wait(timeout=max(0.0, deadline - time.monotonic()))

    def shut_down(self, timeout_s: float = BOOT_S) -> int:
        """Run `microvm-shutdown` without a terminal; give its exit status."""
        return subprocess.run(
            [self.runner / "bin/microvm-shutdown"],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=timeout_s,
        ).returncode

    def _read(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        ready, _, _ = select.select([self._console], [], [], max(0.0, left))
        assert ready, f"the console fell silent:\n{self.output}"
        piece = self._console.recv(4096)
        self.output += piece.decode(errors="replace")
        return bool(piece)
