"""Where the picture of `top` comes from: the cluster, asked again and again by a thread."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from blixard.cli.top_picture import Answers, Known, entries_per_s
from blixard.cli.vm_view import now_ms

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb
    from blixard.wire.client import Client

PATIENCE_MS: Final = 3_000
"""For how long one look may search for a node that can answer, before the picture is called old."""
_END_S: Final = 0.5
"""A thread that waits for an answer is left behind when the program ends."""


def look(client: "Client", before: Answers | None = None) -> Answers:
    """One picture that the leader stands for. Raises `CallFailed`."""
    status, vms = client.cluster_status(), client.list_vms().vms
    answers = Answers(status, vms, now_ms())
    return replace(answers, rate=entries_per_s(before, answers))


def look_alone(client: "Client") -> Answers:
    """What the first node that answers knows by itself. Raises `CallFailed`."""
    status, vms = client.cluster_status(stale=True), client.list_vms(stale=True).vms
    return Answers(status, vms, now_ms())


class Feed:
    """Looks every `interval_ms`, and tells what is known then from a thread of its own.

    A look that fails leaves the last picture as it was, and says why. Before there is one that a
    leader stands for, the word of any node is taken, which the picture says.
    """

    def __init__(self, client: "Client", interval_ms: int, tell: Callable[[Known], None]) -> None:
        self._client = client
        self._interval_ms = interval_ms
        self._tell = tell
        self._members: Sequence[str] = ()
        self._known = Known()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="top-feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No more is told, though a look may be under way."""
        self._over.set()
        self._thread.join(_END_S)

    def _run(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            self._known = self._looked()
            if not self._over.is_set():
                self._tell(self._known)
            took_s = time.monotonic() - began
            self._over.wait(max(0.0, self._interval_ms / 1000 - took_s))

    def _looked(self) -> Known:
        from blixard.wire.client import CallFailed

        before = self._known.answers
        try:
            answers = look(self._client, before)
        except CallFailed as failed:
            trouble = failed.rejected.message
            if before is None or not before.status.as_of.linearizable:
                before = self._alone() or before
            return replace(self._known, answers=before, trouble=trouble)
        self._remember(answers.status)
        return replace(self._known, answers=answers, trouble="")

    def _alone(self) -> Answers | None:
        from blixard.wire.client import CallFailed

        try:
            return look_alone(self._client)
        except CallFailed:
            return None

    def _remember(self, status: "pb.GetClusterStatusResponse") -> None:
        """Whom else to ask when the node that answers now is gone."""
        members = [node.address for node in status.nodes]
        if members != self._members:
            self._client.learn_members()
            self._members = members
