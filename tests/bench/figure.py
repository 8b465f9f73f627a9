"""How figures are printed: one line each."""

import statistics
from collections.abc import Sequence


def show(what: str, times_ms: Sequence[float]) -> None:
    """The middle of many durations, and the one that 1 in 100 exceeds."""
    p50, p99 = statistics.median(times_ms), statistics.quantiles(times_ms, n=100)[98]
    print(f"{what}: p50 {p50:.2f} ms, p99 {p99:.2f} ms, of {len(times_ms)}", flush=True)


def show_all(what: str, values: Sequence[float]) -> None:
    """The middle and the greatest of a few values."""
    middle, most = statistics.median(values), max(values)
    print(f"{what}: median {middle:.2f}, most {most:.2f}, of {len(values)}", flush=True)
