"""What becomes of a proposal, and who waits for it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Applied:
    """It is durable on a majority and applied here; `result` is what the machine returned."""

    index: int
    result: object = None


@dataclass(frozen=True, slots=True)
class NotLeader:
    """It was not appended, or another entry took its place for ever. Ask `leader_id`, if known."""

    leader_id: int | None


@dataclass(frozen=True, slots=True)
class Refused:
    """It was not appended, and says why in words for a person."""

    reason: str


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """It was appended, and may still take effect, or may have."""

    reason: str


Outcome = Applied | NotLeader | Refused | OutcomeUnknown
Done = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class _Waiter:
    term: int
    deadline_s: float
    done: Done


class Waiters:
    """Those who wait for entries of this leader, and the outcomes that are decided by now.

    Every `done` is handed out exactly once, by `take`, and called by the engine when all that led
    to the outcome is durable.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, list[_Waiter]] = {}
        self._decided: list[tuple[Done, Outcome]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, index: int, term: int, deadline_s: float, done: Done) -> None:
        """Wait for the entry that was appended at `index` in `term`."""
        self._waiting.setdefault(index, []).append(_Waiter(term, deadline_s, done))

    def decided(self, done: Done, outcome: Outcome) -> None:
        """Nothing is to be waited for."""
        self._decided.append((done, outcome))

    def applied(self, index: int, term: int, result: object, leader_id: int | None) -> None:
        """The entry of `term` is applied at `index`, and no other one ever will be."""
        for waiter in self._waiting.pop(index, ()):
            same = waiter.term == term
            self.decided(waiter.done, Applied(index, result) if same else NotLeader(leader_id))

    def skipped(self, index: int) -> None:
        """A snapshot took the place of all entries up to `index`."""
        for skipped in sorted(waited for waited in self._waiting if waited <= index):
            for waiter in self._waiting.pop(skipped):
                self.decided(waiter.done, OutcomeUnknown("this node fell behind its successor"))

    def expire(self, now_s: float) -> None:
        """Give up on those whose deadline has passed."""
        for index in list(self._waiting):
            late = [waiter for waiter in self._waiting[index] if waiter.deadline_s <= now_s]
            if not late:
                break  # all have the same patience, so those behind have time left as well
            for waiter in late:
                self.decided(waiter.done, OutcomeUnknown("no majority has confirmed it in time"))
            left = [waiter for waiter in self._waiting[index] if waiter.deadline_s > now_s]
            if left:
                self._waiting[index] = left
            else:
                del self._waiting[index]

    def abandon(self, reason: str) -> None:
        """The engine stops."""
        for index in sorted(self._waiting):
            for waiter in self._waiting.pop(index):
                self.decided(waiter.done, OutcomeUnknown(reason))

    def take(self) -> list[tuple[Done, Outcome]]:
        """All outcomes that were decided since the last time, to be told when what led to them is
        durable."""
        decided, self._decided = self._decided, []
        return decided
