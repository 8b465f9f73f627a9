"""What the user chose for all verbs, and manners towards terminals and pipes."""

import os
import sys
from dataclasses import dataclass
from typing import Final, TextIO

COLORS: Final = {"red": 31, "green": 32, "yellow": 33, "dim": 2}


@dataclass(slots=True)
class Options:
    """The shared flags, whether they stood before the noun or after the verb."""

    output: str = "table"
    no_headers: bool = False
    addresses: tuple[str, ...] = ()
    timeout_ms: int | None = None
    color: str = "auto"
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    yes: bool = False
    no_input: bool = False
    confirm: str = ""
    wait: bool = False
    wait_timeout_ms: int = 600_000
    progress: str = "auto"
    request_id: str = ""
    after_interrupt: str = "interrupted"
    """What Ctrl-C leaves behind, in words; a verb changes it as it goes on."""

    def talk(self, text: str) -> None:
        """Say something that is no result: on stderr, unless --quiet, or a program reads along."""
        if not self.quiet and self.output != "json":
            to_stderr(text)

    def trace(self, text: str) -> None:
        """Say how it is done, if --verbose or --debug asks for that."""
        if self.verbose or self.debug:
            to_stderr(styled(text, "dim", sys.stderr, self))


def to_stderr(text: str) -> None:
    """Say a line (or several) on stderr, whatever --quiet says."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def in_color(stream: TextIO, options: Options) -> bool:
    """Whether `stream` gets colors: --color decides, then NO_COLOR (no-color.org), CLICOLOR_FORCE,
    TERM=dumb, then whether the stream is a terminal."""
    if options.color != "auto":
        return options.color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("CLICOLOR_FORCE", "0") != "0":
        return True
    return os.environ.get("TERM") != "dumb" and stream.isatty()


def styled(text: str, color: str, stream: TextIO, options: Options) -> str:
    """The text in a color, if `stream` shows colors. Color never carries meaning alone."""
    if not color or not in_color(stream, options):
        return text
    return f"\033[{COLORS[color]}m{text}\033[0m"


def width_of(stream: TextIO) -> int | None:
    """Columns to stay within: COLUMNS, else the terminal's, else None for no limit."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


def is_unicode(stream: TextIO) -> bool:
    """Whether the stream can show more than ASCII."""
    return "utf" in (stream.encoding or "").lower()


def harmless(text: str) -> str:
    """The text without control characters but line ends: what a guest or a build says must not
    move a terminal's cursor."""
    return "".join(one if one.isprintable() or one == "\n" else "?" for one in text)


def cut(text: str, width: int, stream: TextIO) -> str:
    """The text in at most `width` columns; an ellipsis stands for what does not fit."""
    if len(text) <= width:
        return text
    ellipsis = "…" if is_unicode(stream) else "..."
    return text[: max(0, width - len(ellipsis))] + ellipsis
