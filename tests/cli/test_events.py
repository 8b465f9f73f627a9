"""`blixard events` and `--watch`: lines for people and programs, and streams that are lost."""

import json
import signal
from collections.abc import Sequence
from typing import Any

import pytest

from blixard.errors import Code
from blixard.model import Rejected
from blixard.v1 import blixard_pb2 as pb
from blixard.wire.client import CallFailed, Client
from cli.conftest import Run, spawn
from cli.fake_node import SINCE_MS, Context, FakeNode, Step, a_node, a_vm, lose, refuse


def an_event(index: int, subject: str = "web", **fields: Any) -> pb.WatchResponse:
    usual: dict[str, Any] = {
        "at_ms": SINCE_MS + index,
        "kind": "vm",
        "code": "vm-running",
        "text": f"{subject} is running on node-1: its unit is active",
        "actor": "node-1",
        "cause": "ReportVm",
        "node": "node-1",
    }
    event = pb.Event(index=index, subject=subject, **(usual | fields))
    return pb.WatchResponse(type="event", index=index, event=event)


def mark(kind: str, index: int) -> pb.WatchResponse:
    return pb.WatchResponse(type=kind, index=index)


def put(thing: pb.Vm | pb.Node, index: int, *, initial: bool = False) -> pb.WatchResponse:
    kind = "vm" if isinstance(thing, pb.Vm) else "node"
    what: dict[str, Any] = {kind: thing}
    return pb.WatchResponse(type="put", index=index, initial=initial, **what)


def gone(_: object, context: Context) -> None:
    """A step: what was asked for is forgotten."""
    refuse(context, Rejected(Code.EVENTS_GONE, "what happened after index 5 is no longer known"))


FAILED = an_event(
    42,
    "db",
    code="vm-failed",
    text="db is failed: status 7\nlast words",
    actor="",
    cause="StopVm",
    node="",
    grave=True,
)
TABLE = """\
TIME              INDEX  ACTOR                 WHAT
11-14 22:13:20       41  node-1                web is running on node-1: its unit is active
11-14 22:13:20       42  -                     ! db is failed: status 7
"""
WIDE = """\
11-14 22:13:20       41  node-1                vm-running            ReportVm         node-1    \
web is running on node-1: its unit is active
"""


def test_events_are_told_in_lines(ask: Run, node: FakeNode) -> None:
    node.streams = [[an_event(41), FAILED, mark("synced", 42)]]
    ran = ask("events")
    assert (ran.code, ran.out, ran.err) == (0, TABLE, "")
    [request] = node.called("Watch")
    assert (request.finite, request.last, request.HasField("since_index")) == (True, 50, False)


def test_events_in_other_forms(ask: Run, node: FakeNode) -> None:
    story: Sequence[pb.WatchResponse | Step] = [an_event(41), mark("synced", 42)]
    node.streams = [story, story, story]
    assert ask("events", "-o", "wide", "--no-headers").out == WIDE
    assert ask("events", "-o", "name").out == "web\n"
    told = json.loads(ask("events", "-o", "json", "--since", "7", "--vm", "web").out)
    assert told["schema"] == "blixard.v1/event_list"
    assert told["as_of"]["index"] == 41
    assert told["items"] == [
        {
            "index": 41,
            "at": "2023-11-14T22:13:20.041Z",
            "kind": "vm",
            "subject": "web",
            "code": "vm-running",
            "text": "web is running on node-1: its unit is active",
            "actor": "node-1",
            "cause": "ReportVm",
            "node": "node-1",
            "grave": False,
        }
    ]
    request = node.called("Watch")[-1]
    assert (request.since_index, request.last, list(request.vms)) == (7, 0, ["web"])


def test_nothing_to_tell(ask: Run) -> None:
    ran = ask("events")
    assert (ran.code, ran.err) == (0, "no events are remembered\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--since 5 -n 7", "--since and --last both say where to begin"),
        ("--since -5", "-5 is not in the range"),
        ("--since soon", "'soon' is not a valid integer"),
    ],
)
def test_wrong_usage_of_events(ask: Run, node: FakeNode, arguments: str, told: str) -> None:
    ran = ask("events", *arguments.split())
    assert (ran.code, node.calls) == (2, [])
    assert told in ran.err


def test_what_is_forgotten_is_refused(ask: Run, node: FakeNode) -> None:
    node.streams = [[gone]]
    ran = ask("events", "--since", "5")
    assert ran.code == 3
    assert ran.err.startswith("error[BLX-3071]: what happened after index 5 is no longer known")


def test_who_asks_goes_with_changes(ask: Run, node: FakeNode) -> None:
    node.vms = {"web": a_vm("web")}
    ask("vm", "list")
    assert node.actors == []
    ask("vm", "stop", "web")
    assert len(node.actors) == 1
    assert "@" in node.actors[0]


