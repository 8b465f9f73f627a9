"""Whether what clients were told of VMs has an explanation: a checker of linearizability.

A history is linearizable if each operation can be given one moment between its beginning and its
end so that the answers are those of a VM table that does one thing at a time (Herlihy and Wing,
"Linearizability", 1990). That holds of all VMs if it holds of each, so they are checked one by one.
The search is Wing and Gong's ("Testing and Verifying Concurrent Objects", 1993) with Lowe's two
savings ("Testing for linearizability", 2017): configurations are remembered, and an operation takes
effect no earlier than an answer demands. Accepted commands take effect in the order of the log.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import le
from typing import Final

from blixard.model import (
    Accepted,
    Wanted,
)
from blixard.policy import Policy
from blixard.sim.operations import Absent, Answer, Call, Operation, Seen, Verb
from blixard.sim.vm_specification import VmState, answered, unanswered

__all__ = [
    "Absent", "Answer", "Call", "Operation", "Seen", "Undecided", "Verb", "Violation", "check",
]  # fmt: skip

BUDGET: Final = 500_000
"""How many configurations of one VM are looked at before its history is left undecided."""
SHOWN: Final = 12
"""How many of a history's last operations a violation prints."""

Passed = dict[int, Operation | None]
"""For each `begun`, which of the operations answered before it was told the highest index."""


@dataclass(frozen=True, slots=True)
class Violation:
    """The answer of `operation` has no explanation."""

    vm: str
    operation: Operation
    why: str
    history: tuple[Operation, ...] = ()
    """What had begun when `operation` was answered. Without that answer there is an explanation."""

    def __str__(self) -> str:
        lines = [f"  {one}" for one in self.history[-SHOWN:]]
        if len(self.history) > SHOWN:
            lines.insert(0, f"  ({len(self.history) - SHOWN} earlier operations)")
        return "\n".join([f'VM "{self.vm}": {self.operation}', self.why, *lines])


@dataclass(frozen=True, slots=True)
class Undecided:
    """The operations on `vm` can be ordered in more ways than the budget allows to look at."""

    vm: str
    looked_at: int


def check(operations: Sequence[Operation], budget: int = BUDGET) -> Violation | Undecided | None:
    """None if the history is linearizable. `budget` counts configurations of each VM."""
    stamps = [stamp for one in operations for stamp in (one.begun, one.ended) if stamp is not None]
    assert len(set(stamps)) == len(stamps), "a stamp is used once"
    ordered = sorted(operations, key=lambda one: one.begun)
    passed = _passed(ordered)
    fault = _shared_index(ordered) or _index_out_of_time(ordered, passed)
    if fault is not None:
        return fault
    undecided = None
    for vm in sorted({one.vm for one in ordered}):
        found = _Search([one for one in ordered if one.vm == vm], passed, budget).run()
        if isinstance(found, Violation):
            return found
        undecided = undecided or found
    return undecided


def _passed(ordered: Sequence[Operation]) -> Passed:
    passed: Passed = {}
    ends = sorted(
        ((one.ended, one) for one in ordered if one.ended is not None and one.index),
        reverse=True,
    )
    highest: Operation | None = None
    for one in ordered:
        while ends and ends[-1][0] < one.begun:
            ended = ends.pop()[1]
            highest = ended if highest is None or ended.index > highest.index else highest
        passed[one.begun] = highest
    return passed


def _shared_index(ordered: Sequence[Operation]) -> Violation | None:
    """Two VMs have no index in common. Within one VM the search sees to it."""
    owners: dict[int, Operation] = {}
    for one in ordered:
        owner = owners.setdefault(one.index, one) if one.index else one
        if owner.vm != one.vm:
            why = f'Index {one.index} was told to another, of VM "{owner.vm}": {owner}'
            return Violation(one.vm, one, why)
    return None


def _index_out_of_time(ordered: Sequence[Operation], passed: Passed) -> Violation | None:
    """What began after an answer has a higher index than that answer told, whatever their VMs."""
    for one in ordered:
        before = passed[one.begun]
        if isinstance(one.answer, Accepted) and before is not None and one.index <= before.index:
            why = f'Before it began, the log had passed its index, by VM "{before.vm}": {before}'
            return Violation(one.vm, one, why)
    return None


@dataclass(frozen=True, slots=True)
class _Config:
    """One way to explain the history so far."""

    ordered: int
    """Bits of the answered operations that have taken effect."""
    state: VmState
    used: tuple[int, ...]
    """How many calls without an answer took effect, of each kind."""

    @property
    def cost(self) -> tuple[int, ...]:
        """What is lower here can only help, if all else is the same."""
        return self.state.floor, self.state.low, -self.state.high, *self.used


_Key = tuple[int, Wanted | None, Policy | None, int]


class _Configs:
    """Configurations, without those that another one makes needless."""

    def __init__(self) -> None:
        self._by_key: dict[_Key, dict[tuple[int, ...], _Config]] = {}

    def __iter__(self) -> Iterator[_Config]:
        return (one for same in self._by_key.values() for one in same.values())

    def add(self, new: _Config) -> bool:
        """Whether it is of use."""
        state = new.state
        same = self._by_key.setdefault((new.ordered, state.wanted, state.policy, state.uid), {})
        cost = new.cost
        if any(all(map(le, old, cost)) for old in same):
            return False
        for old in [old for old in same if all(map(le, cost, old))]:
            del same[old]
        same[cost] = new
        return True


