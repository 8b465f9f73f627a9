"""What a guest or a build has written to a file, as lines, and what it goes on to write."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from io import FileIO
from pathlib import Path

from blixard.drivers.console import end_of_file, plain
from blixard.ports import OutputLine

_LOOK_EVERY_S = 0.1
_READ_BYTES = 65_536
_BACK_BYTES = 4 * 1024 * 1024
"""How far back the last lines are looked for, in each of a file and the one before it."""
_LINE_BYTES = 65_536


class LineBuffer:
    """Cuts what comes in pieces into lines."""

    def __init__(self, limit_bytes: int = _LINE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._rest = b""

    def add(self, data: bytes) -> list[bytes]:
        """The lines that are whole now; one that gets too long is cut."""
        limit = self._limit_bytes
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > limit:
            lines, self._rest = [*lines, self._rest], b""
        return [line[at : at + limit] for line in lines for at in range(0, len(line) or 1, limit)]

    def end(self) -> list[bytes]:
        """What has no end yet, as a line."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


class FollowedFile:
    """A file that grows, and that a new one takes the place of at times: see `RotatedFile`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._buffer = LineBuffer()

    def last(self, limit: int) -> list[bytes]:
        """The last lines, also of the file before; what is read from then on comes after them."""
        before = end_of_file(self._path.with_name(f"{self._path.name}.1"), _BACK_BYTES)
        lines = self._buffer.add(before)
        if self._open():
            assert self._file is not None
            size = os.fstat(self._file.fileno()).st_size
            self._file.seek(max(0, size - _BACK_BYTES))
            lines += self._buffer.add(self._file.read(min(size, _BACK_BYTES)))
        return lines[-limit:] if limit else []

    def skip(self) -> None:
        """Only what is written from now on is read."""
        if self._open():
            assert self._file is not None
            self._file.seek(0, os.SEEK_END)

    def more(self) -> list[bytes] | None:
        """Lines that were written since, perhaps not all; None if nothing was written."""
        data = self._file.read(_READ_BYTES) if self._file is not None else b""
        if not data and self._is_replaced() and self._file is not None:
            # It may have been written to after it was read, and before it was replaced.
            data = self._file.read(_READ_BYTES)
        if not data and self._is_replaced() and self._open():
            assert self._file is not None
            data = self._file.read(_READ_BYTES)
        return self._buffer.add(data) if data else None

    def end(self) -> list[bytes]:
        """What has no line end yet."""
        return self._buffer.end()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _is_replaced(self) -> bool:
        try:
            present = self._path.stat()
        except FileNotFoundError:
            return False
        return self._file is None or os.fstat(self._file.fileno()).st_ino != present.st_ino

    def _open(self) -> bool:
        self.close()
        try:
            self._file = FileIO(self._path)
        except FileNotFoundError:
            return False
        return True


async def lines_of(
    path: Path, limit: int | None, is_new: bool, follows: Callable[[], bool]
) -> AsyncGenerator[list[OutputLine], None]:
    """The last `limit` lines of a file, and what is added to it while `follows` says so.

    Without a limit it begins with the first line if `is_new`, else with the next that is written.
    """
    file = FollowedFile(path)
    try:
        if limit is not None:
            # Of megabytes, to make them plain takes long too.
            yield await asyncio.to_thread(lambda: _lines(file.last(limit)))
        elif not is_new:
            await asyncio.to_thread(file.skip)
        while True:
            is_last = not follows()
            while (lines := await asyncio.to_thread(file.more)) is not None:
                yield _lines(lines)
            if is_last:
                break
            await asyncio.sleep(_LOOK_EVERY_S)
        yield _lines(file.end())
    finally:
        file.close()


def _lines(lines: list[bytes]) -> list[OutputLine]:
    return [OutputLine(0, text) for line in lines for text in plain(line).split("\n")]


class LogFiles:
    """Implements `ports.Output` for logs of which each VM has one, `NAME.log` in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def lines(
        self, name: str, limit: int, epoch: int | None, follows: Callable[[], bool]
    ) -> AsyncGenerator[list[OutputLine], None]:
        begin = limit if epoch is None else None
        return lines_of(self._directory / f"{name}.log", begin, False, follows)
