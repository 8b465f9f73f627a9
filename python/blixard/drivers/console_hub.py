"""A guest's serial port, open to others over a Unix socket.

Standard library only, and no threads: it is served by whoever runs the guest, and goes with it.
"""

import contextlib
import os
import select
import selectors
import socket
from pathlib import Path

_MOST_CLIENTS = 4
_READ_BYTES = 65_536
_KEPT_BYTES = 8_192


class ConsoleHub:
    """Listens at `address`, a path, from the start. Raises `OSError` if it cannot.

    The guest reads its serial port from `stdin`, whose end never comes. It is never held up: a
    client that reads too slowly misses some of what it writes, and a client that types faster than
    the guest reads has to wait. The data of what is registered with `selector` is called with it.
    """

    def __init__(self, selector: selectors.BaseSelector, address: str) -> None:
        self._selector = selector
        self._typed = b""
        """What the guest has not read yet: while there is some, no client is read from."""
        self._last = b""
        self._clients: set[socket.socket] = set()
        # Its end for reading stays open here as well: to write never fails for want of a reader.
        self.stdin, self._input = os.pipe()
        os.set_blocking(self._input, False)
        Path(address).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listener.bind(address)
        Path(address).chmod(0o660)
        listener.listen()
        selector.register(listener, selectors.EVENT_READ, self._accept)

    def show(self, data: bytes) -> None:
        """The guest has written this."""
        self._last = (self._last + data)[-_KEPT_BYTES:]
        for client in list(self._clients):
            self._send(client, data)

    def _accept(self, listener: socket.socket) -> None:
        client, _ = listener.accept()
        if len(self._clients) == _MOST_CLIENTS:
            self._drop_gone()
        if len(self._clients) == _MOST_CLIENTS:
            client.close()
            return
        client.setblocking(False)
        self._clients.add(client)
        if not self._typed:
            self._selector.register(client, selectors.EVENT_READ, self._hear)
        # A guest that waits says nothing: what it said last shows for what.
        self._send(client, self._last)

    def _send(self, client: socket.socket, data: bytes) -> None:
        try:
            client.send(data)
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)

    def _hear(self, client: socket.socket) -> None:
        try:
            data = client.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        was_waiting = bool(self._typed)
        self._typed += data
        self._pass_on()
        if self._typed and not was_waiting:
            for each in self._clients:
                self._selector.unregister(each)
            self._selector.register(self._input, selectors.EVENT_WRITE, self._go_on)

    def _pass_on(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._typed = self._typed[os.write(self._input, self._typed) :]

    def _go_on(self, _: int) -> None:
        self._pass_on()
        if not self._typed:
            self._selector.unregister(self._input)
            for each in self._clients:
                self._selector.register(each, selectors.EVENT_READ, self._hear)

    def _drop_gone(self) -> None:
        """While the guest reads nothing, no client is heard, nor that it has left."""
        poll = select.poll()
        for client in self._clients:
            poll.register(client, 0)
        gone = {number for number, events in poll.poll(0) if events & select.POLLHUP}
        for client in [each for each in self._clients if each.fileno() in gone]:
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        if client not in self._clients:
            # What was ready at the same moment has dropped it already.
            return
        self._clients.remove(client)
        with contextlib.suppress(KeyError):
            self._selector.unregister(client)
        client.close()
