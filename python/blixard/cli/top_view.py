"""What a person has chosen to look at, and what each key makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from blixard.cli.top_picture import SORTS, Guest, Picture, ordered

NODE: Final = "node"
VM: Final = "vm"
PAGES: Final = {"enter": "detail", "w": "why", "l": "logs", "e": "events"}
_STEPS: Final = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -10, "pagedown": 10}
_ENDS: Final = {"home": -1_000_000, "g": -1_000_000, "end": 1_000_000, "G": 1_000_000}


@dataclass(frozen=True, slots=True)
class View:
    """The row under the cursor, the filter, the order, and the page that covers the tables."""

    cursor: tuple[str, str] | None = None
    """(NODE or VM, its name); it stays on its row wherever that moves."""
    filter: str = ""
    filtering: bool = False
    """The filter is being typed."""
    sort: str = "name"
    page: str = ""
    """detail, why, logs, events, help; empty: the tables."""
    scroll: int = 0
    """Lines of the page above its window; for logs, below it."""
    quitting: bool = False


def shown(picture: Picture, view: View) -> list[Guest]:
    """The VMs that the filter lets through, in order."""
    wanted = view.filter.lower()
    found = [
        guest
        for guest in picture.guests
        if wanted in f"{guest.name} {guest.state} {guest.node} {guest.note}".lower()
    ]
    return ordered(found, view.sort)


def placed(view: View, picture: Picture) -> View:
    """The view with its cursor on a row that exists: at first, and if its row is gone, on the
    first VM."""
    rows = _rows(picture, view)
    if view.cursor in rows or (view.page and view.page != "help"):
        return view
    first = next((row for row in rows if row[0] == VM), rows[0] if rows else None)
    return replace(view, cursor=first)


def pressed(view: View, key: str, character: str | None, picture: Picture) -> View:
    """The view after a key, by Textual's name of it; `character` is what it types, if anything."""
    if key == "ctrl+c":
        return replace(view, quitting=True)
    if view.filtering:
        return _typed(view, key, character)
    name = character if character is not None and character.isprintable() else key
    if name == "q":
        return replace(view, quitting=True)
    if view.page:
        return _in_page(view, name)
    if name in _STEPS or name in _ENDS:
        return _moved(view, _STEPS.get(name) or _ENDS[name], _rows(picture, view))
    match name:
        case "/":
            return replace(view, filtering=True)
        case "escape":
            return replace(view, filter="")
        case "s":
            return replace(view, sort=SORTS[(SORTS.index(view.sort) + 1) % len(SORTS)])
        case "?":
            return replace(view, page="help", scroll=0)
        case "w" | "l" if view.cursor is not None and view.cursor[0] == NODE:
            return view
        case _ if name in PAGES and view.cursor is not None:
            return replace(view, page=PAGES[name], scroll=0)
        case _:
            return view


def _typed(view: View, key: str, character: str | None) -> View:
    match key:
        case "enter":
            return replace(view, filtering=False)
        case "escape":
            return replace(view, filtering=False, filter="")
        case "backspace":
            return replace(view, filter=view.filter[:-1], cursor=None)
        case _ if character is not None and character.isprintable():
            return replace(view, filter=view.filter + character, cursor=None)
        case _:
            return view


def _in_page(view: View, name: str) -> View:
    if name in _STEPS or name in _ENDS:
        step = _STEPS.get(name) or _ENDS[name]
        # The end of a log is what is looked at first, so its window is counted from there.
        return replace(view, scroll=max(0, view.scroll + (-step if view.page == "logs" else step)))
    if name in ("escape", "backspace", "left") or PAGES.get(name) == view.page:
        return replace(view, page="", scroll=0)
    on_vm = view.cursor is not None and view.cursor[0] == VM
    if name in PAGES and view.page != "help" and (on_vm or name not in ("w", "l")):
        return replace(view, page=PAGES[name], scroll=0)
    return view


def _rows(picture: Picture, view: View) -> list[tuple[str, str]]:
    nodes = [(NODE, host.name) for host in picture.hosts]
    return nodes + [(VM, guest.name) for guest in shown(picture, view)]


def _moved(view: View, step: int, rows: Sequence[tuple[str, str]]) -> View:
    if not rows:
        return view
    at = rows.index(view.cursor) if view.cursor in rows else 0
    return replace(view, cursor=rows[max(0, min(len(rows) - 1, at + step))])
