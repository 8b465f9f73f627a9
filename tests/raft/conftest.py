from collections.abc import Iterator
from pathlib import Path

import pytest

from raft.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Engines whose journals are on a real disk."""
    lab = Lab(tmp_path)
    yield lab
    lab.close()
