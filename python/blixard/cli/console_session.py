"""A terminal at a guest's serial console."""

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

from blixard.cli.terminal import Options, harmless
from blixard.cli.who import who

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb

Attach = Callable[["Iterator[pb.ConsoleInput]"], "Iterator[pb.ConsoleOutput]"]

_READ_BYTES = 4096


class Session:
    """One person at one console, from the attempt to get it until it is left."""

    def __init__(self, name: str, escape: bytes, options: Options) -> None:
        self._name = name
        self._escape = escape
        self._options = options
        self._over, self._end = os.pipe()
        self._has_left = False

    def run(self, attach: Attach) -> None:
        """Pass on both ways until the person leaves, or the VM is deleted. The terminal is then as
        it was before, also after an error or a signal."""
        self._options.talk(f"{self._key} leaves the console of {self._name}")
        outputs = attach(self._typed())
        try:
            # Refused, it has never been raw.
            first = next(outputs, None)
            with _raw(sys.stdin.fileno()):
                if first is not None:
                    self._show(first)
                for output in outputs:
                    self._show(output)
        finally:
            os.write(self._end, b".")
        if self._has_left:
            self._options.talk(f"\n{self._name} goes on without you")

    @property
    def _key(self) -> str:
        code = self._escape[0]
        return f"Ctrl-{chr(code | 0x40)}" if code < 0x20 else f'"{chr(code)}"'

    def _typed(self) -> "Iterator[pb.ConsoleInput]":
        """What is typed, up to the key that leaves. Another thread reads this."""
        from blixard.v1 import blixard_pb2 as pb

        yield pb.ConsoleInput(open=pb.ConsoleOpen(name=self._name, by=who()))
        terminal = sys.stdin.fileno()
        while self._over not in select.select([terminal, self._over], [], [])[0]:
            data = os.read(terminal, _READ_BYTES)
            before, key, _ = data.partition(self._escape)
            if before:
                yield pb.ConsoleInput(data=before)
            if key or not data:
                self._has_left = True
                return

    def _show(self, output: "pb.ConsoleOutput") -> None:
        data = output.data
        if output.note and not self._options.quiet:
            data += f"\r\n-- {harmless(output.note)} --\r\n".encode()
        while data:
            data = data[os.write(sys.stdout.fileno(), data) :]


@contextlib.contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Every byte passes as it is (termios(3), raw mode), and signals end this in an orderly way."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = termios.tcgetattr(terminal)
    heard = {each: signal.signal(each, end) for each in (signal.SIGHUP, signal.SIGTERM)}
    try:
        tty.setraw(terminal)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        for each, handler in heard.items():
            signal.signal(each, handler)
