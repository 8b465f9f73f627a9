"""A picture as lines of text: what `top --once` prints, and what the live view colors."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from blixard.cli.output import GAP, Column, fitting
from blixard.cli.top_picture import Guest, Happening, Host, Picture
from blixard.cli.top_view import NODE, VM, View, shown
from blixard.cli.units import gib

Span = tuple[str, str]
"""Some text, and how it looks: red, green, yellow, dim, bold, reverse, or several of them."""
Line = list[Span]

_HOSTS: Final = (
    Column("NODES"),
    Column("STATE"),
    Column("ROLE", priority=3),
    Column("LEASE", priority=7, right=True),
    Column("CPU", priority=6),
    Column("MEMORY GiB", priority=5),
    Column("VMS", priority=4, right=True),
    Column("NOTE", priority=8, cuttable=True),
)
_GUESTS: Final = (
    Column("VMS"),
    Column("STATE"),
    Column("NODE"),
    Column("CPU", priority=2, right=True),
    Column("MEMORY", priority=3, right=True),
    Column("SINCE", priority=4, right=True),
    Column("NOTE", priority=8, cuttable=True),
)
_EVENTS: Final = (Column("EVENTS"), Column("", cuttable=True))
_WIDE: Final = 100
"""From this width on, bars are long."""
_FEWEST_EVENTS: Final = 2
KEYS: Final = "/ filter  s sort  enter detail  w why  l logs  e events  ? help  q quit"


@dataclass(frozen=True, slots=True)
class Canvas:
    """Where it is drawn. Without a width nothing is cut, without a height nothing is left out."""

    width: int | None = None
    height: int | None = None
    unicode: bool = True

    def cut(self, text: str, width: int) -> str:
        """The text in at most `width` columns; an ellipsis stands for what does not fit."""
        if len(text) <= width:
            return text
        ellipsis = "…" if self.unicode else "..."
        return text[: max(0, width - len(ellipsis))] + ellipsis[:width]

    def fitted(self, text: str) -> str:
        """The text in one line."""
        return text if self.width is None else self.cut(text, self.width)

    def bar(self, part: int, whole: int) -> str:
        """How much of the whole is taken. Whatever is more than nothing shows."""
        full, empty = ("█", "░") if self.unicode else ("#", ".")
        length = 4 if self.width is not None and self.width < _WIDE else 10
        cells = round(length * min(part, whole) / whole) if whole else 0
        cells = max(cells, 1) if part else cells
        return full * cells + empty * (length - cells)


def frame(picture: Picture, view: View, canvas: Canvas) -> list[Line]:
    """The tables, with the keys in the last line if there is a height to fill."""
    top = head(picture, canvas)
    guests = shown(picture, view)
    if canvas.height is None:
        rooms = (len(picture.hosts), len(guests), len(picture.happenings))
    else:
        # Three titles and the line of keys are there in any case.
        rooms = _rooms(picture, len(guests), canvas.height - len(top) - 4)
    hosts = _windowed(picture.hosts, rooms[0], view, NODE)
    visible = _windowed(guests, rooms[1], view, VM)
    sections = [
        _table(_titled(_HOSTS, hosts), [_host_row(one, canvas) for one in picture.hosts], canvas),
        _table(_titled(_GUESTS, visible, view), list(map(_guest_row, guests)), canvas),
    ]
    lines = list(top)
    for section, window, kind in zip(sections, (hosts, visible), (NODE, VM), strict=True):
        title, *rows = section
        lines.append(title)
        if not rows:
            lines.append([(canvas.fitted(_none(picture, view, kind)), "dim")])
        for row, one in zip(rows[window.first : window.last], window.rows, strict=True):
            chosen = canvas.height is not None and view.cursor == (kind, one.name)
            lines.append(_chosen(row, canvas) if chosen else row)
    lines += _events(picture, rooms[2], canvas)
    if canvas.height is not None:
        lines = lines[: canvas.height - 1]
        lines += [[] for _ in range(canvas.height - 1 - len(lines))]
        lines.append(_foot(view, canvas))
    return _dimmed(lines, len(top)) if picture.stale else lines


def head(picture: Picture, canvas: Canvas) -> list[Line]:
    """Who and how well, the log, and, if need be, why there is nothing newer."""
    rate = "" if picture.rate is None else f"{GAP}+{picture.rate:.1f}/s"
    leader = f"leader {picture.leader}" if picture.leader else "no leader known"
    raft = f"{leader}{GAP}term {picture.term}{GAP}index {picture.index}{rate}"
    first, right = _headline(picture, canvas)
    gap = max(2, (canvas.width or 0) - sum(len(text) for text, _ in first) - len(right))
    first += [(" " * gap, ""), (right, "reverse" if picture.stale else "")]
    lines: list[Line] = [first, [(raft, "")]]
    if picture.trouble:
        lines.append([(picture.trouble, "yellow")])
    return [_within(line, canvas) for line in lines]


def _headline(picture: Picture, canvas: Canvas) -> tuple[Line, str]:
    """What stands at the left of the first line, and at its right. Of an old picture only what is
    sure: that it is old."""
    cluster = f"cluster {canvas.cut(picture.cluster, 12)}{GAP}"
    clock = time.strftime("%H:%M:%S", time.localtime(picture.now_ms / 1000))
    if not picture.cluster:
        return [("no picture yet", "bold")], clock
    if picture.source:
        return [
            (cluster, "bold"),
            ("no leader stands for this", ""),
        ], f"as {picture.source} knows it"
    if picture.stale:
        old = f"last picture {picture.age_ms // 1000} s old"
        return [(cluster, "bold"), (f"was {picture.health}", "")], old
    color = {"healthy": "green", "degraded": "yellow"}.get(picture.health, "red")
    margin = f"can lose {picture.spare}" if picture.spare > 0 else "can lose none"
    nodes = f"{GAP}{picture.up} of {len(picture.hosts)} nodes up{GAP}{margin}"
    return [(cluster, "bold"), (picture.health, color), (nodes, "")], clock


@dataclass(frozen=True, slots=True)
class _Window:
    """The rows of a table that can be seen, of how many."""

    rows: Sequence[Host | Guest]
    first: int
    total: int

    @property
    def last(self) -> int:
        return self.first + len(self.rows)


def _rooms(picture: Picture, guests: int, room: int) -> tuple[int, int, int]:
    """How many rows nodes, VMs and events get of `room`: nodes at most a third, events what is
    left over, but two if there are any."""
    events = min(len(picture.happenings) or 1, _FEWEST_EVENTS)
    hosts = max(1, min(len(picture.hosts), max(room // 3, room - events - max(guests, 1))))
    vms = max(1, min(guests or 1, room - hosts - events))
    return hosts, vms, max(0, room - hosts - vms)


def _windowed(rows: Sequence[Host | Guest], room: int, view: View, kind: str) -> _Window:
    names = [(kind, row.name) for row in rows]
    at = names.index(view.cursor) if view.cursor in names else 0
    first = max(0, min(at - room // 2, len(rows) - room))
    return _Window(rows[first : first + room], first, len(rows))


def _titled(
    columns: tuple[Column, ...], window: _Window, view: View | None = None
) -> tuple[Column, ...]:
    """The columns, whose first title tells which rows are seen if not all are, and the filter."""
    title = columns[0].title
    if len(window.rows) < window.total:
        title += f" {window.first + 1}-{window.last}/{window.total}"
    if view is not None and view.filter:
        title += f" /{view.filter}"
    return (Column(title), *columns[1:])


def _host_row(host: Host, canvas: Canvas) -> list[Span]:
    cpu = f"{canvas.bar(host.vcpus_reserved, host.vcpus)} {host.vcpus_reserved}/{host.vcpus}"
    sizes = f"{gib(host.memory_reserved_mib)}/{gib(host.memory_mib)}"
    used = f"{canvas.bar(host.memory_reserved_mib, host.memory_mib)} {sizes}"
    cells = (host.name, host.state, host.role, host.lease, cpu, used, str(host.vms), host.note)
    return [(text, host.color if number == 1 else "") for number, text in enumerate(cells)]


def _guest_row(guest: Guest) -> list[Span]:
    cells = (
        guest.name,
        guest.state,
        guest.node,
        str(guest.vcpus),
        guest.memory,
        guest.since,
        guest.note,
    )
    plain = "dim" if guest.color == "dim" else ""
    return [(text, guest.color if number == 1 else plain) for number, text in enumerate(cells)]


def event_row(happening: Happening, now_ms: int) -> list[Span]:
    """When, and what. An event of another day shows that day."""
    at, now = time.localtime(happening.at_ms / 1000), time.localtime(now_ms / 1000)
    clock = time.strftime("%H:%M:%S" if at[:3] == now[:3] else "%d %b %H:%M", at)
    color = "yellow" if happening.grave else ""
    return [(clock, ""), (happening.text, color)]


def event_table(happenings: Sequence[Happening], now_ms: int, canvas: Canvas) -> list[Line]:
    """A title and a line for each event."""
    return _table(_EVENTS, [event_row(one, now_ms) for one in happenings], canvas)


def _events(picture: Picture, room: int, canvas: Canvas) -> list[Line]:
    last = picture.happenings[-room:] if room else ()
    title, *rows = event_table(last, picture.now_ms, canvas)
    if picture.deaf:
        said = (canvas.fitted(picture.deaf), "yellow")
        rows = [*rows[max(0, len(rows) + 1 - room) :], [said]]
    return [title, *(rows or [[(canvas.fitted("none since this began"), "dim")]])]


def _none(picture: Picture, view: View, kind: str) -> str:
    if kind == VM and view.filter and picture.guests:
        return "none matches the filter"
    return "none" if picture.cluster else "not known"


def _table(columns: Sequence[Column], rows: Sequence[list[Span]], canvas: Canvas) -> list[Line]:
    """A line of titles, and one for each row."""
    numbers = range(len(columns))
    widths = [
        max([len(columns[number].title), *(len(row[number][0]) for row in rows)])
        for number in numbers
    ]
    seen = list(numbers) if canvas.width is None else fitting(columns, widths, canvas.width)
    titles: list[Span] = [(column.title, "bold") for column in columns]
    lines: list[Line] = []
    for cells in [titles, *rows]:
        line: Line = []
        for number in seen:
            text, style = cells[number]
            fitted, width = canvas.cut(text, widths[number]), widths[number]
            padded = f"{fitted:>{width}}" if columns[number].right else f"{fitted:{width}}"
            line += [(padded, style), (GAP, "bold" if cells is titles else "")]
        lines.append(_within(line[:-1], canvas))
    return lines


def _within(line: Line, canvas: Canvas) -> Line:
    """The line cut at the edge, without what is blank at its end."""
    room = canvas.width
    kept: Line = []
    for text, style in line:
        part = text if room is None else canvas.cut(text, room)
        room = None if room is None else room - len(part)
        kept.append((part, style))
    while kept and not kept[-1][0].strip():
        kept.pop()
    if kept:
        kept[-1] = (kept[-1][0].rstrip(), kept[-1][1])
    return kept


def _chosen(line: Line, canvas: Canvas) -> Line:
    blank = (canvas.width or 0) - sum(len(text) for text, _ in line)
    return [(text, f"reverse {style}".rstrip()) for text, style in [*line, (" " * blank, "")]]


def _foot(view: View, canvas: Canvas) -> Line:
    if view.filtering:
        return [
            ("filter: ", "bold"),
            (f"{view.filter}_", ""),
            ("  enter keeps, esc ends it", "dim"),
        ]
    keys = KEYS.replace("s sort", f"s sort:{view.sort}")
    return _within([(keys, "dim")], canvas)


def _dimmed(lines: list[Line], top: int) -> list[Line]:
    """All but the lines that say so: what is old must not look like what is."""
    first = [(text, style if style == "reverse" else "dim") for text, style in lines[0]]
    old: list[Line] = [[(text, "dim") for text, _ in line] for line in lines]
    return [first, *old[1:2], *lines[2:top], *old[top:]]


def as_text(lines: Sequence[Line]) -> str:
    """The lines without their looks."""
    joined = ("".join(text for text, _ in line) for line in lines)
    return "\n".join(line.rstrip() for line in joined)
