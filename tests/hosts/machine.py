"""A host in the words of the NixOS test driver, so that one script can run on both.

The words, their arguments and their results are those of the NixOS manual, "Writing Tests", with
timeouts in seconds. As there, `start` only begins, and the first command waits for the host.

A command runs as root in bash with `set -euo pipefail`, and has the privileges of the host's init.
What it writes to stderr is printed, and so shown with a failing test.
"""

import contextlib
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from hosts.container import Container
from hosts.network import Network

POLL_S: Final = 0.1
BOOT_TIMEOUT_S: Final = 60
COMMAND_TIMEOUT_S: Final = 900

ENVIRONMENT: Final = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
)
"""All that a command gets, whatever this process was given."""


class RequestedAssertionFailed(AssertionError):
    """A host does not do what the script demands of it."""


def retry(fn: Callable[[bool], bool], timeout: float = 900) -> None:
    """Call `fn(last_try)` until it returns true. Raises `RequestedAssertionFailed` after that."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if fn(False):
            return
        time.sleep(POLL_S)
    if not fn(True):
        raise RequestedAssertionFailed(f"gave up after {timeout} seconds")


class Machine:
    """One host of a lab."""

    def __init__(self, container: Container, network: Network, binds: Mapping[Path, str]) -> None:
        self.name = container.name
        self._container = container
        self._network = network
        self._binds = binds
        self._connected = False
        self.writable: dict[Path, str] = {}
        """Folders and pipes of this machine, and where they appear in it from its next start on."""
        self.later_s = 0
        """How many seconds its boot time clock is ahead of this machine's, from its next start."""
        self.boots = 0
        """How often it was switched on."""

    @property
    def address(self) -> str:
        """Its IPv4 address in the lab."""
        return self._network.address(self.name)

    def log(self, msg: str) -> None:
        """Print a message in the name of this host."""
        print(f"{self.name}: {msg}")

    # --- power ----------------------------------------------------------------------------------

    def is_up(self) -> bool:
        """Whether it is switched on and answers."""
        return self._container.running and self._connected

    def start(self) -> None:
        """Switch it on, without waiting. Its disk is as it was left."""
        if not self._container.running:
            self.wait_for_shutdown()  # it may have ended by itself
            self.boots += 1
            self._container.boot(self._binds, self.writable, self.later_s)

    def crash(self) -> None:
        """Cut its power: every process ends at once, and /run with them.

        What was written stays, synced or not, since the kernel below is another's and lives on.
        """
        self.cut_power()
        self.wait_for_shutdown()

    @property
    def is_on(self) -> bool:
        """Whether it is switched on, in whatever state."""
        return self._container.running

    def cut_power(self) -> None:
        """Begin to cut its power. Any thread may, and the host may be off already."""
        if self._container.running:
            with contextlib.suppress(ProcessLookupError):
                self._container.signal(signal.SIGKILL)

    def shutdown(self) -> None:
        """Power it off cleanly, and wait until it is off."""
        if self._container.running:
            self._connect()
            self._container.signal(signal.SIGRTMIN + 4)
            self.wait_for_shutdown()

    def wait_for_shutdown(self) -> None:
        """Wait until it is off."""
        self._container.wait(180)
        self._connected = False

    def reboot(self) -> None:
        """Restart it cleanly."""
        self.shutdown()
        self.start()

    def _connect(self) -> None:
        if not self._container.running:
            self.start()
        if not self._connected:
            asking = [*self._container.entering(), "systemctl", "is-active", "basic.target"]
            retry(
                lambda _: subprocess.run(asking, capture_output=True, check=False).returncode == 0,
                BOOT_TIMEOUT_S,
            )
            self._connected = True

    # --- from outside ---------------------------------------------------------------------------

    @property
    def payload(self) -> Path:
        """The cgroup, of version 2, of all that runs in it."""
        return self._container.payload

    def freeze(self) -> None:
        """Stop every process of it, as a hypervisor that pauses a guest would."""
        (self.payload / "cgroup.freeze").write_text("1")
        events = self.payload / "cgroup.events"
        retry(lambda _: "frozen 1" in events.read_text(), BOOT_TIMEOUT_S)

    def thaw(self) -> None:
        """Undo `freeze`, unless it has lost its power since."""
        with contextlib.suppress(FileNotFoundError):
            (self.payload / "cgroup.freeze").write_text("0")

    def main_pid(self, unit: str) -> int:
        """The main process of a unit, as this machine numbers it."""
        inside = self.get_unit_property(unit, "MainPID")
        for procs in self.payload.rglob(f"{unit}/**/cgroup.procs"):
            for pid in procs.read_text().split():
                status = Path(f"/proc/{pid}/status").read_text()
                if status.partition("NSpid:")[2].partition("\n")[0].split()[-1] == inside:
                    return int(pid)
        raise RequestedAssertionFailed(f"{self.name}: {unit} has no main process")

    def outside(self, path: str) -> Path:
        """A file of the host while it runs, as this machine reaches it."""
        return self._container.path(path)

    # --- network --------------------------------------------------------------------------------

    def block(self) -> None:
        """Cut it off from all other hosts; its link stays up."""
        self._network.isolate(self.name)

    def unblock(self) -> None:
        """Undo `block`."""
        self._network.reconnect(self.name)

    # --- commands -------------------------------------------------------------------------------

    def execute(
        self,
        command: str,
        check_return: bool = True,
        check_output: bool = True,
        timeout: int | None = COMMAND_TIMEOUT_S,
    ) -> tuple[int, str]:
        """Run a command and return its exit status and what it wrote to stdout.

        After `timeout`, or a quarter of an hour if it is None, it is ended, with status 124. The
        status is -1 without `check_return`; it is -2, with no output, without `check_output`.
        """
        self._connect()
        limit = ["timeout", "--kill-after=10", str(timeout or COMMAND_TIMEOUT_S)]
        shell = ["bash", "-c", f"set -euo pipefail; {command}"]
        done = subprocess.run(
            [*self._container.entering(), "env", "-i", *ENVIRONMENT, *limit, *shell],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        for line in done.stderr.decode(errors="replace").splitlines():
            self.log(line)
        if not check_output:
            return -2, ""
        return (done.returncode if check_return else -1), done.stdout.decode(errors="replace")

    def succeed(self, *commands: str, timeout: int | None = None) -> str:
        """Run commands that must succeed, and return what they wrote."""
        output = ""
        for command in commands:
            status, out = self.execute(command, timeout=timeout)
            if status != 0:
                self.log(f"output: {out}")
                raise RequestedAssertionFailed(f"{self.name}: `{command}` failed with {status}")
            output += out
        return output

    def fail(self, *commands: str, timeout: int | None = None) -> str:
        """Run commands that must fail, and return what they wrote."""
        output = ""
        for command in commands:
            status, out = self.execute(command, timeout=timeout)
            if status == 0:
                raise RequestedAssertionFailed(f"{self.name}: `{command}` succeeded: {out}")
            output += out
        return output

    def wait_until_succeeds(self, command: str, timeout: int = 900) -> str:
        """Repeat a command until it succeeds, and return what it wrote then."""
        return self._repeat(command, timeout, lambda status: status == 0)

    def wait_until_fails(self, command: str, timeout: int = 900) -> str:
        """Repeat a command until it fails, and return what it wrote then."""
        return self._repeat(command, timeout, lambda status: status != 0)

    def _repeat(self, command: str, timeout: int, ended: Callable[[int], bool]) -> str:
        output = ""

        def attempt(last_try: bool) -> bool:
            nonlocal output
            status, output = self.execute(command, timeout=timeout)
            if last_try:
                self.log(f"`{command}` ended with {status} for the last time: {output}")
            return ended(status)

        retry(attempt, timeout)
        return output

    # --- units ----------------------------------------------------------------------------------

    def systemctl(self, q: str) -> tuple[int, str]:
        """Run `systemctl` with the words of `q`."""
        return self.execute(f"systemctl {q}")

    def get_unit_info(self, unit: str) -> dict[str, str]:
        """All properties of a unit."""
        lines = self.succeed(f"systemctl show {shlex.quote(unit)}").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def get_unit_property(self, unit: str, property: str) -> str:  # noqa: A002 - the driver's name
        """One property of a unit."""
        return self.succeed(
            f"systemctl show {shlex.quote(unit)} --property={shlex.quote(property)} --value"
        ).rstrip("\n")

    def require_unit_state(self, unit: str, require_state: str = "active") -> None:
        """Demand that a unit is in this state now."""
        state = self.get_unit_property(unit, "ActiveState")
        if state != require_state:
            raise RequestedAssertionFailed(f"{self.name}: {unit} is {state}, not {require_state}")

    def wait_for_unit(self, unit: str, timeout: int = 900) -> None:
        """Wait until a unit is active. One that failed, or that nothing will start, is an error."""

        def active(_last_try: bool) -> bool:
            state = self.get_unit_property(unit, "ActiveState")
            hopeless = state == "failed" or (
                state == "inactive"
                and "No jobs" in self.systemctl("list-jobs --full 2>&1")[1]
                # It may have been started between the two questions.
                and self.get_unit_property(unit, "ActiveState") == state
            )
            if hopeless:
                self.log(self.systemctl(f"status --no-pager --full {shlex.quote(unit)}")[1])
                raise RequestedAssertionFailed(f"{self.name}: {unit} is {state}")
            return state == "active"

        retry(active, timeout)

    # --- other conditions -----------------------------------------------------------------------

    def wait_for_open_port(self, port: int, addr: str = "localhost", timeout: int = 900) -> None:
        """Wait until something listens on a TCP port."""
        self.wait_until_succeeds(f"nc -z {shlex.quote(addr)} {port}", timeout)

    def wait_for_closed_port(self, port: int, addr: str = "localhost", timeout: int = 900) -> None:
        """Wait until nothing listens on a TCP port."""
        self.wait_until_fails(f"nc -z {shlex.quote(addr)} {port}", timeout)

    def wait_for_file(self, filename: str, timeout: int = 900) -> None:
        """Wait until a file exists."""
        self.wait_until_succeeds(f"test -e {shlex.quote(filename)}", timeout)

    def get_console_log(self) -> str:
        """What it wrote to its console since it was first started."""
        return self._container.console.read_text(errors="replace")

    def wait_for_console_text(self, regex: str, timeout: int = 900) -> None:
        """Wait until its console shows a text."""
        retry(lambda _: re.search(regex, self.get_console_log()) is not None, timeout)

    # --- files ----------------------------------------------------------------------------------

    def copy_from_host(self, source: str, target: str) -> None:
        """Copy a file or folder of this machine to a path in the host."""
        self._connect()
        _copy(Path(source), self._container.path(target))

    def copy_from_machine(self, source: str, target_dir: str = "") -> None:
        """Copy a file or folder of the host into a folder of this machine."""
        self._connect()
        _copy(self._container.path(source), Path(target_dir) / Path(source).name)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)
