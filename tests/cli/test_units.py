"""Times and sizes."""

import pytest

from blixard.cli import units

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000


@pytest.mark.parametrize(
    ("ago_ms", "shown"),
    [
        (-5 * SECOND, "0s"),
        (999, "0s"),
        (38 * SECOND, "38s"),
        (4 * MINUTE + 59 * SECOND, "4m"),
        (23 * HOUR, "23h"),
        (400 * DAY, "400d"),
    ],
)
def test_ages_have_one_unit(ago_ms: int, shown: str) -> None:
    assert units.age(1_700_000_000_000 - ago_ms, 1_700_000_000_000) == shown


@pytest.mark.parametrize(
    ("duration_ms", "shown"),
    [
        (0, "0.0s"),
        (820, "0.8s"),
        (38 * SECOND, "38s"),
        (72 * SECOND, "1m 12s"),
        (107 * MINUTE, "1h 47m"),
        (25 * HOUR, "1d 1h"),
    ],
)
def test_spans_have_two_units(duration_ms: int, shown: str) -> None:
    assert units.span(duration_ms) == shown


@pytest.mark.parametrize(
    ("mib", "shown"), [(512, "512 MiB"), (1024, "1 GiB"), (1536, "1.5 GiB"), (20480, "20 GiB")]
)
def test_memory(mib: int, shown: str) -> None:
    assert units.memory(mib) == shown


def test_times_are_told_as_shortly_as_they_are_clear() -> None:
    now_ms = 1_700_000_038_000
    assert units.clock_time(now_ms - 38 * SECOND, now_ms) == "today 22:13:20"
    assert units.clock_time(now_ms - DAY, now_ms) == "13 Nov 22:13"
    assert units.clock_time(now_ms - 365 * DAY, now_ms) == "14 Nov 2022 22:13"
    assert units.rfc3339(now_ms + 7) == "2023-11-14T22:13:58.007Z"
    assert units.rfc3339(0) is None
