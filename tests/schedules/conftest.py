from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from blixard.raft import store
from schedules.ours import Ours
from schedules.stock import Stock
from schedules.subject import Make, Subject


@pytest.fixture(autouse=True)
def small_wal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little room in the WAL, so that journals are copied fast."""
    monkeypatch.setattr(store, "WAL_BYTES", 1)


def _making(subject: Callable[[int, int, Path | None], Subject]) -> Iterator[Make]:
    made: list[Subject] = []

    def make(node_id: int = 1, members: int = 3, folder: Path | None = None) -> Subject:
        made.append(subject(node_id, members, folder))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def stock() -> Iterator[Make]:
    """Makes members that run the untouched library."""
    yield from _making(Stock)


@pytest.fixture(params=[False, True], ids=["between-turns", "during-a-write"])
def ours(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes members that run our engine, and hear messages at one time or the other."""
    yield from _making(partial(Ours, is_writing=request.param))


@pytest.fixture
def weakened() -> Iterator[Make]:
    """Makes members that run our engine; the test takes one of its rules away."""
    yield from _making(Ours)
