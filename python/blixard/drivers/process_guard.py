"""The guard of one VM: runs it, keeps its console, stops it, and takes it along when it dies.

    python -m blixard.drivers.process_guard ORDER LOCK_FD

It outlives the daemon that starts it. It works in the directory of its VM (`process_record` names
what lies there), and speaks over a Unix socket, one JSON object a line: it is told
`{"grace_ms": 30000, "kill": false}` to stop and `{"deadline_ms": 123456}` to go on, and tells its
record at once, at every change, and in answer to every deadline.

It does not outlive the lease of its host: unless it is to be kept, it kills its VM at the deadline.

Standard library only, and no threads: see `process_confinement.confine`.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from blixard.drivers import process_record
from blixard.drivers.console import RotatedFile
from blixard.drivers.console_hub import ConsoleHub
from blixard.drivers.ending import in_words
from blixard.drivers.process_confinement import Confinement, confine, on_parent_death
from blixard.drivers.process_lease import Lease, boot_ms
from blixard.drivers.process_record import Order, Record

_CONSOLE_LIMIT_BYTES = 1024 * 1024
_READ_BYTES = 65_536
_LINE_LIMIT_BYTES = 4096

_Watched = int | socket.socket


class RefusedError(Exception):
    """The order must not be carried out."""


class Guard:
    """One VM, from its start to its end. The current directory is the VM's."""

    def __init__(self, order: Order, lease: Lease, confinement: Confinement) -> None:
        self._order = order
        self._lease = lease
        self._confinement = confinement
        # Before there is a VM: a signal that ended the guard would leave behind what that started.
        self._signals = _signals(signal.SIGTERM, signal.SIGHUP)
        self._selector = selectors.DefaultSelector()
        self._console = RotatedFile(Path(process_record.CONSOLE), _CONSOLE_LIMIT_BYTES)
        self._hub = ConsoleHub(self._selector, process_record.CONSOLE_SOCKET)
        self._clients: dict[socket.socket, bytes] = {}
        self._running = True
        self._next: tuple[int, Callable[[], None]] | None = None
        """The next, harder step of a stop, and the CLOCK_BOOTTIME of it in milliseconds."""
        self._record = Record(
            uid=order.uid,
            epoch=order.epoch,
            runner=order.runner,
            boot_id=order.boot_id,
            confinement=confinement.kind,
            anchor_pid=confinement.anchor_pid,
            anchor_ticks=confinement.anchor_ticks,
            keep=order.keep,
            state="starting",
        )

    def start(self) -> None:
        """Start the runner. The record is on the disk before the VM can be. Raises `OSError`, and
        `RefusedError` without a lease."""
        self._listen()
        process_record.save(Path(process_record.RECORD), self._record)
        self._output, self._input = os.pipe()
        os.set_blocking(self._output, False)
        try:
            self._runner = self._begin()
        except (OSError, RefusedError) as trouble:
            self._change(state="exited", ending=f"could not be run: {trouble}")
            raise
        self._change(state="active", active_since_ms=boot_ms())

    def _begin(self) -> subprocess.Popen[bytes]:
        # As late as can be: to write the record can take long.
        if self._lease.has_ended:
            raise RefusedError("its host holds no lease")
        if self._order.keep:
            self._lease.waive()
        return self._run("microvm-run", self._hub.stdin)

    def serve(self) -> None:
        """Look after the VM until it has ended."""
        self._watch(os.pidfd_open(self._runner.pid), self._runner_ended)
        self._watch(self._output, self._read_console)
        self._watch(self._lease.fd, self._fence)
        self._watch(self._signals, self._signalled)
        while self._running:
            for key, _ in self._selector.select(self._timeout_s()):
                key.data(key.fileobj)
            if self._next is not None and boot_ms() >= self._next[0]:
                self._next[1]()
        returncode = self._runner.wait()
        ending = "its host's lease ended" if self._lease.has_ended else in_words(returncode)
        self._confinement.clear()
        while self._read_console(self._output):
            pass
        self._change(state="exited", ending=ending)

    def stop(self, grace_ms: int, kill: bool) -> None:
        """Begin to stop the VM. Again it changes nothing, but `kill` cuts a graceful stop short."""
        first = self._next is None
        if kill:
            self._kill()
        elif first:
            asked = self._ask_to_shut_down()
            self._next = (boot_ms() + (grace_ms if asked else 0), self._terminate)
        if first:
            self._change(state="stopping")

    # --- the steps of a stop --------------------------------------------------------------------

    def _ask_to_shut_down(self) -> bool:
        """Run the runner's own shutdown. When it returns says nothing: only the VM's end does."""
        if not (Path(self._order.runner) / "bin" / "microvm-shutdown").exists():
            return False
        main_pid = str(self._confinement.inner_pid(self._runner.pid))
        try:
            self._run("microvm-shutdown", subprocess.DEVNULL, MAINPID=main_pid)
        except OSError:
            return False
        return True

    def _terminate(self) -> None:
        self._next = (boot_ms() + self._order.kill_after_ms, self._kill)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._runner.pid, signal.SIGTERM)

    def _kill(self) -> None:
        self._next = (boot_ms() + self._order.kill_after_ms, self._kill)
        self._confinement.kill()

    def _fence(self, deadline: int) -> None:
        self._selector.unregister(deadline)
        self._kill()

    # --- the parts ------------------------------------------------------------------------------

    def _run(self, program: str, stdin: int, **environment: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [f"{self._order.runner}/bin/{program}"],
            cwd=process_record.state_directory(Path(self._order.directory)),
            env={"PATH": os.environ["PATH"], **environment},
            stdin=stdin,
            stdout=self._input,
            stderr=self._input,
            start_new_session=True,
            preexec_fn=lambda: on_parent_death(signal.SIGKILL),  # noqa: PLW1509 - no threads here
        )

    def _change(self, **changes: object) -> None:
        self._record = replace(self._record, **changes)  # type: ignore[arg-type]
        # A full disk does not end a VM; who is connected is told all the same.
        with contextlib.suppress(OSError):
            process_record.save(Path(process_record.RECORD), self._record)
        for client in list(self._clients):
            self._tell(client)

    def _timeout_s(self) -> float | None:
        return None if self._next is None else max(0, self._next[0] - boot_ms()) / 1000

    # --- what it watches ------------------------------------------------------------------------

    def _watch(self, file: _Watched, act: Callable[[Any], object]) -> None:
        self._selector.register(file, selectors.EVENT_READ, act)

    def _runner_ended(self, _: int) -> None:
        self._running = False

    def _read_console(self, output: int) -> bool:
        """Keep what the VM has written; say whether there was anything."""
        try:
            data = os.read(output, _READ_BYTES)
        except BlockingIOError:
            return False
        self._console.write(data)
        self._hub.show(data)
        return True

    def _signalled(self, numbers: int) -> None:
        """SIGTERM stops the VM, SIGHUP kills it."""
        for number in os.read(numbers, 1):
            self.stop(self._order.kill_after_ms, kill=number == signal.SIGHUP)

    def _listen(self) -> None:
        Path(process_record.SOCKET).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listener.bind(process_record.SOCKET)  # relative: a full path could be too long
        listener.listen()
        self._watch(listener, self._accept)

    def _accept(self, listener: socket.socket) -> None:
        client, _ = listener.accept()
        client.setblocking(False)
        self._clients[client] = b""
        self._watch(client, self._hear)
        self._tell(client)

    def _tell(self, client: socket.socket) -> None:
        try:
            client.sendall(json.dumps(asdict(self._record)).encode() + b"\n")
        except OSError:
            self._drop(client)

    def _hear(self, client: socket.socket) -> None:
        """Obey whole lines. Whoever goes away or talks nonsense is dropped: nobody's mistake ends a
        VM."""
        try:
            data = client.recv(_READ_BYTES)
            *lines, rest = (self._clients[client] + data).split(b"\n")
            self._clients[client] = rest
            for line in lines:
                order = json.loads(line)
                if "deadline_ms" in order:
                    self._lease.renew(int(order["deadline_ms"]))
                    self._tell(client)
                else:
                    self.stop(int(order["grace_ms"]), bool(order["kill"]))
            if not data or len(rest) > _LINE_LIMIT_BYTES:
                self._drop(client)
        except (OSError, OverflowError, ValueError, KeyError, TypeError):
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        if self._clients.pop(client, None) is not None:
            self._selector.unregister(client)
            client.close()


