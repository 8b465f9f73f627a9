"""What a node remembers: from any index it gives exactly the rest, or says that it cannot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixard.errors import Code
from blixard.machine.changes import Batch, Event
from blixard.wire.recent import RecentEvents
from blixard.wire.status import Refused

SIZES = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 4)), max_size=40)
"""Of batches: how much further the index is than before, and how many events."""


def event(index: int, number: int = 0) -> Event:
    return Event(index, 0, "vm", f"vm-{number}", "vm-running", "", "node-1", "ReportVm")


def batches(sizes: list[tuple[int, int]]) -> list[Batch]:
    index, made = 0, []
    for further, count in sizes:
        index += further
        made.append(Batch(index, tuple(event(index, number) for number in range(count))))
    return made


@given(SIZES, st.integers(1, 12), st.integers(0, 3))
def test_a_resumed_watch_gets_exactly_the_rest(
    sizes: list[tuple[int, int]], most: int, gaps: int
) -> None:
    recent, told = RecentEvents(most), batches(sizes)
    restored = {len(told) // 2} if gaps == 1 and told else set()
    for number, batch in enumerate(told):
        recent.take(Batch(batch.index, is_gap=True) if number in restored else batch)
    kept = [batch for number, batch in enumerate(told) if number not in restored]
    all_events = [one for batch in kept for one in batch.events]
    last = told[-1].index if told else 0
    for since in range(last + 2):
        rest = [one for one in all_events if one.index > since]
        if since >= recent.first_index:
            assert list(recent.after(since)) == rest
        else:
            with pytest.raises(Refused) as caught:
                recent.after(since)
            assert caught.value.rejected.code is Code.EVENTS_GONE
            assert f"the first index known is {recent.first_index}" in str(caught.value)
    remembered = list(recent.after(recent.first_index))
    largest = max((len(batch.events) for batch in told), default=0)
    assert len(remembered) <= max(most, largest)
    if not restored and len(all_events) <= most:
        assert recent.first_index == 0


@given(SIZES, st.integers(0, 20))
def test_the_last_events_are_of_whole_indexes(sizes: list[tuple[int, int]], count: int) -> None:
    recent, told = RecentEvents(1_000), batches(sizes)
    for batch in told:
        recent.take(batch)
    wanted = [one for batch in told for one in batch.events if one.subject != "vm-0"]
    last = list(recent.last(count, lambda one: one.subject != "vm-0"))
    assert last == wanted[len(wanted) - len(last) :]
    assert len(last) >= min(count, len(wanted))
    if last:
        first = last[0].index
        assert [one for one in wanted if one.index == first] == [
            one for one in last if one.index == first
        ]
        assert len([one for one in last if one.index > first]) < count
