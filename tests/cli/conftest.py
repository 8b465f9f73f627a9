"""A fake node, and the command line in this process or in one of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from blixard.cli import main, vm_view
from cli.fake_node import NOW_MS, FakeNode

BLIXARD = (str(Path(sys.executable).with_name("blixard")),)


@dataclass(frozen=True)
class Ran:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    with FakeNode(tmp_path / "api.sock") as served:
        yield served


@pytest.fixture
def other(tmp_path: Path) -> Iterator[FakeNode]:
    with FakeNode(tmp_path / "other.sock") as served:
        yield served


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same shell, clock and time zone everywhere."""
    for name in ("BLIXARD_ADDRESS", "COLUMNS", "NO_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(vm_view, "now_ms", lambda: NOW_MS)
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process."""

    def run_here(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["blixard", *arguments])
        code = main()
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run_here


@pytest.fixture
def ask(run: Run, node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line in this process, against the fake node."""
    monkeypatch.setenv("BLIXARD_ADDRESS", node.socket)
    return run


def spawn(*arguments: str, stdin: int | None = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """The installed command, in a process of its own."""
    return subprocess.Popen(
        [*BLIXARD, *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
