"""Whole hosts as NixOS renders them, compared with what was read and kept."""

import pytest

from nix.conftest import Evaluate
from nix.golden import GOLDEN, rendered


@pytest.mark.parametrize("configuration", ["everything", "minimal", "three-node"])
def test_a_host_is_rendered_as_before(
    evaluate: Evaluate, request: pytest.FixtureRequest, configuration: str
) -> None:
    """If a change is meant: `pytest tests/nix --render` writes the files anew."""
    text = rendered(evaluate("golden")[configuration])
    if request.config.getoption("--render", default=False):
        (GOLDEN / configuration).write_text(text)
    assert text == (GOLDEN / configuration).read_text()
