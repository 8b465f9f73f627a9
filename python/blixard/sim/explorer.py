"""A search through everything that a small cluster can do.

The shipped engines run over links and disks in memory, and every order of what can happen is tried,
breadth first, within bounds: a message arrives, an election timeout passes, a heartbeat is due, a
client proposes, a snapshot is taken, a connection breaks, a node crashes or starts. After each step
the invariants in `explorer_rules` are checked. What is found is the shortest way to it.

A node may campaign whenever it likes, as if it had won its pre-vote long ago: more can happen than
in a cluster with clocks, and a pre-vote is no part of what keeps the log safe. With `pre_votes` the
real messages are exchanged.

Small bounds reach deep if the search does not begin at the beginning. It sets out from each of
several situations (`SEEDS`) that every cluster meets: a leader in its first term; one with entries
that have reached nobody, or only some; one that crashed or was cut off, with its successor elected;
a successor that has taken a snapshot. With `strides` an election by certain voters, or all that two
nodes have to say to each other, is one action, made of the same messages.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import msgspec

from blixard.raft import replicate, snapshot
from blixard.sim import sabotage_raft  # noqa: F401 - registers the sabotages that `explore` names
from blixard.sim.explorer_actions import (
    SEEDS,
    SPENT,
    WIDE_SEEDS,
    Action,
    Bounds,
    Script,
    act,
    possible,
)
from blixard.sim.explorer_rules import Broken, Past
from blixard.sim.explorer_steps import EMPTY, Situation, State, Steps, Violated
from blixard.sim.sabotage import Patch, changed, switched_off


@dataclass(frozen=True)
class Violation:
    """An invariant that was broken, and how to get there."""

    invariant: str
    what: str
    seed: str
    trace: tuple[str, ...]
    """What happened after the seed, in words; no search finds a shorter way by these actions."""


@dataclass(frozen=True)
class Report:
    """What a search has seen."""

    bounds: Bounds
    sabotage: str | None
    states: int
    """Distinct ones."""
    steps: int
    """Actions tried."""
    computed: int
    """Steps that an engine took; for the others it was known what it does."""
    depth: int
    """Every state that is so many actions from a seed was looked at."""
    exhausted: bool
    """Whether there is nothing more within the bounds."""
    seconds: float
    violation: Violation | None


Progress = Callable[[int, int, float], None]
"""Told now and then: distinct states, depth, seconds."""


def explore(
    bounds: Bounds, sabotage: str | None = None, progress: Progress | None = None
) -> Report:
    """Search until a violation, the end of the bounds, or all is seen."""
    with ExitStack() as stack:
        if sabotage is not None:
            stack.enter_context(switched_off(sabotage))
        stack.enter_context(
            changed(
                Patch(snapshot, "CHUNK_BYTES", bounds.chunk_bytes),
                Patch(replicate, "BATCH_BYTES", bounds.batch_bytes),
            )
        )
        return _Search(bounds, sabotage, progress).run()


_TELL_EVERY: Final = 20_000
"""States between two calls of a `Progress`."""


class _Search:
    """One search."""

    def __init__(self, bounds: Bounds, sabotage: str | None, progress: Progress | None) -> None:
        self._bounds = bounds
        self._sabotage = sabotage
        self._progress = progress
        self._steps = Steps(bounds.nodes)
        seeds = SEEDS if bounds.nodes == 3 else WIDE_SEEDS
        self._seeds = {name: seeds[name] for name in bounds.seeds or seeds}
        self._began_s = time.monotonic()
        self._tried = 0
        self._depth = 0
        self._seen: set[bytes] = set()
        self._from: list[tuple[int, Action]] = []
        """Of each state, by its number, the one that it was reached from, and by what."""
        self._reached: list[tuple[int, State]] = []
        """The number and the state of those that were not looked at yet."""

    def run(self) -> Report:
        """Search."""
        for place, script in enumerate(self._seeds.values()):
            found = self._seed(script)
            if isinstance(found, Broken):
                return self._report(self._violation(place, [], found))
            self._note(found, -1 - place, ())
        while self._reached and self._depth < self._bounds.depth:
            frontier, self._reached = self._reached, []
            for number, state in frontier:
                for action in possible(self._bounds, self._steps, state):
                    self._tried += 1
                    reached = self._after(state, action)
                    if isinstance(reached, Broken):
                        return self._report(self._traced(number, action, reached))
                    if reached is not None:
                        self._note(reached, number, action)
                if self._is_over():
                    return self._report(None)
            self._depth += 1
        return self._report(None)

    def _seed(self, script: Script, log: list[str] | None = None) -> State | Broken:
        bounds = self._bounds
        nothing: State = (
            self._steps.founders,
            (EMPTY,) * bounds.nodes**2,
            self._steps.pasts.number(Past()),
            (0,) * len(SPENT),
        )
        situation = Situation(self._steps, nothing, log)
        try:
            for node in range(1, bounds.nodes + 1):
                situation.start(node)
            for action in script:
                act(situation, action)
        except Violated as violated:
            return violated.broken
        entries, *others = situation.spent
        situation.spent = [entries, *(0 for _ in others)]
        return situation.frozen()

    def _after(
        self, state: State, action: Action, log: list[str] | None = None
    ) -> State | Broken | None:
        """The state after an action; None if it is one that is not looked at."""
        situation = Situation(self._steps, state, log)
        try:
            act(situation, action)
        except Violated as violated:
            return violated.broken
        return situation.frozen() if situation.longest <= self._bounds.in_flight else None

    def _note(self, state: State, number: int, action: Action) -> None:
        """A state was reached from the one of this number."""
        fingerprint = blake2b(msgspec.msgpack.encode(state), digest_size=16).digest()
        if fingerprint in self._seen:
            return
        self._seen.add(fingerprint)
        self._reached.append((len(self._from), state))
        self._from.append((number, action))
        if self._progress is not None and len(self._seen) % _TELL_EVERY == 0:
            self._progress(len(self._seen), self._depth, self._seconds())

    def _seconds(self) -> float:
        return time.monotonic() - self._began_s

    def _is_over(self) -> bool:
        return len(self._seen) >= self._bounds.states or self._seconds() >= self._bounds.seconds

    def _traced(self, number: int, action: Action, broken: Broken) -> Violation:
        actions = [action]
        while number >= 0:
            number, action = self._from[number]
            actions.append(action)
        return self._violation(-1 - number, actions[-2::-1], broken)

    def _violation(self, place: int, actions: list[Action], broken: Broken) -> Violation:
        name = list(self._seeds)[place]
        log: list[str] = []
        reached: State | Broken | None = self._seed(self._seeds[name], None if actions else log)
        for action in actions:
            if reached is not None and not isinstance(reached, Broken):
                reached = self._after(reached, action, log)
        return Violation(broken.invariant, broken.what, name, tuple(log))

    def _report(self, violation: Violation | None) -> Report:
        return Report(
            bounds=self._bounds,
            sabotage=self._sabotage,
            states=len(self._seen),
            steps=self._tried,
            computed=self._steps.computed,
            depth=self._depth,
            exhausted=violation is None and not self._reached,
            seconds=self._seconds(),
            violation=violation,
        )
