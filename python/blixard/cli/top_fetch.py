"""The pages of `top` that a node is asked for while they are looked at: why, and the console."""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from blixard.cli.top_pages import why_page
from blixard.cli.vm_view import now_ms

if TYPE_CHECKING:
    from blixard.model import Rejected
    from blixard.wire.client import Client

Tell = Callable[[Sequence[str]], None]
LOG_LINES: Final = 500
LOG_EVERY_S: Final = 1.0
"""A console is read again and again, and not followed: that needs no stream to be ended, and finds
a VM that has moved meanwhile."""


class Fetcher:
    """Asks each time with a client of `open_client`, in a thread of its own."""

    def __init__(self, open_client: Callable[[], "Client"]) -> None:
        self._open_client = open_client

    def __call__(self, page: str, name: str, tell: Tell) -> Callable[[], None]:
        """Tell the lines of a page (why, logs) of a VM; what is returned ends that."""
        over = threading.Event()
        thread = threading.Thread(
            target=self._run, args=(page, name, tell, over), name=f"top-{page}", daemon=True
        )
        thread.start()
        return over.set

    def _run(self, page: str, name: str, tell: Tell, over: threading.Event) -> None:
        from blixard.wire.client import CallFailed

        fetch = {"why": _why, "logs": _log}[page]
        with self._open_client() as client:
            client.learn_members()
            while not over.is_set():
                try:
                    lines = fetch(client, name)
                except CallFailed as failed:
                    lines = _refused(failed.rejected)
                if not over.is_set():
                    tell(lines)
                if page != "logs" or over.wait(LOG_EVERY_S):
                    return


def _why(client: "Client", name: str) -> Sequence[str]:
    from blixard.v1 import blixard_pb2 as pb
    from blixard.wire.calls import EXPLAIN_VM

    return why_page(client.ask(EXPLAIN_VM, pb.ExplainVmRequest(name=name)), now_ms())


def _log(client: "Client", name: str) -> Sequence[str]:
    from blixard.v1 import blixard_pb2 as pb

    lines: list[str] = []
    for chunk in client.read_log(pb.ReadLogRequest(name=name, lines=LOG_LINES)):
        lines += [f"-- {chunk.note} --"] if chunk.note else []
        lines += [line.text for line in chunk.lines]
    return lines or ["nothing was written yet"]


def _refused(rejected: "Rejected") -> Sequence[str]:
    why = [f"  why: {rejected.why}"] if rejected.why else []
    fixes = [f"  fix: {fix.command}  {fix.text}".rstrip() for fix in rejected.fixes]
    return [rejected.message, *why, *fixes]
