"""A host as processes: booted, entered, ended. What runs in it is none of its business.

Everything that is started here dies with the process that started it: `systemd-nspawn` by its
parent-death signal, the host's init by its own, and the mounts with their namespace.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from hosts.enter import cgroups

ENTER: Final = Path(__file__).with_name("enter.py")
LEADER: Final = "X_NSPAWN_LEADER_PID="
START_TIMEOUT_S: Final = 30

# Run by a shell as the first process of a host, which then becomes systemd. nspawn mounts the
# controllers of cgroup version 1 read-only: systemd would accept limits and silently ignore them.
INIT: Final = """
for controller in cpu cpuacct memory pids; do
  [ ! -d /sys/fs/cgroup/$controller ] || mount -o remount,bind,rw /sys/fs/cgroup/$controller
done
exec /lib/systemd/systemd
"""

TIED: Final = ("setpriv", "--pdeathsig", "KILL")
"""A prefix: the kernel kills the program when the thread that started it ends."""


def nspawn(
    cgroup: str, layers: Sequence[Path], folder: Path, *arguments: str, later_s: int = 0
) -> list[str]:
    """The command that runs `systemd-nspawn ARGUMENTS` on `layers`, topmost first.

    What it changes lands in `folder/upper`. It runs in `cgroup`, and dies with this thread. Its
    CLOCK_BOOTTIME and CLOCK_MONOTONIC are `later_s` ahead of this machine's (time_namespaces(7)).
    """
    clock = ["--time", "--boottime", str(later_s), "--monotonic", str(later_s)] if later_s else []
    return [
        *(*TIED, "unshare", "--mount", "--propagation", "slave", *clock),
        *(sys.executable, str(ENTER), cgroup, ":".join(map(str, layers))),
        *(str(folder / "upper"), str(folder / "root"), "--"),
        *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--link-journal=no"),
        *("--timezone=off", f"--directory={folder / 'root'}", *arguments),
    ]


def end_cgroup(cgroup: str) -> None:
    """Kill what is left in `cgroup`, in every hierarchy, and remove it."""
    for top in cgroups(cgroup):
        deadline = time.monotonic() + START_TIMEOUT_S
        while top.exists():
            tree = [Path(folder) for folder, _, _ in os.walk(top, topdown=False)]
            for folder in tree:
                for pid in (folder / "cgroup.procs").read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
            try:
                for folder in tree:
                    folder.rmdir()
            except OSError:
                # A process leaves its cgroup some time after its death.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


class Container:
    """One host: its disk is `folder/upper` over `layers`, and outlives the host's processes."""

    def __init__(
        self, name: str, folder: Path, layers: Sequence[Path], namespace: str, cgroup: str
    ) -> None:
        self.name = name
        self.console = folder / "console.log"
        self._folder = folder
        self._layers = layers
        self._namespace = namespace
        self._cgroup = cgroup
        self._process: subprocess.Popen[bytes] | None = None
        self._notify: socket.socket | None = None
        self._leader = 0
        folder.mkdir(parents=True)

    def put(self, path: str, text: str) -> None:
        """Write a file on the disk of a host that is off."""
        assert not self.running
        file = self._folder / "upper" / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def boot(
        self,
        binds: Mapping[Path, str],
        writable: Mapping[Path, str] | None = None,
        later_s: int = 0,
    ) -> None:
        """Begin to boot, with folders of this machine bound: read-only `binds`, if they exist.

        Its boot time clock is `later_s` seconds ahead of this machine's, or behind it.
        """
        assert threading.current_thread() is threading.main_thread(), "the host would die with it"
        assert not self.running
        self._leader = 0
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = f"{self._cgroup}/{time.monotonic_ns()}"
        self._notify.bind(f"\0{address}")
        command = nspawn(
            self._cgroup,
            self._layers,
            self._folder,
            *(f"--machine={self.name}", "--notify-ready=yes", "--console=read-only"),
            *("--kill-signal=SIGRTMIN+3", "--resolv-conf=off"),
            f"--network-namespace-path=/run/netns/{self._namespace}",
            *(f"--bind-ro={path}:{target}" for path, target in binds.items() if path.exists()),
            *(f"--bind={path}:{target}" for path, target in (writable or {}).items()),
            *(*TIED, "/bin/sh", "-ec", INIT),
            later_s=later_s,
        )
        with self.console.open("ab") as console:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=dict(os.environ, NOTIFY_SOCKET=f"@{address}"),
                start_new_session=True,
            )

    @property
    def leader(self) -> int:
        """The process id of the host's init, as soon as there is one."""
        assert self._notify is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._leader:
            self._notify.settimeout(0.1)
            try:
                lines = self._notify.recv(4096).decode().splitlines()
            except TimeoutError:
                if not self.running or time.monotonic() > deadline:
                    raise RuntimeError(
                        f"{self.name} does not boot: {self.console.read_text()}"
                    ) from None
                continue
            for line in lines:
                if line.startswith(LEADER):
                    self._leader = int(line.removeprefix(LEADER))
        return self._leader

    def entering(self) -> list[str]:
        """The prefix that runs a command in the host, with no more privileges than its init has.

        Entering alone would keep the privileges of this machine's root. A command could then set
        the clock, which has no namespace: it would be everyone's.
        """
        surplus = _bounding_set("self") & ~_bounding_set(str(self.leader))
        drop = ",".join(f"-cap_{bit}" for bit in range(surplus.bit_length()) if surplus >> bit & 1)
        return [
            *("setpriv", "--inh-caps=-all", "--ambient-caps=-all"),
            *([f"--bounding-set={drop}"] if drop else []),
            *("nsenter", "--target", str(self.leader), "--mount", "--uts", "--ipc", "--net"),
            *("--pid", "--time", "--cgroup", "--root", "--wd", "--"),
        ]

    def path(self, inside: str) -> Path:
        """A file of the running host, as this machine reaches it."""
        return Path(f"/proc/{self.leader}/root") / inside.lstrip("/")

    @property
    def payload(self) -> Path:
        """The cgroup, of version 2, of all that runs in the host; it is gone while that is off."""
        tops = cgroups(self._cgroup)
        [unified] = (top for top in tops if (top.parents[1] / "cgroup.controllers").exists())
        return unified / "payload"

    def signal(self, number: int) -> None:
        """Send a signal to the host's init."""
        os.kill(self.leader, number)

    def kill(self) -> None:
        """End the host, in whatever state it is."""
        if self._process is not None:
            self._process.kill()
            self.wait(START_TIMEOUT_S)

    def wait(self, timeout_s: float) -> None:
        """Wait until nothing of the host runs any more. Raises `subprocess.TimeoutExpired`."""
        if self._process is None:
            return
        self._process.wait(timeout_s)
        self._process = None
        assert self._notify is not None
        self._notify.close()
        end_cgroup(self._cgroup)


def _bounding_set(pid: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return int(line.split()[1], 16)
    raise AssertionError("every process has a bounding set")
