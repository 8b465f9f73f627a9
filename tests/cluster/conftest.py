"""A cluster of three real daemons, and runners that need no QEMU."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.loopback import LoopbackCluster, three_nodes
from cluster.runners import flake_of_runner

COUNT = """count=0
while [ ! -e stop ]; do
  count=$((count + 1))
  echo "count $count"
  sleep 0.2
done
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LoopbackCluster]:
    """Three nodes, ready."""
    with three_nodes(tmp_path) as cluster:
        yield cluster


@pytest.fixture
def counting(tmp_path: Path) -> str:
    """A folder whose guest counts on its console until it is asked to stop."""
    return flake_of_runner(tmp_path / "counting", COUNT)
