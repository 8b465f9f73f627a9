from collections.abc import Iterator
from pathlib import Path

import pytest

from blixard.raft import store
from raft.lab import Lab


@pytest.fixture(autouse=True)
def small_wal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little room in the WAL, so that journals are copied fast and a flipped bit finds its mark.
    Writers in processes of their own have all of it."""
    monkeypatch.setattr(store, "WAL_BYTES", 1)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Engines whose journals are on a real disk."""
    lab = Lab(tmp_path)
    yield lab
    lab.close()
