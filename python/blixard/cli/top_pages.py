"""What covers the tables of `top`: everything about one row, and the keys."""

import textwrap
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from blixard.cli.cluster_view import node_page
from blixard.cli.terminal import harmless
from blixard.cli.top_frame import Canvas, Line, event_table, head
from blixard.cli.top_picture import Known, Picture
from blixard.cli.top_view import NODE, View
from blixard.cli.vm_view import page as vm_page

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb

_KEYS: Final = (
    ("up, down, j, k", "to the next row; Page Up, Page Down, Home and End as well"),
    ("enter", "everything about the row"),
    ("w", "why the VM is where it is, or runs nowhere"),
    ("l", "the VM's console, as it grows"),
    ("e", "the events of the row"),
    ("/", "only VMs with a text in their name, state, node or note; esc shows all again"),
    ("s", "the order of VMs: by name, state, node, time or memory; not as wanted comes first"),
    ("esc", "back"),
    ("q, Ctrl-C", "quit"),
)
_FOOT: Final = "up/down scroll  esc back  q quit"


def covered(
    picture: Picture, known: Known, told: Sequence[str], view: View, canvas: Canvas
) -> tuple[list[Line], int]:
    """The page of a view, and how far it can be scrolled. `told` is what was fetched for it."""
    assert canvas.height is not None
    name = view.cursor[1] if view.cursor is not None and view.page != "help" else ""
    top = [*head(picture, canvas), [(f"{view.page} {name}".rstrip(), "bold")]]
    content = _content(picture, known, told, view, canvas)
    room = max(1, canvas.height - len(top) - 1)
    furthest = max(0, len(content) - room)
    first = min(view.scroll, furthest)
    if view.page == "logs":
        first = furthest - first
    style = "dim" if picture.stale and view.page == "detail" else ""
    seen = content[first : first + room]
    lines: list[Line] = [*top, *([(text, style)] for text in seen), *([] for _ in range(room))]
    return [*lines[: canvas.height - 1], [(_FOOT, "dim")]], furthest


def _content(
    picture: Picture, known: Known, told: Sequence[str], view: View, canvas: Canvas
) -> list[str]:
    width = canvas.width or 80
    match view.page:
        case "help":
            lines = [f"{keys:15} {what}" for keys, what in _KEYS]
        case "detail":
            lines = _detail(known, view, picture.now_ms)
        case "events":
            lines = _events(picture, view)
        case _:
            lines = list(told)
    indent = "" if view.page == "logs" else "    "
    return [part for line in lines for part in _wrapped(line, width, indent)]


def _wrapped(line: str, width: int, indent: str) -> list[str]:
    shown = harmless(line.replace("\t", "    "))
    return textwrap.wrap(shown, width, subsequent_indent=indent, replace_whitespace=False) or [""]


def _detail(known: Known, view: View, now_ms: int) -> list[str]:
    answers = known.answers
    if answers is None or view.cursor is None:
        return []
    kind, name = view.cursor
    if kind == NODE:
        found = [node for node in answers.status.nodes if node.name == name]
        held = [vm.name for vm in answers.vms if vm.node == name]
        if not found:
            return [f"{name} is no member any more"]
        return [*node_page(found[0]), f"  {'VMs':8} {', '.join(held) or 'none'}"]
    seen = [vm for vm in answers.vms if vm.name == name]
    return vm_page(seen[0], answers.status.as_of, now_ms) if seen else [f"{name} is deleted"]


def _events(picture: Picture, view: View) -> list[str]:
    name = view.cursor[1] if view.cursor is not None else ""
    about = [one for one in picture.happenings if name in (one.subject, one.node)]
    if not about:
        return [picture.deaf or "no events since this began"]
    _, *rows = event_table(about, picture.now_ms, Canvas())
    return ["".join(text for text, _ in row) for row in reversed(rows)]


def why_page(explained: "pb.ExplainVmResponse", now_ms: int) -> list[str]:
    """Why a VM is where it is: the answer, node by node, and what can be done."""
    at = time.strftime("%H:%M:%S", time.localtime(now_ms / 1000))
    lines = [explained.headline, f"  as of index {explained.as_of.index}, at {at}"]
    for verdict in explained.verdicts:
        place = f"choice {verdict.rank}" if verdict.rank else "refused"
        lines.append(f"{verdict.node}  {place}")
        for finding in verdict.findings:
            mark = "no " if finding.refuses else "   "
            lines.append(f"  {mark} {finding.rule}: {finding.text}")
    lines += [f"warning: {warning}" for warning in explained.warnings]
    lines += [f"fix: {fix.command}  {fix.text}".rstrip() for fix in explained.fixes]
    return lines
