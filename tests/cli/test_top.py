"""`blixard top`: the picture, its text, and one frame of it."""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from blixard.cli import top, top_feed
from blixard.cli.top_feed import Feed
from blixard.cli.top_frame import Canvas, Line, as_text, frame
from blixard.cli.top_picture import Known, Picture, entries_per_s, picture
from blixard.cli.top_view import View, placed
from blixard.wire.client import Client
from cli.conftest import Run
from cli.fake_node import NOW_MS, FakeNode, a_vm, no_leader
from cli.some_cluster import known, some_answers, some_events

SMALL = Canvas(80, 24)
ONCE = """\
cluster c1  degraded  2 of 3 nodes up  can lose none  22:13:58
leader node-1  term 3  index 41
NODES   STATE   ROLE      LEASE  CPU             MEMORY GiB          VMS  NOTE
node-1  up      leader     7.6s  █████░░░░░ 4/8  ██░░░░░░░░ 2.5/16     2
node-2  silent  follower   4.2s  ░░░░░░░░░░ 0/8  ░░░░░░░░░░ 0/16       0  not heard for 4.2s
node-3  up      follower   7.6s  ██████████ 8/8  ██████████ 15.9/16    9
VMS     STATE    NODE    CPU   MEMORY  SINCE  NOTE
batch   failed   -         1  512 MiB    38s  is failed
broken  running  node-1    1  512 MiB    38s  guest fails: connection refused
ci      pending  -         4   16 GiB    38s  is pending
db      running  node-1    1   18 GiB    38s  tied to node-1: it has volumes
spare   stopped  -         1  512 MiB    38s  is stopped
EVENTS
22:13:40  ci needs 16 GiB, and no node has that free
22:13:49  node-2 is silent (leader)
"""
NARROW = """\
NODES   STATE   ROLE      LEASE  CPU       MEMORY GiB    VMS  NOTE
node-1  up      leader     7.6s  ██░░ 4/8  █░░░ 2.5/16     2
node-2  silent  follower   4.2s  ░░░░ 0/8  ░░░░ 0/16       0  not heard for 4.2s
node-3  up      follower   7.6s  ████ 8/8  ████ 15.9/16    9
"""


def drawn(now: Picture, view: View | None = None, canvas: Canvas = SMALL) -> list[Line]:
    return frame(now, placed(view or View(), now), canvas)


def test_one_frame_as_text() -> None:
    assert as_text(frame(picture(known(), NOW_MS, 2000), View(), Canvas())) + "\n" == ONCE


def test_a_small_terminal_is_filled_and_never_overrun() -> None:
    lines = as_text(drawn(picture(known(), NOW_MS, 2000))).split("\n")
    assert len(lines) == 24
    assert max(map(len, lines)) == 80
    assert lines[0] == f"{ONCE.splitlines()[0].rpartition('  ')[0]:70}  22:13:58"
    assert lines[2:6] == NARROW.splitlines()
    assert lines[6:15] == ONCE.splitlines()[6:]
    assert lines[-1].startswith("/ filter  s sort:name  enter detail")


@pytest.mark.parametrize("width", [1, 20, 40, 60, 79, 132])
@pytest.mark.parametrize("height", [1, 3, 6, 10, 50])
def test_any_size_is_kept_to(width: int, height: int) -> None:
    events = some_events() * 9
    for state in (known(events=events), known(trouble="no leader"), Known()):
        now = picture(state, NOW_MS, 2000)
        lines = as_text(drawn(now, canvas=Canvas(width, height))).split("\n")
        assert len(lines) == height
        assert max(map(len, lines)) <= width


def test_many_rows_are_seen_through_a_window_that_follows_the_cursor() -> None:
    answers = some_answers()
    many = [a_vm(f"vm-{number:03}") for number in range(200)]
    now = picture(known(answers=replace(answers, vms=many)), NOW_MS, 2000)
    lines = as_text(drawn(now)).split("\n")
    assert lines[6].startswith("VMS 1-13/200  STATE")
    assert lines[7].startswith("vm-000")
    assert [line.partition(" ")[0] for line in lines[20:]] == [
        "EVENTS",
        "22:13:40",
        "22:13:49",
        "/",
    ]
    last = View(cursor=("vm", "vm-199"))
    lines = as_text(drawn(now, last)).split("\n")
    assert "VMS 188-200/200" in lines[6]
    assert lines[19].startswith("vm-199")


def test_where_a_terminal_has_no_unicode_bars_are_ascii() -> None:
    text = as_text(frame(picture(known(), NOW_MS, 2000), View(), Canvas(80, 24, unicode=False)))
    assert "#... 2.5/16" in text
    assert text.isascii()


# --- what is old says so --------------------------------------------------------------------------


def test_an_old_picture_is_dim_and_tells_its_age() -> None:
    now = picture(known(trouble="no leader: 1 of 3 nodes answers"), NOW_MS + 14_000, 2000)
    lines = drawn(now)
    text = as_text(lines).split("\n")
    assert text[0].startswith("cluster c1  was degraded  ")
    assert text[0].endswith("  last picture 14 s old")
    assert text[2] == "no leader: 1 of 3 nodes answers"
    looks = {style for line in [*lines[1:2], *lines[3:]] for _, style in line}
    assert looks == {"dim"}
    assert ("last picture 14 s old", "reverse") in lines[0]


def test_a_picture_is_old_if_nothing_was_heard_for_two_intervals() -> None:
    assert not picture(known(), NOW_MS + 5_000, 2000).stale
    assert picture(known(), NOW_MS + 5_001, 2000).stale


