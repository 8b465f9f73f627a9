"""What the rounds of a campaign have shown: a line of JSON each, and a table of them all."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

COLUMNS: Final = (
    *("fault", "rounds", "moved", "not", "p50 s", "p99 s", "max s", "back s"),
    *("overlaps", "needless", "last tick ms", "resets", "stuck"),
)


@dataclass
class Round:
    """One fault, from its beginning until the cluster was well again."""

    number: int
    fault: str
    host: str
    """The host that was struck; "all" if all were."""
    was_leader: bool
    guaranteed: bool
    """Whether every host had a watchdog."""
    sources: str
    """What was tested: the name of the layer that holds the project."""
    moved: list[dict[str, Any]] = field(default_factory=list)
    """VMs of struck hosts that began anew: `vm`, `source`, `target`, `seconds` since the fault."""
    registered_s: float | None = None
    """When the struck host was first accepted again, since the fault; None unless it rebooted."""
    unmoved: list[str] = field(default_factory=list)
    """VMs that should have come to run elsewhere, and have not while the fault lasted."""
    overlaps: list[dict[str, Any]] = field(default_factory=list)
    needless: list[dict[str, Any]] = field(default_factory=list)
    """Guests that ended although the fault was none of theirs: `vm`, `host`, `after_ms`."""
    last_ticks: list[dict[str, Any]] = field(default_factory=list)
    """Guests of struck hosts that ended: `vm`, `host`, and `ms` after the end of the lease, which
    is negative if they ended in time."""
    resets: list[str] = field(default_factory=list)
    """Hosts that the watchdog has reset, or that have rebooted by themselves: none but those that
    were frozen should have."""
    well_again_s: float = 0.0
    """From the end of the fault on."""
    stuck: str = ""
    """What was still wrong when patience ended."""
    pause_ms: int = 0
    """The oracle's longest pause: a guest of a shorter life may not have been seen."""

    @property
    def is_bad(self) -> bool:
        """Whether a promise was broken."""
        late = any(tick["ms"] > 0 for tick in self.last_ticks)
        reset = self.resets and self.fault != "freeze"
        return bool(self.overlaps or self.needless or self.unmoved or late or reset or self.stuck)


class Record:
    """The rounds in a file. Those of other sources stay in it, and do not count."""

    def __init__(self, path: Path, sources: str) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        rounds = [Round(**json.loads(line)) for line in lines]
        self.rounds = [one for one in rounds if one.sources == sources]

    def add(self, one: Round) -> None:
        self.rounds.append(one)
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(one)) + "\n")

    @property
    def evidence(self) -> Path:
        """The folder for the journals of rounds that went wrong."""
        return self._path.with_suffix(".evidence")


def table(rounds: Sequence[Round]) -> str:
    """The summary: a row for each fault, one for each kind of host, and one for all."""
    faults = sorted({one.fault for one in rounds})
    rows = [
        list(COLUMNS),
        *(_row(fault, [one for one in rounds if one.fault == fault]) for fault in faults),
        _row("the leader's host", [one for one in rounds if one.was_leader]),
        _row("another host", [one for one in rounds if not one.was_leader]),
        _row("all", rounds),
    ]
    widths = [max(len(row[number]) for row in rows) for number in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _row(title: str, rounds: Sequence[Round]) -> list[str]:
    seconds = sorted(_elsewhere(rounds))
    back = list(_back(rounds))
    ticks = [tick["ms"] for one in rounds for tick in one.last_ticks]
    return [
        title,
        str(len(rounds)),
        str(len(seconds)),
        str(sum(len(one.unmoved) for one in rounds)),
        *(f"{_percentile(seconds, share):.1f}" if seconds else "-" for share in (0.5, 0.99, 1)),
        f"{max(back):.1f}" if back else "-",
        str(sum(len(one.overlaps) for one in rounds)),
        str(sum(len(one.needless) for one in rounds)),
        str(max(ticks)) if ticks else "-",
        str(sum(len(one.resets) for one in rounds)),
        str(sum(bool(one.stuck) for one in rounds)),
    ]


def _elsewhere(rounds: Sequence[Round]) -> Iterator[float]:
    for one in rounds:
        for move in one.moved:
            if move["source"] != move["target"]:
                yield move["seconds"]


def _back(rounds: Sequence[Round]) -> Iterator[float]:
    """How long VMs took to run again on the host that they had, since it was accepted."""
    for one in rounds:
        for move in one.moved:
            if move["source"] == move["target"] and one.registered_s is not None:
                yield move["seconds"] - one.registered_s


def _percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that so many are not above."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
