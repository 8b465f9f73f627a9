"""Results on stdout: tables for people, JSON for programs."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from blixard.cli.terminal import Options, cut, is_unicode, styled, width_of

GAP: Final = "  "
NARROWEST_NOTE: Final = 8


@dataclass(frozen=True, slots=True)
class Column:
    """One column. Where room is short, those of the lowest `priority` are left out first."""

    title: str
    priority: int = 9
    right: bool = False
    cuttable: bool = False


def emit(text: str) -> None:
    """Print a result."""
    sys.stdout.write(text + "\n")


def emit_json(kind: str, value: Mapping[str, Any]) -> None:
    """One object of the schema `blixard.v1/KIND`: one line on a pipe, indented on a terminal."""
    import json

    indent = 2 if sys.stdout.isatty() else None
    as_ascii = not is_unicode(sys.stdout)
    whole = {"schema": f"blixard.v1/{kind}", **value}
    emit(json.dumps(whole, ensure_ascii=as_ascii, indent=indent))


def emit_json_line(kind: str, value: Mapping[str, Any]) -> None:
    """One object of a stream: one line, at once, on a terminal as well."""
    import json

    whole = {"schema": f"blixard.v1/{kind}", **value}
    emit_now(json.dumps(whole, ensure_ascii=not is_unicode(sys.stdout)))


def emit_now(text: str) -> None:
    """Print a line of something that goes on."""
    emit(text)
    sys.stdout.flush()


def emit_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    options: Options,
    colors: Mapping[str, str],
) -> None:
    """A table without boxes. On a pipe nothing is left out and nothing cut.

    `colors` maps the text of a cell to its color.
    """
    limit = width_of(sys.stdout)
    shown = list(range(len(columns)))
    widths = [
        max([len(column.title), *(len(row[number]) for row in rows)])
        for number, column in enumerate(columns)
    ]
    if limit is not None:
        shown = fitting(columns, widths, limit)
    lines = [] if options.no_headers else [[column.title for column in columns]]
    for cells in [*lines, *rows]:
        line = GAP.join(_cell(columns[n], cells[n], widths[n], colors, options) for n in shown)
        emit(line.rstrip())


def _cell(
    column: Column, text: str, width: int, colors: Mapping[str, str], options: Options
) -> str:
    fitted = cut(text, width, sys.stdout)
    padded = f"{fitted:>{width}}" if column.right else f"{fitted:{width}}"
    return padded.replace(fitted, styled(fitted, colors.get(text, ""), sys.stdout, options), 1)


def fitting(columns: Sequence[Column], widths: list[int], limit: int) -> list[int]:
    """The columns that fit; a cuttable one shrinks before another is left out."""
    shown = list(range(len(columns)))
    for number, column in enumerate(columns):
        if column.cuttable:
            room = limit - sum(widths[n] + len(GAP) for n in shown if n != number)
            widths[number] = max(min(widths[number], room), min(widths[number], NARROWEST_NOTE))
    while sum(widths[n] + len(GAP) for n in shown) - len(GAP) > limit:
        last = min(shown, key=lambda n: (columns[n].priority, -n))
        if columns[last].priority == Column("").priority:
            break
        shown.remove(last)
    return shown