# --- following ----------------------------------------------------------------------------------


def followed(asked: Client, count: int, **request: Any) -> list[tuple[str, int, str]]:
    """So many responses of a watch."""
    told = asked.watch(pb.WatchRequest(**request))
    found = [next(told) for _ in range(count)]
    return [(one.type, one.index, one.event.subject) for one in found]


def test_a_stream_that_is_lost_goes_on_elsewhere_without_gap_or_repetition(
    node: FakeNode, other: FakeNode
) -> None:
    # It is lost in the middle of what one index caused.
    node.streams = [[an_event(40), an_event(41, "a"), an_event(41, "b"), lose]]
    rest = [an_event(41, name) for name in "abcd"]
    other.streams = [[*rest, an_event(43, "e"), mark("synced", 43)]]
    notices: list[str] = []
    addresses = (node.socket, other.socket)
    with Client(addresses, timeout_ms=5_000, notice=notices.append) as asked:
        told = followed(asked, 7, last=50)
    assert told == [
        ("event", 40, "web"),
        ("event", 41, "a"),
        ("event", 41, "b"),
        ("event", 41, "c"),
        ("event", 41, "d"),
        ("event", 43, "e"),
        ("synced", 43, ""),
    ]
    [request] = other.called("Watch")
    assert (request.since_index, request.last) == (40, 0)
    assert notices == [
        f"{node.socket} is lost (Socket closed); trying others for 5 s",
        f"goes on at {other.socket} after index 40",
    ]


def test_a_node_that_lags_a_little_repeats_nothing(node: FakeNode, other: FakeNode) -> None:
    node.streams = [[an_event(41, "a"), an_event(41, "b"), lose]]
    # It has come to 40 when it is asked, and hears of 41 later.
    late = [an_event(41, name) for name in "abc"]
    other.streams = [[mark("synced", 40), *late]]
    with Client((node.socket, other.socket), timeout_ms=5_000) as asked:
        told = followed(asked, 4)
    assert [name for kind, _, name in told if kind == "event"] == ["a", "b", "c"]


def test_objects_are_told_anew_after_a_loss(node: FakeNode, other: FakeNode) -> None:
    node.streams = [[put(a_vm("web"), 40, initial=True), mark("synced", 40), lose]]
    other.streams = [[put(a_vm("db"), 45, initial=True), mark("synced", 45)]]
    with Client((node.socket, other.socket), timeout_ms=5_000) as asked:
        told = [kind for kind, _, _ in followed(asked, 5, objects=True)]
    assert told == ["put", "synced", "reset", "put", "synced"]


def test_events_that_are_forgotten_everywhere(node: FakeNode, other: FakeNode) -> None:
    node.streams = [[mark("synced", 5), lose], [gone], [mark("synced", 60)]]
    other.streams = [[gone]]
    with Client((node.socket, other.socket), timeout_ms=5_000) as asked:
        assert [kind for kind, _, _ in followed(asked, 3, objects=True)] == [
            "synced",
            "reset",
            "synced",
        ]
    node.streams, other.streams = [[mark("synced", 5), lose], *[[gone]] * 99], [[gone]] * 99
    with Client((node.socket, other.socket), timeout_ms=300) as asked:
        with pytest.raises(CallFailed) as caught:
            followed(asked, 2)
        assert caught.value.rejected.code is Code.EVENTS_GONE


def test_who_began_at_an_index_that_is_forgotten_begins_anew(node: FakeNode) -> None:
    node.streams = [[mark("synced", 5), lose], [gone], [mark("synced", 60)]]
    with Client((node.socket,), timeout_ms=5_000) as asked:
        assert followed(asked, 3, objects=True, since_index=3)[2] == ("synced", 60, "")
    assert not node.called("Watch")[-1].HasField("since_index")


def test_a_node_that_lags_is_passed_over(node: FakeNode, other: FakeNode) -> None:
    def lags(_: object, context: Context) -> None:
        refuse(context, Rejected(Code.BAD_ARGUMENT, "since_index: 40 is ahead of node-2"))

    node.streams = [[mark("synced", 40), lose], [an_event(41)]]
    other.streams = [[lags]]
    with Client((node.socket, other.socket), timeout_ms=5_000) as asked:
        assert followed(asked, 2)[1] == ("event", 41, "web")
    node.streams = [[lags]]
    with Client((node.socket,), timeout_ms=5_000) as asked:
        with pytest.raises(CallFailed) as caught:
            followed(asked, 1, since_index=40)
        assert caught.value.rejected.code is Code.BAD_ARGUMENT


