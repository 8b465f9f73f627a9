"""What stands in for the hosts' watchdogs: pipes, and who cuts a host's power if none writes.

A host finds its pipe at `DEVICE`. As with the device of Linux, counting begins when it is opened,
each byte begins it anew, and a `V` as the last one ends it; a close without it does not.
"""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from hosts.machine import Machine
from hosts.oracle import boot_ms

DEVICE: Final = "/srv/watchdog"
WATCHDOG_MS: Final = 6_000
TICK_MS: Final = 20


class Watchdog:
    """That of one host; its pipe lies in `folder`."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        pipe = folder / "watchdog"
        os.mkfifo(pipe)
        machine.writable[pipe] = DEVICE
        self.is_fed = False
        """Whether anything was ever written."""
        self._pipe = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self._due_ms: int | None = None
        self._is_open = False
        self._boot = 0

    def look(self) -> None:
        """Take what was written, and cut the power if that is due."""
        if self._boot != self.machine.boots or not self.machine.is_on:
            self._due_ms = None
            self._is_open = False
            self._boot = self.machine.boots
        try:
            written = os.read(self._pipe, 4096)
            was_open, self._is_open = self._is_open, bool(written)
        except BlockingIOError:
            written = b""
            was_open, self._is_open = self._is_open, True
        if written.endswith(b"V"):
            self._due_ms = None
        elif written or (self._is_open and not was_open):
            self._due_ms = boot_ms() + WATCHDOG_MS
        self.is_fed = self.is_fed or bool(written)
        if self._due_ms is not None and boot_ms() >= self._due_ms:
            self._due_ms = None
            self.machine.cut_power()

    def close(self) -> None:
        os.close(self._pipe)


class Watchdogs:
    """Those of all hosts, watched by a thread of its own, from `with` until its end."""

    def __init__(self, machines: Sequence[Machine], folder: Path) -> None:
        self._each = [Watchdog(machine, folder / machine.name) for machine in machines]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdogs", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for watchdog in self._each:
            watchdog.close()

    def all_fed(self) -> bool:
        """Whether every host feeds its watchdog."""
        return all(watchdog.is_fed for watchdog in self._each)

    def _run(self) -> None:
        while not self._ended.wait(TICK_MS / 1000):
            for watchdog in self._each:
                watchdog.look()
