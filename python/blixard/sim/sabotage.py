"""The sabotages: each switches one rule off, so that a checker can show that it would notice.

A checker that has never failed proves nothing. A sabotage changes the shipped code in this process
and undoes it afterwards; where an assertion would stop the process before the consequence shows,
the sabotage takes that away as well. A change is a piece of source and what takes its place, so
that it says what it breaks, and fails when the shipped code is no longer what it was made for.
Nothing outside the simulator imports this module.
"""

import ast
import inspect
import textwrap
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
    """Changes the shipped code while it is entered."""


SABOTAGES: dict[str, Sabotage] = {}
"""All that are known, by name. A module of sabotages registers its own when it is imported."""


@dataclass(frozen=True)
class Patch:
    """An attribute of a module or a class, and what takes its place."""

    owner: Any
    name: str
    value: Any


@dataclass(frozen=True)
class Edit:
    """A function of a module or a class, a piece of its source that occurs in it once, and what
    takes the place of that."""

    owner: Any
    name: str
    old: str
    new: str


@dataclass(frozen=True)
class Mute:
    """A function of a module or a class whose assertions are taken away."""

    owner: Any
    name: str


Change = Patch | Edit | Mute


def register(name: str, rule: str, *changes: Change, defect: str = "") -> None:
    """Add a sabotage that makes some changes, one after another. Each name is used once."""
    assert name not in SABOTAGES, name
    SABOTAGES[name] = Sabotage(name, rule, defect, lambda: changed(*changes))


@contextmanager
def switched_off(name: str) -> Iterator[None]:
    """Break the rule of a sabotage. Raises `KeyError` if there is none of that name."""
    with SABOTAGES[name].breaks():
        yield


@contextmanager
def changed(*changes: Change) -> Iterator[None]:
    """Change code, and undo it."""
    sources: dict[tuple[Any, str], str] = {}
    with ExitStack() as undo:
        for change in changes:
            owner, name = change.owner, change.name
            before = owner.__dict__[name]
            undo.callback(setattr, owner, name, before)
            if isinstance(change, Patch):
                setattr(owner, name, change.value)
                continue
            source = sources.get((owner, name)) or textwrap.dedent(inspect.getsource(before))
            source = sources[owner, name] = _changed(change, source)
            setattr(owner, name, _compiled(source, before, owner, name))
        yield


def _changed(change: Edit | Mute, source: str) -> str:
    if isinstance(change, Mute):
        return ast.unparse(_Muted().visit(ast.parse(source)))
    assert source.count(change.old) == 1, f"{change.name} is no longer what this was made for"
    return source.replace(change.old, change.new)


class _Muted(ast.NodeTransformer):
    """Puts `pass` in the place of every assertion."""

    def visit_Assert(self, _node: ast.Assert) -> ast.stmt:
        return ast.Pass()


def _compiled(source: str, before: Any, owner: Any, name: str) -> Any:
    """The function of a source, as if it stood where the one before stands."""
    is_method = inspect.isclass(owner)
    if is_method:
        # In a class of the same name, so that the names of its private attributes are the same.
        source = f"class {owner.__name__}:\n{textwrap.indent(source, '    ')}"
    found: dict[str, Any] = {}
    exec(source, inspect.unwrap(before).__globals__, found)  # noqa: S102 - the shipped code, edited
    (made,) = found.values()
    return made.__dict__[name] if is_method else made