def test_a_stream_on_which_nothing_is_heard_is_lost(
    node: FakeNode, other: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blixard.wire.client_watch.FIRST_S", 0.2)
    node.streams = [[node.hang]]
    other.streams = [[mark("synced", 40)]]
    with Client((node.socket, other.socket), timeout_ms=5_000) as asked:
        assert followed(asked, 1) == [("synced", 40, "")]


def test_following_ends_when_no_node_is_left(ask: Run, node: FakeNode) -> None:
    node.streams = [[an_event(41), lose], *[[lose]] * 99]
    ran = ask("events", "-f", "--timeout", "300ms", "-o", "json")
    assert ran.code == 5
    [line] = ran.out.splitlines()
    assert (json.loads(line)["type"], json.loads(line)["index"]) == ("event", 41)
    failed = json.loads(ran.err.splitlines()[-1])
    assert failed["code"] == "BLX-5003"
    assert failed["message"] == "no node tells what happens after index 40"


def test_following_says_on_stderr_that_it_goes_on(ask: Run, node: FakeNode) -> None:
    node.streams = [[an_event(41), lose], [an_event(42), lose], *[[lose]] * 99]
    ran = ask("events", "-f", "--timeout", "300ms", "--no-headers")
    assert [line.split()[2] for line in ran.out.splitlines()] == ["41", "42"]
    assert f"goes on at {node.socket} after index 40\n" in ran.err


def test_ctrl_c_ends_following(node: FakeNode) -> None:
    node.streams = [[an_event(41), node.hang]]
    following = spawn("events", "-f", "--no-headers", "--address", node.socket)
    assert following.stdout is not None
    assert " 41 " in following.stdout.readline()
    following.send_signal(signal.SIGINT)
    _, err = following.communicate(timeout=20)
    assert (following.returncode, err) == (130, "\nstopped following\n")


def test_a_reader_that_has_enough_ends_following(node: FakeNode) -> None:
    node.streams = [[*(an_event(index) for index in range(1, 5_000)), node.hang]]
    following = spawn("events", "-f", "--address", node.socket)
    assert following.stdout is not None
    with following:
        following.stdout.readline()
        following.stdout.close()
        assert following.wait(timeout=20) == 141


# --- lists that stay ----------------------------------------------------------------------------

STORY: Sequence[pb.WatchResponse | Step] = [
    put(a_node(1), 40, initial=True),
    put(a_vm("web"), 40, initial=True),
    put(a_vm("db"), 40, initial=True),
    mark("synced", 40),
    an_event(41),
    put(a_vm("web", "stopped"), 41),
    pb.WatchResponse(type="delete", index=42, kind="vm", name="web"),
    put(a_node(1, state="down"), 43),
    mark("heartbeat", 44),
    lose,
]


def test_vms_are_watched_by_programs(ask: Run, node: FakeNode) -> None:
    node.streams = [STORY, *[[lose]] * 99]
    ran = ask("vm", "list", "w*", "--watch", "-o", "json", "--timeout", "100ms")
    assert ran.code == 5
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert {line["schema"] for line in lines} == {"blixard.v1/watch"}
    assert [(line["type"], line["index"], line.get("name")) for line in lines] == [
        ("put", 40, "web"),
        ("synced", 40, None),
        ("put", 41, "web"),
        ("delete", 42, "web"),
        ("heartbeat", 44, None),
    ]
    first, _, second, *_ = lines
    assert (first["kind"], first["initial"], first["vm"]["state"]) == ("vm", True, "running")
    assert (second["initial"], second["vm"]["state"]) == (False, "stopped")


def test_nodes_are_watched(ask: Run, node: FakeNode) -> None:
    node.streams = [STORY, *[[lose]] * 99]
    ran = ask("node", "list", "--watch", "--timeout", "100ms", "--no-headers")
    assert [line.split()[:2] for line in ran.out.splitlines()] == [
        ["node-1", "up"],
        ["node-1", "down"],
        ["node-1", "down"],
    ]
    node.streams = [STORY, *[[lose]] * 99]
    ran = ask("node", "list", "--watch", "--timeout", "100ms", "-o", "json")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [line["node"]["state"] for line in lines if line["type"] == "put"] == ["up", "down"]


def test_vms_are_watched_by_people(ask: Run, node: FakeNode) -> None:
    node.streams = [STORY, *[[lose]] * 99]
    ran = ask("vm", "list", "--watch", "--timeout", "100ms", "--no-headers")
    lines = [line.split()[:2] for line in ran.out.splitlines()]
    assert lines[:2] == [["db", "running"], ["web", "running"]]
    assert lines[2:4] == [["db", "running"], ["web", "stopped"]]
    assert lines[4:] == [["db", "running"]] * 2
    assert "2 VMs: 2 running" in ran.err
