"""The live view without a terminal: Textual's pilot presses the keys, a fake node answers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from textual.pilot import Pilot

from blixard.cli import top_app
from blixard.cli.top_app import Screenful, Top
from blixard.cli.top_feed import Feed
from blixard.cli.top_fetch import Fetcher
from blixard.cli.top_picture import Known
from blixard.v1 import blixard_pb2 as pb
from blixard.wire.client import Client
from cli.fake_node import NOW_MS, FakeNode, no_leader
from cli.some_cluster import known, some_answers, some_events

DEADLINE_S = 10.0


def screen(app: Top) -> list[str]:
    """What the terminal would show."""
    screenful = app.query_one(Screenful)
    return [screenful.render_line(y).text.rstrip() for y in range(app.size.height)]


async def until(pilot: Pilot[None], holds: Callable[[list[str]], bool]) -> list[str]:
    """Wait until the screen is as wanted."""
    assert isinstance(pilot.app, Top)
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        await pilot.pause(0.02)
        seen = screen(pilot.app)
        if holds(seen):
            return seen
    raise AssertionError("\n".join(screen(pilot.app)))


def never(page: str, name: str, tell: Callable[[Sequence[str]], None]) -> Callable[[], None]:
    raise AssertionError(f"{page} of {name} is not to be fetched: {tell}")


def played(
    story: Callable[[Pilot[None], Top], Awaitable[None]],
    *,
    app: Top | None = None,
    size: tuple[int, int] = (80, 24),
) -> None:
    """Run a story in an app that knows some cluster."""
    app = app or Top(2000, never, unicode=True, color=True)

    async def play() -> None:
        async with app.run_test(size=size) as pilot:
            await story(pilot, app)

    asyncio.run(play())


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_app, "now_ms", lambda: NOW_MS)


def test_what_is_told_is_drawn_and_keys_move_in_it() -> None:
    async def story(pilot: Pilot[None], app: Top) -> None:
        assert screen(app)[0].startswith("no picture yet")
        app.heard(known())
        seen = await until(pilot, lambda seen: seen[0].startswith("cluster c1  degraded"))
        assert seen[7].startswith("batch   failed")
        await pilot.press("slash", "c", "i", "enter")
        seen = await until(pilot, lambda seen: seen[6].startswith("VMS /ci"))
        assert seen[7].startswith("ci ")
        assert seen[8] == "EVENTS"
        await pilot.press("enter")
        await until(pilot, lambda seen: seen[2:4] == ["detail ci", "ci: pending"])
        await pilot.press("escape", "question_mark")
        await until(pilot, lambda seen: seen[2] == "help")

    played(story)


def test_it_fits_into_a_terminal_that_changes_its_size() -> None:
    async def story(pilot: Pilot[None], app: Top) -> None:
        app.heard(known())
        await until(pilot, lambda seen: len(seen) == 24 and "q quit" in seen[23])
        await pilot.resize_terminal(120, 10)
        seen = await until(pilot, lambda seen: len(seen) == 10 and "q quit" in seen[9])
        assert "█████░░░░░ 4/8" in seen[3]

    played(story)


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
def test_keys_that_end_it(key: str) -> None:
    async def story(pilot: Pilot[None], app: Top) -> None:
        await pilot.press(key)
        await pilot.pause()
        assert app._exit

    played(story)


def test_colors_are_the_terminals_own_sixteen_and_can_be_left_out() -> None:
    def looks(app: Top) -> list[str]:
        strips = map(app.query_one(Screenful).render_line, range(app.size.height))
        return [str(segment.style) for strip in strips for segment in strip]

    async def colorful(pilot: Pilot[None], app: Top) -> None:
        app.heard(known())
        await until(pilot, lambda seen: seen[0].startswith("cluster c1"))
        assert {"red", "green", "yellow", "bold", "dim"} < set(looks(app))
        assert not [look for look in looks(app) if "#" in look]

    async def colorless(pilot: Pilot[None], app: Top) -> None:
        app.heard(known())
        await until(pilot, lambda seen: seen[0].startswith("cluster c1"))
        assert {"bold", "dim"} < set(looks(app))
        assert not [look for look in looks(app) if "red" in look or "green" in look]

    played(colorful)
    played(colorless, app=Top(2000, never, unicode=True, color=False))


# --- with a node behind it ------------------------------------------------------------------------


@contextmanager
def live(node: FakeNode) -> Iterator[Top]:
    def open_client() -> Client:
        return Client([node.socket], timeout_ms=300)

    app = Top(100, Fetcher(open_client), unicode=True, color=True)
    feed = Feed(open_client, 100, app.heard)
    app.call_later(feed.start)
    yield app
    feed.stop()


def a_degraded(node: FakeNode) -> None:
    answers = some_answers()
    node.nodes, node.vms = list(answers.status.nodes), {vm.name: vm for vm in answers.vms}
    node.events = list(some_events())


def test_a_lost_leader_is_seen_and_so_is_the_next(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_degraded(node)
    monkeypatch.undo()

    async def story(pilot: Pilot[None], app: Top) -> None:
        await until(pilot, lambda seen: "can lose none" in seen[0] and "is silent" in seen[14])
        node.script["GetClusterStatus"] = [no_leader] * 999
        seen = await until(pilot, lambda seen: "last picture " in seen[0])
        assert seen[2] == "no leader: 0 of 3 nodes answer, 2 are needed"
        await until(pilot, lambda seen: "last picture 2 s old" in seen[0])
        node.script["GetClusterStatus"] = []
        await until(pilot, lambda seen: "degraded" in seen[0] and "last" not in seen[0])

    with live(node) as app:
        played(story, app=app)


def test_why_is_asked_when_the_page_is_opened(node: FakeNode) -> None:
    a_degraded(node)
    explained = pb.ExplainVmResponse(headline="batch failed: see its log")
    node.script["ExplainVm"] = [lambda _request, _context: explained]

    async def story(pilot: Pilot[None], app: Top) -> None:
        await until(pilot, lambda seen: seen[7].startswith("batch"))
        assert not node.called("ExplainVm")
        await pilot.press("w")
        seen = await until(pilot, lambda seen: "batch failed" in seen[3])
        assert seen[2] == "why batch"
        assert [request.name for request in node.called("ExplainVm")] == ["batch"]

    with live(node) as app:
        played(story, app=app)


def test_what_a_node_refuses_is_shown_on_the_page(node: FakeNode) -> None:
    a_degraded(node)
    node.script["ExplainVm"] = [no_leader] * 99

    async def story(pilot: Pilot[None], app: Top) -> None:
        await until(pilot, lambda seen: seen[7].startswith("batch"))
        await pilot.press("w")
        await until(pilot, lambda seen: seen[3].startswith("no leader: 0 of 3 nodes"))

    with live(node) as app:
        played(story, app=app)


def test_nothing_known_is_nothing_drawn() -> None:
    async def story(pilot: Pilot[None], app: Top) -> None:
        app.heard(Known(trouble="no node answers"))
        seen = await until(pilot, lambda seen: "no node answers" in seen[2])
        assert seen[4] == "not known"

    played(story)
