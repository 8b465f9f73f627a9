"""The caller's end of a console: who is there, and that leaving never depends on a node."""

import getpass

import pytest

from blixard.cli.console_session import Session
from blixard.cli.terminal import Options


def test_who_has_no_name_here_sits_at_a_console_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr(getpass, "getuser", nobody)
    monkeypatch.setattr("os.getuid", lambda: 1234)
    opened = next(Session("web", b"\x1d", Options())._typed()).open
    assert opened.by.startswith("1234@")
