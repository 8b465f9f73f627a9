"""Who asks: what a caller says of itself in the metadata of a call.

It is the caller's word, and proves nothing. It travels beside the requests so that every change can
carry it, and the handlers of changes need not know of it.
"""

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Final

from blixard.errors import Code
from blixard.model import Fix, Rejected

KEY: Final = "blixard-actor"
LONGEST: Final = 128

_asking: ContextVar[str] = ContextVar("asking", default="")


def note(metadata: Iterable[tuple[str, str | bytes]] | None) -> Rejected | None:
    """Remember, for the rest of this call, who asks. Returns why that is no name, if it is none."""
    said = next((value for key, value in metadata or () if key == KEY), "")
    if isinstance(said, bytes) or len(said) > LONGEST or not said.isprintable():
        return Rejected(
            Code.BAD_ARGUMENT,
            f"{KEY}: {said[:80]!a} is no name",
            fixes=(Fix(f"say user@host, in at most {LONGEST} printable characters"),),
        )
    _asking.set(said)
    return None


def asking() -> str:
    """Who asks in this call; empty if that was not said."""
    return _asking.get()