def _signals(*numbers: signal.Signals) -> int:
    """A pipe from which the numbers of these signals are read as they come."""
    come, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    return come


def _claim(order: Order) -> None:
    """Become the only guard of this VM, and make sure that no placement is ever started twice, nor
    beside another that has not been discarded."""
    if process_record.take_lock(Path(process_record.LOCK)) is None:
        raise RefusedError("another guard lives")
    present = process_record.load(Path(process_record.RECORD))
    if present is not None:
        raise RefusedError(f"placement {present.epoch} has not been discarded")
    earlier = process_record.load(Path(process_record.DISCARDED))
    if earlier is not None and earlier.epoch >= order.epoch:
        raise RefusedError(f"placement {order.epoch} was started here before, or an older one is")


def _guard(order: Order, launching: int, answer: int) -> None:
    """Be the guard. `launching` is a lock to hold until the record is written, `answer` a pipe to
    the launcher, which waits to be told that the VM was started, or why not."""
    os.setsid()
    directory = Path(order.directory)
    process_record.state_directory(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chdir(directory)
    _leave_stdio()
    try:
        lease = Lease(order.deadline_ms)
        confinement = confine(lease.fd)
        _claim(order)
        guard = Guard(order, lease, confinement)
        guard.start()
    except (OSError, ValueError, RefusedError) as refusal:
        os.write(answer, str(refusal).encode())
        sys.exit(1)
    os.close(launching)
    with contextlib.suppress(BrokenPipeError):  # the launcher was killed: not the VM's concern
        os.write(answer, b"started")
    os.close(answer)
    guard.serve()


def _leave_stdio() -> None:
    """Let go of what the daemon gave; what goes wrong from now on is written to a file."""
    nothing = os.open(os.devnull, os.O_RDWR)
    errors = os.open("guard.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number, file in ((0, nothing), (1, errors), (2, errors)):
        os.dup2(file, number)


def main() -> None:
    """Start the guard, and end when its VM has been started."""
    order, launching = Order(**json.loads(sys.argv[1])), int(sys.argv[2])
    answer, tell = os.pipe()
    if os.fork() == 0:
        os.close(answer)
        _guard(order, launching, tell)
        return
    os.close(tell)
    with os.fdopen(answer, "rb") as opened:
        told = opened.read()
    if told != b"started":
        sys.exit(told.decode() or f"the guard has died; see {order.directory}/guard.log")


if __name__ == "__main__":
    main()
