"""Times and sizes, for people and for programs."""

import time
from itertools import pairwise
from typing import Final

_STEPS: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def rfc3339(at_ms: int) -> str | None:
    """A time in UTC with milliseconds, as RFC 3339 writes it; None for a time that is not known."""
    if not at_ms:
        return None
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_ms / 1000))
    return f"{whole}.{at_ms % 1000:03d}Z"


def clock_time(at_ms: int, now_ms: int) -> str:
    """A time on the user's clock, with its date unless that is today."""
    at, now = time.localtime(at_ms / 1000), time.localtime(now_ms / 1000)
    if at[:3] == now[:3]:
        return time.strftime("today %H:%M:%S", at)
    return time.strftime("%d %b %H:%M" if at.tm_year == now.tm_year else "%d %b %Y %H:%M", at)


def age(at_ms: int, now_ms: int) -> str:
    """How long ago, in its largest unit: `38s`, `4m`, `12d`."""
    seconds = max(0, now_ms - at_ms) // 1000
    for unit, size in _STEPS:
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return "0s"


def span(duration_ms: int) -> str:
    """How long, in two units: `0.8s`, `38s`, `1m 12s`, `1h 47m`."""
    if duration_ms < 10_000:
        return f"{duration_ms / 1000:.1f}s"
    seconds = duration_ms // 1000
    for (unit, size), (minor, small) in pairwise(_STEPS):
        if seconds >= size:
            return f"{seconds // size}{unit} {seconds % size // small}{minor}"
    return f"{seconds}s"


def memory(mib: int) -> str:
    """An amount of memory: `512 MiB`, `20 GiB`, `19.5 GiB`."""
    if mib < 1024:
        return f"{mib} MiB"
    return f"{gib(mib)} GiB"


def gib(mib: int) -> str:
    """GiB with one digit after the point, if it is not 0."""
    return f"{mib / 1024:.1f}".removesuffix(".0")


def count(number: int, noun: str) -> str:
    """A number and its noun: `1 VM`, `4 VMs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
