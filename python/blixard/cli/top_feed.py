"""Where the picture of `top` comes from: threads that ask the cluster, and listen to it."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from blixard.cli.top_picture import Answers, Known, entries_per_s
from blixard.cli.vm_view import now_ms

if TYPE_CHECKING:
    from blixard.wire.client import CallFailed, Client

PATIENCE_MS: Final = 3_000
"""For how long one look may search for a node that can answer, before the picture is called old."""
KEPT_EVENTS: Final = 200


def look(client: "Client", before: Answers | None = None) -> Answers:
    """One picture that the leader stands for. Raises `CallFailed`."""
    status, vms = client.cluster_status(), client.list_vms().vms
    answers = Answers(status, vms, now_ms())
    return replace(answers, rate=entries_per_s(before, answers))


def look_alone(client: "Client") -> Answers:
    """What the first node that answers knows by itself. Raises `CallFailed`."""
    status, vms = client.cluster_status(stale=True), client.list_vms(stale=True).vms
    return Answers(status, vms, now_ms())


def last_events(client: "Client", number: int) -> Known:
    """The last events, or why there are none to hear; without a picture."""
    from blixard.v1 import blixard_pb2 as pb
    from blixard.wire.client import CallFailed

    try:
        told = list(client.watch(pb.WatchRequest(last=number, finite=True)))
    except CallFailed as failed:
        return Known(deaf=_deaf(failed))
    return Known(events=tuple(one.event for one in told if one.type == "event"))


def _deaf(failed: "CallFailed") -> str:
    return f"no events are heard: {failed.rejected.message}"


class Feed:
    """Looks every `interval_ms` and listens to events; tells what is known after each.

    It does so from threads of its own, and with a client for each: `open_client` makes them. A
    look that fails leaves the last picture as it was, and says why. Before there is one that a
    leader stands for, the word of any node is taken, which the picture says.
    """

    def __init__(
        self,
        open_client: Callable[[], "Client"],
        interval_ms: int,
        tell: Callable[[Known], None],
    ) -> None:
        self._open_client = open_client
        self._interval_ms = interval_ms
        self._tell = tell
        self._members: Sequence[str] = ()
        self._lock = threading.Lock()
        self._known = Known()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._look_on, name="top-look", daemon=True),
            threading.Thread(target=self._listen_on, name="top-listen", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No more is told. A thread that waits for an answer is left behind."""
        self._over.set()

    def _learned(self, **news: Any) -> None:
        with self._lock:
            self._known = replace(self._known, **news)
            if not self._over.is_set():
                self._tell(self._known)

    # --- looking --------------------------------------------------------------------------------

    def _look_on(self) -> None:
        with self._open_client() as client:
            while not self._over.is_set():
                began_s = time.monotonic()
                self._learned(**self._looked(client))
                took_s = time.monotonic() - began_s
                self._over.wait(max(0.0, self._interval_ms / 1000 - took_s))

    def _looked(self, client: "Client") -> dict[str, Any]:
        from blixard.wire.client import CallFailed

        before = self._known.answers
        try:
            answers = look(client, before)
        except CallFailed as failed:
            trouble = failed.rejected.message
            if before is not None and before.status.as_of.linearizable:
                return {"trouble": trouble}
            return {"trouble": trouble, "answers": _alone(client) or before}
        members = [node.address for node in answers.status.nodes]
        if members != self._members:
            # Whom else to ask when the node that answers now is gone.
            client.learn_members()
            self._members = members
        return {"trouble": "", "answers": answers}

    # --- listening ------------------------------------------------------------------------------

    def _listen_on(self) -> None:
        """Listen again whenever that ends; each time it begins with the last events there are."""
        from blixard.v1 import blixard_pb2 as pb
        from blixard.wire.client import CallFailed

        with self._open_client() as client:
            while not self._over.is_set():
                heard: deque[pb.Event] = deque(maxlen=KEPT_EVENTS)
                try:
                    for told in client.watch(pb.WatchRequest(last=KEPT_EVENTS)):
                        if self._over.is_set():
                            return
                        if told.type == "event":
                            heard.append(told.event)
                        self._learned(events=tuple(heard), deaf="")
                except CallFailed as failed:
                    self._learned(deaf=_deaf(failed))
                self._over.wait(self._interval_ms / 1000)


def _alone(client: "Client") -> Answers | None:
    from blixard.wire.client import CallFailed

    try:
        return look_alone(client)
    except CallFailed:
        return None
