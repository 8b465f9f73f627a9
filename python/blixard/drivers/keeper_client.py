"""The daemon's way to the keeper of its host, which is beside the loop and never holds it up.

The keeper may be killed, stopped or missing. What it was to learn lasts: the newest deadline is
sent again as soon as there is a connection. What was asked of it in vain is an error.
"""

import asyncio
import contextlib
import json
import logging
import socket
from collections import deque
from pathlib import Path
from typing import Final

from blixard.errors import BlixardError

SOCKET: Final = Path("/run/blixard-keeper.sock")
ANSWER_S: Final = 1.5
"""How long an answer may take: a keeper that was killed or stopped is back within a second."""
RETRY_S: Final = 0.2
ANSWER_BYTES: Final = 1 << 18

_log = logging.getLogger(__name__)


class UnansweredError(BlixardError):
    """The keeper was asked, and it is not known whether it has done so."""


class KeeperClient:
    """A connection to the keeper, made anew whenever it breaks."""

    def __init__(self, address: Path, boot_id: str) -> None:
        self._address = address
        self._boot_id = boot_id
        self._deadline_ms = 0
        self._connection: socket.socket | None = None
        self._waiting: deque[asyncio.Future[str]] = deque()
        """Who waits for an answer: they come in the order of the requests."""
        self._connected = asyncio.Event()
        self._connecting: asyncio.Task[None] | None = None
        self._trouble = ""
        self.guaranteed = False
        """Whether the keeper has a watchdog, as it said last."""

    def open(self) -> None:
        self._connecting = asyncio.get_running_loop().create_task(self._stay_connected())

    async def close(self) -> None:
        """Let go of the keeper, which goes on alone until the deadline."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])

    def renew(self, deadline_ms: int) -> None:
        """Tell the keeper at once, or as soon as it can be told."""
        self._deadline_ms = max(self._deadline_ms, deadline_ms)
        if self._connection is not None:
            self._send_deadline()

    async def permit(self, name: str, epoch: int, incarnation: int, keep: bool) -> None:
        """Open the gate of a VM. Raises `BlixardError`, and then the gate is not open; but it may
        be if that is an `UnansweredError`."""
        await self._ask(f"permit {name} {epoch} {incarnation}{' keep' if keep else ''}")

    async def revoke(self, name: str) -> bool:
        """Shut the gate of a VM, and return whether it was open. Raises `BlixardError`."""
        return await self._ask(f"revoke {name}") == "open"

    # --- requests -------------------------------------------------------------------------------

    async def _ask(self, request: str) -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                await self._connected.wait()
        answer = await self._send(request)
        verdict, _, rest = answer.partition(" ")
        if verdict != "ok":
            raise BlixardError(f"the keeper refuses: {rest}")
        return rest

    def _send(self, request: str) -> "asyncio.Future[str]":
        """Send a request. The answer comes in time, or the connection breaks."""
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_look_at)
        if self._connection is None:
            answer.set_exception(self._silence(BlixardError))
            return answer
        self._waiting.append(answer)
        asyncio.get_running_loop().call_later(ANSWER_S, self._expect, answer)
        try:
            self._connection.send(request.encode())
        except OSError as error:
            self._disconnect(f"cannot be told: {error}")
        return answer

    def _silence(self, kind: type[BlixardError]) -> BlixardError:
        return kind(
            f"the keeper of this host does not answer ({self._trouble or 'not yet connected'})",
            remedy="look at `systemctl status blixard-keeper`",
        )

    def _expect(self, answer: "asyncio.Future[str]") -> None:
        if not answer.done():
            self._disconnect(f"no answer within {ANSWER_S:g} s")

    def _send_deadline(self) -> None:
        deadline_ns = self._deadline_ms * 1_000_000

        def note(answer: asyncio.Future[str]) -> None:
            if not answer.cancelled() and answer.exception() is None and answer.result() != "ok":
                _log.warning("the keeper does not renew the lease: %s", answer.result())

        self._send(f"renew {self._boot_id} {deadline_ns}").add_done_callback(note)

    # --- the connection -------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        try:
            while True:
                if self._connection is None:
                    self._connect()
                await asyncio.sleep(RETRY_S)
        finally:
            self._disconnect("")

    def _connect(self) -> None:
        try:
            connection = _connected(str(self._address))
        except OSError as error:
            self._told(f"{self._address}: {error.strerror}")
            return
        self._connection = connection
        asyncio.get_running_loop().add_reader(connection, self._receive)
        if self._deadline_ms:
            self._send_deadline()
        self._send("status").add_done_callback(self._learn)

    def _learn(self, answer: "asyncio.Future[str]") -> None:
        """The keeper is there: it has said what it is."""
        if not answer.cancelled() and answer.exception() is None:
            status = json.loads(answer.result().removeprefix("ok "))
            self.guaranteed = status["watchdog"] == "guaranteed"
            self._connected.set()
            self._told("")

    def _receive(self) -> None:
        assert self._connection is not None
        try:
            while answer := self._connection.recv(ANSWER_BYTES):
                waiting = self._waiting.popleft()
                if not waiting.done():
                    waiting.set_result(answer.decode())
        except BlockingIOError:
            return
        except OSError as error:
            self._disconnect(str(error.strerror))
        else:
            self._disconnect("it has hung up")

    def _disconnect(self, why: str) -> None:
        if self._connection is None:
            return
        asyncio.get_running_loop().remove_reader(self._connection)
        self._connection.close()
        self._connection = None
        self._connected.clear()
        self._told(why)
        waiting, self._waiting = self._waiting, deque()
        for answer in waiting:
            if not answer.done():
                answer.set_exception(self._silence(UnansweredError))

    def _told(self, trouble: str) -> None:
        if trouble and not self._trouble:
            _log.warning("the keeper is out of reach: %s", trouble)
        self._trouble = trouble


def _connected(address: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.setblocking(False)
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def _look_at(answer: "asyncio.Future[str]") -> None:
    """Nobody need wait for an answer: its error is then of no interest."""
    if not answer.cancelled():
        answer.exception()