def test_the_word_of_one_node_is_told_as_such() -> None:
    answers = some_answers()
    answers.status.as_of.linearizable = False
    answers.status.leader_id = 0
    now = picture(known(answers=answers, trouble="no leader is known"), NOW_MS, 2000)
    text = as_text(drawn(now)).split("\n")
    assert text[0].startswith("cluster c1  no leader stands for this  ")
    assert text[0].endswith("  as node-1 knows it")
    assert text[1:3] == ["no leader known  term 3  index 41", "no leader is known"]


def test_before_anything_answered_nothing_is_claimed() -> None:
    text = as_text(drawn(picture(Known(trouble="no node answers"), NOW_MS, 2000)))
    assert text.startswith("no picture yet")
    assert "no node answers" in text
    assert "node-1" not in text


def test_how_fast_the_log_grows() -> None:
    before, after = some_answers(), some_answers()
    after.status.commit_index += 12
    after = replace(after, at_ms=NOW_MS + 2000)
    assert entries_per_s(before, after) == 6.0
    assert entries_per_s(None, after) is None
    assert entries_per_s(after, replace(before, at_ms=NOW_MS + 4000)) is None
    after.status.cluster_id = "another"
    assert entries_per_s(before, after) is None


# --- the feed -------------------------------------------------------------------------------------


class Heard:
    """What a feed has told."""

    def __init__(self) -> None:
        self.told: list[Known] = []

    def __call__(self, known: Known) -> None:
        self.told.append(known)

    def until(self, holds: Any) -> Known:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for one in list(self.told):
                if holds(one):
                    return one
            time.sleep(0.01)
        raise AssertionError(f"never told: {self.told[-1:]}")


@pytest.fixture
def heard(node: FakeNode) -> Iterator[Heard]:
    """What a feed on the fake node tells."""
    heard = Heard()
    feed = Feed(lambda: Client([node.socket], timeout_ms=200), 50, heard)
    feed.start()
    yield heard
    feed.stop()


def test_a_look_that_fails_keeps_the_picture_and_says_why(node: FakeNode, heard: Heard) -> None:
    first = heard.until(lambda one: one.answers is not None)
    assert first.trouble == ""
    node.script["GetClusterStatus"] = [no_leader] * 99
    second = heard.until(lambda one: one.trouble)
    assert second.answers is not None
    assert second.answers.status.as_of.linearizable
    node.script["GetClusterStatus"] = []
    told = len(heard.told)
    heard.until(lambda one: one in heard.told[told:] and not one.trouble)


def test_without_a_leader_from_the_start_one_node_is_believed(node: FakeNode) -> None:
    node.leader = "127.0.0.1:1"
    node.vms = {"web": a_vm("web")}
    heard = Heard()
    feed = Feed(lambda: Client([node.socket], timeout_ms=200), 50, heard)
    feed.start()
    told = heard.until(lambda one: one.answers is not None)
    feed.stop()
    assert told.answers is not None
    assert not told.answers.status.as_of.linearizable
    assert [vm.name for vm in told.answers.vms] == ["web"]
    assert told.trouble


def test_events_are_heard_as_they_happen(node: FakeNode, heard: Heard) -> None:
    heard.until(lambda one: one.answers is not None)
    for event in some_events():
        node.events.append(event)
        told = heard.until(lambda one, event=event: event in one.events)
        assert told.deaf == ""


# --- the verb -------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "now_ms", lambda: NOW_MS)
    monkeypatch.setattr(top_feed, "now_ms", lambda: NOW_MS)


@pytest.mark.usefixtures("clock")
def test_once_prints_a_frame(ask: Run, node: FakeNode) -> None:
    answers = some_answers()
    node.events = list(some_events())
    node.nodes, node.vms = list(answers.status.nodes), {vm.name: vm for vm in answers.vms}
    ran = ask("top", "--once")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == ONCE


@pytest.mark.usefixtures("clock")
def test_once_for_programs(ask: Run, node: FakeNode) -> None:
    node.vms = {"a": a_vm("a"), "b": a_vm("b", "pending")}
    node.events = list(some_events())
    told = json.loads(ask("top", "--once", "-o", "json").out)
    assert told["schema"] == "blixard.v1/top"
    assert told["cluster"]["leader_id"] == 1
    assert [(vm["name"], vm["as_wanted"]) for vm in told["vms"]] == [("b", False), ("a", True)]
    assert told["vms"][0]["since"] == "2023-11-14T22:13:20.000Z"
    assert [(event["subject"], event["actor"]) for event in told["events"]] == [
        ("ci", None),
        ("node-2", "leader"),
    ]


def test_once_without_a_leader_is_a_failure(ask: Run, node: FakeNode) -> None:
    node.script["GetClusterStatus"] = [no_leader] * 99
    ran = ask("top", "--once", "--timeout", "100ms", "-q")
    assert (ran.code, ran.out) == (5, "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "error[BLX-2001]: the live view needs a terminal"),
        ("-o json", 'message": "\\"top\\" does not print as json"'),
        ("--once -o name", 'error[BLX-2001]: "top" does not print as name'),
        ("--interval 10ms", "error[BLX-2050]: --interval: 10ms is too short"),
        ("--interval 2", '"2" is no duration'),
    ],
)
def test_wrong_usage(ask: Run, arguments: str, told: str) -> None:
    ran = ask("top", *arguments.split())
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err


def test_without_textual_the_way_out_is_told(ask: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(top, "find_spec", lambda _: None)
    ran = ask("top")
    assert ran.code == 2
    assert "needs textual" in ran.err
    assert "fix: blixard top --once" in ran.err
    assert "pip install textual" in ran.err
