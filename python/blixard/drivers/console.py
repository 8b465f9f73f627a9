"""What a build or a guest writes: kept on disk within bounds, and shown without its escape codes.

Standard library only: the guard of a VM uses it too.
"""

import contextlib
import os
import re
from collections.abc import Iterable
from io import FileIO
from pathlib import Path

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: titles, links
    r"|\x1b[PX^_][^\x1b\n]*\x1b\\"  # DCS, SOS, PM, APC; none in another: to try is quadratic
    r"|\x1b[ -/]*[0-~]"  # everything else of ECMA-35
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(output: bytes) -> str:
    """Terminal output as text: no escape codes (ECMA-48), no controls but tab and newline.
    Of a line that was overwritten (`\\r`), what was written last remains."""
    text = _ESCAPES.sub("", output.decode("utf-8", "replace")).replace("\r\n", "\n")
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return _CONTROLS.sub("", "\n".join(lines))


def tail(lines: Iterable[str], limit: int, limit_bytes: int) -> str:
    """The last lines that are not blank: at most `limit` of them, and `limit_bytes` in all."""
    kept = [line.rstrip() for line in lines if line.strip()][-limit:]
    return "\n".join(kept).encode()[-limit_bytes:].decode("utf-8", "ignore")


def end_of_file(path: Path, limit_bytes: int) -> bytes:
    """The last bytes of a file, or none if there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - limit_bytes))
            return file.read(limit_bytes)
    except FileNotFoundError:
        return b""


class RotatedFile:
    """A new file that only grows to `limit_bytes`; then it becomes `NAME.1`, and the next begins.
    What was there before becomes `NAME.1` at once."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._file = self._begin()
        self._size_bytes = 0

    def _begin(self) -> FileIO:
        with contextlib.suppress(FileNotFoundError):
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        return self._path.open("xb", buffering=0)

    def write(self, data: bytes) -> None:
        """Append. What a full disk refuses is lost: output never stops the one who writes it."""
        with contextlib.suppress(OSError):
            if self._size_bytes + len(data) > self._limit_bytes:
                full, self._file = self._file, self._begin()
                full.close()
                self._size_bytes = 0
            self._size_bytes += self._file.write(data)

    def close(self) -> None:
        self._file.close()
