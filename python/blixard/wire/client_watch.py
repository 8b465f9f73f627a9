"""Following what happens: a stream that goes on at another node when its own is lost."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import grpc

from blixard.errors import Code
from blixard.model import Fix, Rejected
from blixard.v1 import blixard_pb2 as pb
from blixard.wire.calls import WATCH, Call, Miss

if TYPE_CHECKING:
    from blixard.wire.client import CallFailed

FIRST_S: Final = 7.0
"""How long a node may take to begin: it waits for 5 s if it is not as far as the watcher."""
SILENT_S: Final = 40.0
"""A stream that tells nothing for so long, not even that it lives, is lost."""
PAUSE_S: Final = 0.1


class Watching:
    """The part of `client.Client` that watches."""

    _timeout_ms: int
    _notice: Callable[[str], None]
    _members: list[str]

    if TYPE_CHECKING:

        def _candidates(self) -> list[str]: ...
        def _channel(self, address: str) -> grpc.Channel: ...
        def _missed(
            self, address: str, call: Call[Any], error: grpc.RpcError, timeout_s: float
        ) -> Miss: ...
        def _failure(self, misses: dict[str, Miss], maybe_applied: bool) -> CallFailed: ...
        def learn_members(self) -> None: ...

    def watch(self, request: pb.WatchRequest) -> Iterator[pb.WatchResponse]:
        """What happens, as it happens, told by any node: see `WatchResponse`.

        When the node is lost, another one is tried, for `timeout_ms`, and goes on where that one
        ended: no event is left out, and none is told twice. What objects are is then told anew,
        after a response of the type `reset`: what was told of them before is to be forgotten.
        Raises `CallFailed`, with `EVENTS_GONE` if no node knows what came after `since_index`.
        """
        if not request.finite and not self._members:
            self.learn_members()
        place = _Place(request)
        misses: dict[str, Miss] = {}
        lost_s = time.monotonic()
        while True:
            address = next((one for one in self._candidates() if one not in misses), "")
            if not address:
                self._pause(place, misses, lost_s)
                misses = {}
                continue
            told = place.responses
            miss = yield from self._follow(address, place)
            if miss is None:
                return
            if place.responses > told:
                misses, lost_s = {}, time.monotonic()
                seconds = self._timeout_ms // 1000
                self._notice(f"{address} is lost ({miss.said}); trying others for {seconds} s")
            misses[address] = miss

    def _follow(
        self, address: str, place: "_Place"
    ) -> Generator[pb.WatchResponse, None, Miss | None]:
        """What one node tells; returns why that ended, None if it told all."""
        request, begun = place.request(), place.responses
        call = self._channel(address).unary_stream(
            f"/blixard.v1.{WATCH.method}",
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=WATCH.answer.FromString,
        )(request)
        try:
            with _ended_if_silent(call) as heard:
                for response in call:
                    heard()
                    if begun and place.responses == begun:
                        self._notice(f"goes on at {address} after index {place.index}")
                    yield from place.told(response)
        except grpc.RpcError as error:
            return self._missed_stream(address, error, place)
        finally:
            call.cancel()
        return None if request.finite else Miss("it ended the stream")

    def _missed_stream(self, address: str, error: grpc.RpcError, place: "_Place") -> Miss:
        from blixard.wire.client import CallFailed

        try:
            return self._missed(address, WATCH, error, FIRST_S)
        except CallFailed as failed:
            refused = failed.rejected
            lags = refused.code is Code.BAD_ARGUMENT and place.responses > 0
            if refused.code is not Code.EVENTS_GONE and not lags:
                raise
            return Miss(f"answers: {refused.message}", rejected=refused, answered=True)

    def _pause(self, place: "_Place", misses: dict[str, Miss], lost_s: float) -> None:
        """No node goes on with it now. Raises `CallFailed` if that is for good."""
        from blixard.wire.client import CallFailed

        answers = [miss.rejected for miss in misses.values() if miss.rejected is not None]
        gone = next((one for one in answers if one.code is Code.EVENTS_GONE), None)
        if gone is not None and place.begins_anew():
            self._notice(f"{gone.message}; here is how things are now")
            return
        is_over = time.monotonic() + PAUSE_S >= lost_s + self._timeout_ms / 1000
        hopeless = all(miss.hopeless for miss in misses.values())
        if gone is not None and (is_over or not place.responses):
            raise CallFailed(gone)
        if is_over or hopeless:
            facts = self._failure(misses, maybe_applied=False).facts
            raise CallFailed(_nobody(place), facts=facts)
        if not self._members:
            self.learn_members()
        time.sleep(PAUSE_S)


class _Place:
    """How far a watcher is, across the streams that it had."""

    def __init__(self, request: pb.WatchRequest) -> None:
        self._asked = request
        self.responses = 0
        """How many have come."""
        self.index: int | None = None
        """All up to here was told; None while nothing was."""
        if request.HasField("since_index"):
            self.index = request.since_index
        self._within = (0, 0)
        """An index of which some events were told, perhaps not all: and how many."""
        self._again = 0
        """How many of those are told again."""
        self._is_reset = False

    def request(self) -> pb.WatchRequest:
        """What to ask of a node, to go on from here."""
        request = pb.WatchRequest()
        request.CopyFrom(self._asked)
        request.ClearField("since_index")
        if self.index is not None:
            request.ClearField("last")
            request.since_index = self.index
        self._again = self._within[1]
        self._is_reset = self._asked.objects and self.responses > 0
        return request

    def begins_anew(self) -> bool:
        """Let go of what is forgotten everywhere, if a new picture makes up for it."""
        if not self._asked.objects or not self.responses:
            return False
        self.index, self._within = None, (0, 0)
        return True

    def told(self, response: pb.WatchResponse) -> Iterator[pb.WatchResponse]:
        """What of this is new."""
        self.responses += 1
        if self._is_reset:
            self._is_reset = False
            yield pb.WatchResponse(type="reset", index=self.index or response.index)
        if response.type != "event":
            # All events up to its index came before it. A node that lags begins before that of
            # which some were told.
            self.index = response.index
            if response.index >= self._within[0]:
                self._within = (0, 0)
            yield response
            return
        at, count = self._within
        if response.index == at and self._again:
            self._again -= 1
            return
        self.index = response.index - 1
        self._within = (response.index, count + 1 if response.index == at else 1)
        yield response


@contextmanager
def _ended_if_silent(call: "grpc.Call") -> Iterator[Callable[[], None]]:
    """Cancel a stream on which nothing is heard any more: a host that is gone says nothing."""
    heard, over = threading.Event(), threading.Event()

    def listen() -> None:
        limit_s = FIRST_S
        while heard.wait(limit_s) and not over.is_set():
            heard.clear()
            limit_s = SILENT_S
        call.cancel()

    threading.Thread(target=listen, name="watch", daemon=True).start()
    try:
        yield heard.set
    finally:
        over.set()
        heard.set()


def _nobody(place: _Place) -> Rejected:
    after = f" after index {place.index}" if place.responses else ""
    return Rejected(
        Code.NO_ROUTE,
        f"no node tells what happens{after}",
        why="any node could; the daemons may be down, or the addresses wrong",
        fixes=(
            Fix("on a node", "systemctl status blixard"),
            Fix("ask another node", "blixard --address HOST:PORT events"),
        ),
    )
