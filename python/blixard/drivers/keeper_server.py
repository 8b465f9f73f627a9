"""The keeper's one thread: it waits for requests and for the deadline, and never for anybody."""

import contextlib
import ctypes
import os
import select
import signal
import socket
import struct
import sys

from blixard.drivers.keeper_files import log
from blixard.drivers.keeper_lease import Keeper

LOOK_MS = 75
"""How often systemd is told that the keeper lives, and a fenced slice is looked at."""
PACKET = 512
AT_ONCE = 16
"""So many requests of a client are answered before the others and the clock have their turn."""
CLIENTS = 64

_CLOCK_BOOTTIME, _TFD_TIMER_ABSTIME = 7, 1
_MCL_CURRENT_AND_FUTURE = 3
_GONE = select.POLLHUP | select.POLLERR

_libc = ctypes.CDLL(None, use_errno=True)


def be_punctual() -> None:
    """Never wait for memory, and rarely for a CPU. Many a host or container refuses either, and the
    keeper is then only as punctual as its niceness makes it."""
    if _libc.mlockall(_MCL_CURRENT_AND_FUTURE) != 0:
        log(f"goes on without locked memory: {os.strerror(ctypes.get_errno())}")
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))
    except OSError as error:
        log(f"goes on without real-time scheduling: {error.strerror}")


class BoottimeTimer:
    """Readable from a moment of CLOCK_BOOTTIME on, which a suspended host may sleep through
    (timerfd_create(2); the module `os` has it from Python 3.13 on)."""

    def __init__(self) -> None:
        self.file = _libc.timerfd_create(_CLOCK_BOOTTIME, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.file < 0:
            raise OSError(ctypes.get_errno(), "no timer")

    def set(self, at_ns: int) -> None:
        """0 for never."""
        spec = struct.pack("4l", 0, 0, *divmod(at_ns, 1_000_000_000))
        _libc.timerfd_settime(self.file, _TFD_TIMER_ABSTIME, spec, None)


class Notifier:
    """Tells systemd (sd_notify(3)), if that is what runs this, and does not wait for it."""

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def say(self, text: str) -> None:
        if self._address:
            with contextlib.suppress(OSError):
                self._socket.sendto(text.encode(), self._address)


class KeeperServer:
    """Answers the clients of a listening socket for a keeper, and calls it in time."""

    def __init__(self, keeper: Keeper, listener: socket.socket) -> None:
        self._keeper = keeper
        self._listener = listener
        self._timer = BoottimeTimer()
        self._clients: dict[int, socket.socket] = {}
        self._poll = select.poll()

    def serve(self) -> None:
        """Serve until SIGTERM. VMs do not notice."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        notifier = Notifier()
        self._listener.setblocking(False)
        self._poll.register(self._listener, select.POLLIN)
        self._poll.register(self._timer.file, select.POLLIN)
        try:
            self._keeper.begin()
            notifier.say("READY=1")
            while True:
                # Requests come first: a renewal that waited while this was held up still counts.
                for file, event in self._poll.poll(LOOK_MS):
                    self._turn(file, event)
                self._keeper.keep()
                # What it was set to has passed once it is set to 0, and it is readable no more.
                self._timer.set(self._keeper.deadline_ns)
                notifier.say("WATCHDOG=1")
        except SystemExit:
            self._keeper.stop()
            raise

    def _turn(self, file: int, event: int) -> None:
        client = self._clients.get(file)
        if file == self._listener.fileno():
            self._accept()
        # What someone who is gone has asked for is not done: nobody would learn of it.
        elif client and (event & _GONE or not self._answer(client)):
            self._drop(client)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            client.setblocking(False)
            if len(self._clients) == CLIENTS:
                self._drop(next(iter(self._clients.values())))
            self._clients[client.fileno()] = client
            self._poll.register(client, select.POLLIN)

    def _answer(self, client: socket.socket) -> bool:
        """Answer what a client has asked by now. Return whether it may go on."""
        for _ in range(AT_ONCE):
            try:
                request = client.recv(PACKET + 1)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not request or len(request) > PACKET:
                return False
            answer = self._keeper.answer(request)
            try:
                client.send(answer.encode())
            except OSError:
                if answer.startswith("ok"):
                    self._keeper.withdraw(request)
                return False
        return True

    def _drop(self, client: socket.socket) -> None:
        self._poll.unregister(client)
        del self._clients[client.fileno()]
        client.close()