class _Search:
    """Goes through the answers of one VM in their order, and keeps all ways to explain them."""

    def __init__(self, ordered: list[Operation], passed: Passed, budget: int) -> None:
        self._history = ordered
        self._passed = passed
        self._budget = budget
        self._looked_at = 0
        known = [one for one in ordered if not one.unknown]
        self._bits = {one.begun: 1 << number for number, one in enumerate(known)}
        self._returns = sorted(known, key=lambda one: one.ended or 0)
        accepted = [one for one in known if isinstance(one.answer, Accepted)]
        accepted.sort(key=lambda one: one.index)
        self._turns = {
            later.begun: self._bits[earlier.begun] for earlier, later in pairwise(accepted)
        }
        """For an accepted command the bit of the one before it in the log."""
        kinds: dict[object, list[Operation]] = {}
        for one in ordered:
            if one.unknown and one.call.verb is not Verb.READ:
                kinds.setdefault(one.call.effect, []).append(one)
        self._kinds = list(kinds.values())
        """Those without an answer, by what they ask. The first to begin is as good as any later."""
        self._sets = {
            calls[0].call.policy: kind
            for kind, calls in enumerate(self._kinds)
            if calls[0].call.verb is Verb.SET
        }
        """Which of these kinds sets a policy. Only reads tell it, so it is set right before one."""

    def run(self) -> Violation | Undecided | None:
        explained = [_Config(0, VmState(), (0,) * len(self._kinds))]
        for count, due in enumerate(self._returns):
            assert due.ended is not None, "what was answered has ended"
            pending = [one for one in self._returns[count:] if one.begun < due.ended]
            reached = self._reach(due, pending, explained)
            explained = [one for one in reached if self._has(one, due)]
            if self._looked_at > self._budget:
                return Undecided(due.vm, self._looked_at)
            if not explained:
                states = sorted({str(one.state) for one in reached})
                why = f"No order explains this. Before it the VM was {' or '.join(states)}."
                begun = tuple(one for one in self._history if one.begun < due.ended)
                return Violation(due.vm, due, why, begun)
        return None

    def _has(self, config: _Config, due: Operation) -> bool:
        return bool(config.ordered & self._bits[due.begun])

    def _reach(
        self, due: Operation, pending: Sequence[Operation], before: Sequence[_Config]
    ) -> _Configs:
        """What can be reached by taking pending operations, until the due one is among them."""
        reached = _Configs()
        work = deque(one for one in before if reached.add(one))
        while work and self._looked_at <= self._budget:
            config = work.popleft()
            self._looked_at += 1
            if not self._has(config, due):
                work.extend([one for one in self._steps(config, due, pending) if reached.add(one)])
        return reached

    def _steps(
        self, config: _Config, due: Operation, pending: Sequence[Operation]
    ) -> list[_Config]:
        """Where one more operation leads. One that changes nothing can always be taken first."""
        steps = []
        for one in pending:
            bit = self._bits[one.begun]
            turn = self._turns.get(one.begun, 0)
            if config.ordered & bit or turn & ~config.ordered:
                continue
            ordered = config.ordered | bit
            for state in self._outcomes(config.state, one, due):
                if state == config.state and not one.forgotten:
                    return [replace(config, ordered=ordered)]
                steps.append(_Config(ordered, state, config.used))
            steps.extend(self._set_before(config, one, due))
        for kind, calls in enumerate(self._kinds):
            taken = config.used[kind]
            if calls[0].call.verb is not Verb.SET and self._is_left(config, kind, due):
                after = self._effect(config.state, calls[taken])
                if after is not None:
                    steps.append(_Config(config.ordered, after, _one_more(config.used, kind)))
        return steps

    def _is_left(self, config: _Config, kind: int, due: Operation) -> bool:
        """Whether one more call of this kind can have taken effect."""
        calls, taken = self._kinds[kind], config.used[kind]
        return taken < len(calls) and calls[taken].begun < (due.ended or 0)

    def _set_before(self, config: _Config, one: Operation, due: Operation) -> Iterator[_Config]:
        """A read that saw a policy which one more call without an answer may have set."""
        answer, state = one.answer, config.state
        if not isinstance(answer, Seen) or not state.there or answer.policy == state.policy:
            return
        kind = self._sets.get(answer.policy)
        if kind is not None and self._is_left(config, kind, due):
            after = answered(replace(state, policy=answer.policy), one)
            if after is not None:
                ordered = config.ordered | self._bits[one.begun]
                yield _Config(ordered, after, _one_more(config.used, kind))

    def _outcomes(self, state: VmState, one: Operation, due: Operation) -> Iterator[VmState]:
        """What may have become of the VM by an answered operation."""
        after = self._effect(state, one) if one.forgotten else answered(state, one)
        if after is not None:
            yield after
        if one.forgotten and one is due:
            yield state

    def _effect(self, state: VmState, one: Operation) -> VmState | None:
        before = self._passed[one.begun]
        return unanswered(state, one.call, before.index if before is not None else 0)


def _one_more(used: tuple[int, ...], kind: int) -> tuple[int, ...]:
    return (*used[:kind], used[kind] + 1, *used[kind + 1 :])
