"""What a crash leaves on the disk, at each moment at which it can matter."""

import shutil
from itertools import count
from pathlib import Path
from sqlite3 import Connection
from typing import Any, NoReturn

from blixard.raft.store import SqliteStore
from schedules.ours import Ours


def crashes_of(member: Ours, target: Path) -> list[Path]:
    """From now on: copies of the files before each statement, before each mark and after it."""
    assert member.folder is not None
    store, source = member.store, member.folder
    assert isinstance(store, SqliteStore)
    copies: list[Path] = []
    numbers = count()

    def crash(_statement: str = "") -> None:
        copies.append(shutil.copytree(source, target / str(next(numbers))))

    write_mark = store.write_mark

    def marked(slot: int, mark: bytes) -> None:
        crash()
        write_mark(slot, mark)
        crash()

    store.write_mark = marked  # type: ignore[method-assign]
    store._database.set_trace_callback(crash)
    return copies


def is_an_error(*_: object) -> NoReturn:
    """In the place of a call that must never be made."""
    raise AssertionError("this is never to be called")


class Loose:
    """A database without transactions: each statement stands for itself."""

    def __init__(self, database: Connection) -> None:
        self._database = database

    def execute(self, statement: str, *arguments: Any) -> Any:
        if statement not in ("BEGIN IMMEDIATE", "COMMIT"):
            return self._database.execute(statement, *arguments)
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)
