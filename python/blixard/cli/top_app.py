"""The live view in a terminal. No other module imports Textual, which takes long to load."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from blixard.cli.top_frame import Canvas, Line, frame
from blixard.cli.top_pages import covered
from blixard.cli.top_picture import Known, picture
from blixard.cli.top_view import View, placed, pressed
from blixard.cli.vm_view import now_ms

TICK_S: Final = 0.5
"""How often the clock, and the age of the picture, are looked at."""

Tell = Callable[[Known], None]
Fetch = Callable[[str, str, Callable[[Sequence[str]], None]], Callable[[], None]]
"""Fetches a page (why, logs) of a VM and tells its lines, perhaps again and again, until what it
returns is called."""


class Heard(Message):
    """Something new is known."""

    def __init__(self, known: Known) -> None:
        super().__init__()
        self.known = known


class Fetched(Message):
    """The lines of a page, if it is still the one that is looked at."""

    def __init__(self, page: str, name: str, lines: Sequence[str]) -> None:
        super().__init__()
        self.subject = (page, name)
        self.lines = lines


class Screenful(Widget):
    """Lines from edge to edge. Only those that have changed are sent to the terminal."""

    DEFAULT_CSS = "Screenful { width: 100%; height: 100%; }"

    def __init__(self, *, color: bool) -> None:
        super().__init__()
        self._color = color
        self._lines: list[Line] = []

    def show(self, lines: list[Line]) -> None:
        """Draw these lines instead of those before."""
        before, self._lines = self._lines, lines
        for number in range(max(len(before), len(lines))):
            if before[number : number + 1] != lines[number : number + 1]:
                self.refresh(Region(0, number, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        line = self._lines[y] if y < len(self._lines) else []
        segments = [Segment(text, self._style(style)) for text, style in line]
        return Strip(segments).adjust_cell_length(self.size.width)

    def _style(self, style: str) -> Style:
        words = style.split()
        if not self._color:
            words = [word for word in words if word in ("bold", "dim", "reverse")]
        return Style.parse(" ".join(words))


class Top(App[None]):
    """Draws what is told with `heard`; asks `fetch` for the pages that are not part of it."""

    ENABLE_COMMAND_PALETTE = False

    def __init__(self, interval_ms: int, fetch: Fetch, *, unicode: bool, color: bool) -> None:
        super().__init__(ansi_color=True)
        self._interval_ms = interval_ms
        self._fetch = fetch
        self._unicode = unicode
        self._screenful = Screenful(color=color)
        self._known = Known(trouble="asking")
        self._view = View()
        self._subject = ("", "")
        self._told: Sequence[str] = ()
        self._end_fetch: Callable[[], None] = lambda: None

    def heard(self, known: Known) -> None:
        """Show what is known now. May be called from any thread."""
        self.post_message(Heard(known))

    def compose(self) -> ComposeResult:
        yield self._screenful

    def on_mount(self) -> None:
        self.set_interval(TICK_S, self._draw)
        for ending in (signal.SIGTERM, signal.SIGHUP):
            # Else the terminal would be left as the view had it.
            asyncio.get_running_loop().add_signal_handler(ending, self.exit)

    def on_unmount(self) -> None:
        self._end_fetch()

    def on_heard(self, message: Heard) -> None:
        self._known = message.known
        self._draw()

    def on_fetched(self, message: Fetched) -> None:
        if message.subject == self._subject:
            self._told = message.lines
            self._draw()

    def on_resize(self) -> None:
        self._draw()

    def on_key(self, event: events.Key) -> None:
        event.stop()
        event.prevent_default()
        now = picture(self._known, now_ms(), self._interval_ms)
        self._view = pressed(placed(self._view, now), event.key, event.character, now)
        if self._view.quitting:
            self.exit()
            return
        self._turn()
        self._draw()

    def _turn(self) -> None:
        """Fetch what a page needs when it is opened, and no longer than it is."""
        name = self._view.cursor[1] if self._view.cursor is not None else ""
        page = self._view.page if self._view.page in ("why", "logs") else ""
        subject = (page, name if page else "")
        if subject == self._subject:
            return
        self._end_fetch()
        self._end_fetch = lambda: None
        self._subject, self._told = subject, ("asking",)
        if page:
            self._end_fetch = self._fetch(
                page, name, lambda lines: self._fetched(page, name, lines)
            )

    def _fetched(self, page: str, name: str, lines: Sequence[str]) -> None:
        self.post_message(Fetched(page, name, lines))

    def _draw(self) -> None:
        now = picture(self._known, now_ms(), self._interval_ms)
        self._view = placed(self._view, now)
        canvas = Canvas(self.size.width, self.size.height, self._unicode)
        if self._view.page:
            lines, furthest = covered(now, self._known, self._told, self._view, canvas)
            self._view = replace(self._view, scroll=min(self._view.scroll, furthest))
        else:
            lines = frame(now, self._view, canvas)
        self._screenful.show(lines)
