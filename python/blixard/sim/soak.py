"""Many seeds on all cores, with a record that later runs add to.

A record belongs to one state of the sources: where those have changed, what was proved of the old
ones does not count, and the campaign begins at its first seed again.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from itertools import islice, repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import blixard
from blixard.sim.faults import KINDS
from blixard.sim.plan import draw
from blixard.sim.rules import switched_off
from blixard.sim.run import Result, Simulation

MINUTES: Final = 2.0
CHECKPOINT_SEEDS: Final = 20
"""The record is written after so many seeds."""


@dataclass(slots=True)
class Record:
    """What a campaign has found so far."""

    sources: str
    """The digest of the sources that were simulated."""
    first: int
    done: int = 0
    """How many seeds, from `first` on."""
    simulated_s: float = 0.0
    acknowledged: int = 0
    struck: dict[str, int] = field(default_factory=dict)
    hashes: list[str] = field(default_factory=list)
    """The first digits of each trace hash."""
    failures: list[list[str]] = field(default_factory=list)
    """Seed, invariant and what was seen."""

    def add(self, result: Result) -> None:
        """Count one more seed."""
        self.done += 1
        self.hashes.append(result.trace_hash[:8])
        self.simulated_s += result.simulated_s
        self.acknowledged += result.acknowledged
        self.struck = dict(sorted((Counter(self.struck) + Counter(result.struck)).items()))
        for violation in result.violations:
            self.failures.append([str(result.plan.seed), violation.invariant, violation.what])


def sources() -> str:
    """A digest of all that is simulated, and of what simulates it."""
    digest = blake2b(digest_size=16)
    folder = Path(blixard.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def one(seed: int, without: str | None = None) -> Result:
    """One history of two minutes, all options drawn from its seed. `without` switches a rule
    off."""
    plan = draw(seed, list(KINDS), minutes=MINUTES)
    with switched_off(without) if without else nullcontext():
        return Simulation(plan).run()


def results(seeds: Sequence[int], jobs: int, without: str | None = None) -> Iterator[Result]:
    """The results of seeds, in their order, from as many processes as `jobs`."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(one, seeds, repeat(without), chunksize=2)


def soak(
    first: int,
    count: int,
    jobs: int,
    path: Path | None,
    tell: Callable[[Record], None],
    without: str | None = None,
) -> Record:
    """Run `count` seeds from `first` on, less those that the record in `path` has already."""
    record = Record(f"{sources()} {without or ''}".strip(), first)
    if path is not None and path.exists():
        known = Record(**json.loads(path.read_text()))
        if (known.sources, known.first) == (record.sources, first):
            record = known
    found = results(range(first + record.done, first + count), jobs, without)
    while batch := list(islice(found, CHECKPOINT_SEEDS)):
        for result in batch:
            record.add(result)
        if path is not None:
            _write(path, record)
        tell(record)
    return record


def as_dict(record: Record) -> dict[str, Any]:
    """The record as a program reads it."""
    return asdict(record)


def _write(path: Path, record: Record) -> None:
    """Replace the record at once, so that an interrupted run leaves the one before."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(as_dict(record), indent=1) + "\n")
    beside.replace(path)
    failing = sorted({int(failure[0]) for failure in record.failures})
    path.with_suffix(".failed").write_text("".join(f"{seed}\n" for seed in failing))
