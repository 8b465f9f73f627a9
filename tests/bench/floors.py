"""What a commit cannot do without, measured alone on the same disk."""

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path


def of_disk(directory: Path) -> dict[str, Callable[[], object]]:
    """The durable writes, by name."""
    database = sqlite3.connect(directory / "floor.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE floor (entry BLOB)")
    file = os.open(directory / "floor", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def append() -> None:
        os.write(file, bytes(512))
        os.fdatasync(file)

    def transaction() -> None:
        database.execute("INSERT INTO floor VALUES (?)", (bytes(512),))

    return {"512 bytes appended, fdatasync": append, "SQLite FULL transaction": transaction}


def timed(once: Callable[[], object]) -> float:
    """How long it takes, in milliseconds."""
    began = time.perf_counter()
    once()
    return (time.perf_counter() - began) * 1000
