"""A terminal for a program: a real pty, and what a person would see on it."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

import pyte

from cluster.loopback import POLL_S

_READ = 65_536


class Terminal:
    """Runs a command in a terminal of 24 lines and 80 columns, of the kind that `term` names."""

    def __init__(self, command: Sequence[str], term: str) -> None:
        self.screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""
        """All that the program has sent."""
        self._master, self._slave = pty.openpty()
        self._changed = threading.Condition()
        self._set_size(80, 24)
        self.modes = self.current_modes()
        environment = {**os.environ, "TERM": term, "LANG": "C.UTF-8"}
        for name in ("COLORTERM", "NO_COLOR", "COLUMNS", "LINES"):
            environment.pop(name, None)
        self.began_s = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=environment,
            start_new_session=True,
            preexec_fn=self._own_terminal,  # noqa: PLW1509 - no threads hold what it needs
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._slave)
        self._reader.join()
        os.close(self._master)

    def until(self, holds: Callable[[str], Any], what: str, timeout_s: float = 30.0) -> str:
        """Wait until what is seen is as wanted, and return it."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while time.monotonic() < deadline:
                seen = self.seen()
                if holds(seen):
                    return seen
                self._changed.wait(POLL_S)
        raise AssertionError(f"not within {timeout_s} s: {what}\n{self.seen()}")

    def seen(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        with self._changed:
            self.screen.resize(lines, columns)
            self.screen.erase_in_display(2)
        self._set_size(columns, lines)

    def end(self, number: signal.Signals | None = None) -> int:
        """Wait for the program, after a signal if one is given; returns its exit code."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(timeout=10)

    def current_modes(self) -> list[Any]:
        """Whether it echoes, buffers lines and so on: `termios`(3)."""
        return termios.tcgetattr(self._slave)

    def _set_size(self, columns: int, lines: int) -> None:
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, size)

    def _own_terminal(self) -> None:
        """Else the kernel would not tell the program of a change of size."""
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, _READ)
            except OSError:
                return
            with self._changed:
                self.written += data
                self._stream.feed(data)
                self._changed.notify_all()
