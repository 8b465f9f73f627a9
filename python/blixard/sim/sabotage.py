"""The sabotages: each switches one rule off, so that a checker can show that it would notice.

A checker that has never failed proves nothing. A sabotage patches the shipped code in this process
and undoes it afterwards; where an assertion would stop the process before the consequence shows,
the sabotage takes that away as well. Nothing outside the simulator imports this module.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sabotage:
    """One rule, and how to break it."""

    name: str
    rule: str
    """The rule that is switched off, in one line."""
    defect: str
    """The letter of the library's defect that comes back; empty if the rule is our own."""
    breaks: Callable[[], AbstractContextManager[None]]
    """Patches the shipped code while it is entered."""


SABOTAGES: dict[str, Sabotage] = {}
"""All that are known, by name. A module of sabotages registers its own when it is imported."""


@dataclass(frozen=True)
class Patch:
    """An attribute of a module or a class, and what takes its place."""

    owner: Any
    name: str
    value: Any


def register(name: str, rule: str, *patches: Patch, defect: str = "") -> None:
    """Add a sabotage that is a few patches. Each name is used once."""
    assert name not in SABOTAGES, name
    SABOTAGES[name] = Sabotage(name, rule, defect, lambda: patched(*patches))


@contextmanager
def patched(*patches: Patch) -> Iterator[None]:
    """Patch, and undo it."""
    with ExitStack() as undo:
        for patch in patches:
            before = patch.owner.__dict__[patch.name]
            undo.callback(setattr, patch.owner, patch.name, before)
            setattr(patch.owner, patch.name, patch.value)
        yield


@contextmanager
def switched_off(name: str) -> Iterator[None]:
    """Break the rule of a sabotage. Raises `KeyError` if there is none of that name."""
    with SABOTAGES[name].breaks():
        yield
