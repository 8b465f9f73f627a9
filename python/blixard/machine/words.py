"""The words for one fact, before it is said when and by whom it came about."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """As in `changes.Event`."""

    kind: str
    subject: str
    code: str
    text: str
    node: str = ""
    grave: bool = False
