"""The lab of the systemd hosts, for every test below this folder."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from hosts.lab import Lab, open_lab
from hosts.layers import CACHE, hosts_layers

NAMES = ("node1", "node2", "node3", "node4")

OpenLab = Callable[[Mapping[str, Mapping[str, str]]], Lab]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("hosts")


@pytest.fixture(scope="session")
def layers() -> Iterator[list[Path]]:
    """What every host is made of."""
    assert os.geteuid() == 0, "hosts are namespaces, mounts and cgroups: run these tests as root"
    with hosts_layers() as layers:
        yield layers


@pytest.fixture(scope="module")
def new_lab(layers: list[Path]) -> Iterator[OpenLab]:
    """Opens a lab of four hosts, with files on their disks; it lasts as long as the module."""
    with ExitStack() as closing:
        yield lambda files: closing.enter_context(open_lab(layers, CACHE / "runs", NAMES, files))
