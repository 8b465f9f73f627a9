"""Reading what VMs write, and sitting at their consoles: streams through any node."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import grpc

from blixard.errors import Code
from blixard.model import Fix, Rejected
from blixard.v1 import blixard_pb2 as pb
from blixard.wire.calls import ATTACH_CONSOLE, RAFT_STATUS, READ_LOG, Call, Miss, Response
from blixard.wire.status import refusal_in

if TYPE_CHECKING:
    from blixard.wire.client import CallFailed

PAUSE_S: Final = 0.1
LOST_S: Final = 1.0
LEAVING_S: Final = 1.0
"""What was typed last may take so long to reach the guest."""


class Consoles:
    """The part of `client.Client` that is about what VMs write and read."""

    _timeout_ms: int
    _notice: Callable[[str], None]
    _members: list[str]

    if TYPE_CHECKING:

        def _candidates(self) -> list[str]: ...
        def _channel(self, address: str) -> grpc.Channel: ...
        def _attempt(
            self, address: str, call: Call[Response], request: Any, deadline: float
        ) -> Response | Miss: ...
        def _failure(self, misses: dict[str, Miss], maybe_applied: bool) -> CallFailed: ...
        def learn_members(self) -> None: ...

    def read_log(self, request: pb.ReadLogRequest) -> Iterator[pb.LogChunk]:
        """What a VM or its build has written. If the asked node is lost while it is followed,
        another goes on, and what is written meanwhile may be missing. Raises `CallFailed`."""
        asked = pb.ReadLogRequest()
        asked.CopyFrom(request)
        if asked.follow:
            self.learn_members()
        has_begun = False
        while True:
            address = self._answering()
            call = self._channel(address).unary_stream(
                f"/blixard.v1.{READ_LOG.method}",
                request_serializer=pb.ReadLogRequest.SerializeToString,
                response_deserializer=READ_LOG.answer.FromString,
            )(asked)
            try:
                for chunk in call:
                    has_begun = True
                    yield chunk
                return
            except grpc.RpcError as error:
                refused = refusal_in(error)
                is_gone = refused is None or refused.rejected.code is Code.NO_ROUTE
                if not (has_begun and asked.follow and is_gone):
                    raise _failed(error, address) from error
                if refused is None:
                    self._notice(f"{address} is lost; another node is asked, lines may be missing")
                    asked.lines = 0
                else:
                    # The host of the VM is lost with it, which is yet to be noticed.
                    time.sleep(LOST_S)
            finally:
                call.cancel()

    def console(self, typed: Iterator[pb.ConsoleInput]) -> Iterator[pb.ConsoleOutput]:
        """Sit at a console: `typed` begins with who wants which, and its end leaves it. It is read
        by another thread. Raises `CallFailed`."""
        has_left = threading.Event()

        def hang_up() -> None:
            call.cancel()

        def until_left() -> Iterator[pb.ConsoleInput]:
            yield from typed
            has_left.set()
            # A node that hears nothing now, such as one that still builds the VM, keeps nobody.
            leaving = threading.Timer(LEAVING_S, hang_up)
            leaving.daemon = True
            leaving.start()

        address = self._answering()
        call = self._channel(address).stream_stream(
            f"/blixard.v1.{ATTACH_CONSOLE.method}",
            request_serializer=pb.ConsoleInput.SerializeToString,
            response_deserializer=ATTACH_CONSOLE.answer.FromString,
        )(until_left())
        try:
            yield from call
        except grpc.RpcError as error:
            if has_left.is_set() and error.code() is grpc.StatusCode.CANCELLED:
                return
            raise _failed(error, address) from error
        finally:
            call.cancel()

    def _answering(self) -> str:
        """A node that answers. Raises `CallFailed` if there is none for `timeout_ms`."""
        deadline = time.monotonic() + self._timeout_ms / 1000
        while True:
            misses: dict[str, Miss] = {}
            for address in self._candidates():
                request = pb.GetRaftStatusRequest()
                answer = self._attempt(address, RAFT_STATUS, request, deadline)
                if not isinstance(answer, Miss):
                    return address
                misses[address] = answer
            if time.monotonic() + PAUSE_S >= deadline:
                raise self._failure(misses, maybe_applied=False)
            time.sleep(PAUSE_S)


def _failed(error: grpc.RpcError, address: str) -> "CallFailed":
    from blixard.wire.client import CallFailed

    refused = refusal_in(error)
    if refused is not None:
        return CallFailed(refused.rejected)
    details = error.details() or error.code().name
    return CallFailed(
        Rejected(
            Code.NO_ROUTE,
            f"the connection to {address} is lost",
            why=details.rpartition(": ")[2],
            fixes=(Fix("ask another node", "blixard --address HOST:PORT ..."),),
        )
    )
