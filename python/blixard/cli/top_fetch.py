"""The pages of `top` that a node is asked for when they are opened: why, and the console."""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from blixard.cli.top_pages import why_page
from blixard.cli.vm_view import now_ms

if TYPE_CHECKING:
    from blixard.model import Rejected
    from blixard.wire.client import Client

Tell = Callable[[Sequence[str]], None]


class Fetcher:
    """Asks each time with a client of `open_client`, in a thread of its own."""

    def __init__(self, open_client: Callable[[], "Client"]) -> None:
        self._open_client = open_client

    def __call__(self, page: str, name: str, tell: Tell) -> Callable[[], None]:
        """Tell the lines of a page (why, logs) of a VM; what is returned ends that."""
        over = threading.Event()

        def told(lines: Sequence[str]) -> None:
            if not over.is_set():
                tell(lines)

        thread = threading.Thread(
            target=self._run, args=(page, name, told), name=f"top-{page}", daemon=True
        )
        thread.start()
        return over.set

    def _run(self, page: str, name: str, tell: Tell) -> None:
        from blixard.wire.client import CallFailed

        with self._open_client() as client:
            client.learn_members()
            try:
                tell(_why(client, name))
            except CallFailed as failed:
                tell(_refused(failed.rejected))


def _why(client: "Client", name: str) -> Sequence[str]:
    from blixard.v1 import blixard_pb2 as pb
    from blixard.wire.calls import EXPLAIN_VM

    return why_page(client.ask(EXPLAIN_VM, pb.ExplainVmRequest(name=name)), now_ms())


def _refused(rejected: "Rejected") -> Sequence[str]:
    why = [f"  why: {rejected.why}"] if rejected.why else []
    fixes = [f"  fix: {fix.command}  {fix.text}".rstrip() for fix in rejected.fixes]
    return [rejected.message, *why, *fixes]
