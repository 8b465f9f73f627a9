"""What this node remembers of what has happened: the last events, by the log's index."""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import dropwhile
from typing import Final

from blixard.errors import Code
from blixard.machine.changes import Batch, Event
from blixard.model import Fix, Rejected
from blixard.wire.status import Refused

MOST_EVENTS: Final = 10_000
"""Some megabytes, and days of a cluster that is well."""


class RecentEvents:
    """The last events, in the order of the log. All of one index are there, or none of them."""

    def __init__(self, most: int = MOST_EVENTS) -> None:
        self._most = most
        self._batches: deque[Batch] = deque()
        self._count = 0
        self.first_index = 0
        """Whoever has seen all up to here, or more, has missed nothing that is forgotten."""

    def take(self, batch: Batch) -> None:
        """Remember what came after all the rest."""
        if batch.is_gap:
            self._batches.clear()
            self._count, self.first_index = 0, batch.index
        elif batch.events:
            self._batches.append(batch)
            self._count += len(batch.events)
            while self._count > self._most and len(self._batches) > 1:
                oldest = self._batches.popleft()
                self._count -= len(oldest.events)
                self.first_index = oldest.index

    def after(self, index: int) -> Sequence[Event]:
        """All events after `index`. Raises `Refused` if some of them are forgotten."""
        if index < self.first_index:
            raise self._gone(index)
        if not self._batches or self._batches[-1].index <= index:
            return ()
        found = dropwhile(lambda batch: batch.index <= index, self._batches)
        return [event for batch in found for event in batch.events]

    def last(self, count: int, wanted: Callable[[Event], bool]) -> Sequence[Event]:
        """The last `count` events that are wanted, or a few more: all of one index, or none."""
        found: list[Event] = []
        for batch in reversed(self._batches):
            if len(found) >= count:
                break
            found[:0] = filter(wanted, batch.events)
        return found

    def _gone(self, index: int) -> Refused:
        return Refused(
            Rejected(
                Code.EVENTS_GONE,
                f"what happened after index {index} is no longer known here; "
                f"the first index known is {self.first_index}",
                why=f"a node remembers {self._most} events, and after a restart those since its "
                "last snapshot",
                fixes=(
                    Fix("go on from there", f"blixard events --since {self.first_index}"),
                    Fix("or see how things are now", "blixard vm list"),
                ),
            )
        )
