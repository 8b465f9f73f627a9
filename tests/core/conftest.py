"""Options and settings of the core's tests."""

import pytest
from hypothesis import HealthCheck, settings

from core.world import World

settings.register_profile(
    "core", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("core")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite",
        action="store_true",
        help="write the golden files that are missing; a file that exists is never changed",
    )


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--rewrite", default=False))


@pytest.fixture(params=range(4), ids=lambda seed: f"seed{seed}")
def world(request: pytest.FixtureRequest) -> World:
    """Three nodes that have joined and do nothing yet."""
    return World(request.param)
