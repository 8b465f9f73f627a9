"""What the keys of `blixard top` do, without a terminal."""

from dataclasses import replace

import pytest

from blixard.cli.top_frame import Canvas, as_text
from blixard.cli.top_pages import covered, why_page
from blixard.cli.top_picture import picture
from blixard.cli.top_view import View, placed, pressed, shown
from blixard.v1 import blixard_pb2 as pb
from cli.fake_node import NOW_MS, a_vm
from cli.some_cluster import known, some_answers

SMALL = Canvas(80, 24)
NOW = picture(known(), NOW_MS, 2000)


def after(*keys: str, view: View | None = None) -> View:
    """The view after these keys; a letter types itself."""
    view = view or View()
    for key in keys:
        view = pressed(placed(view, NOW), key, key if len(key) == 1 else None, NOW)
    return placed(view, NOW)


def test_the_cursor_is_on_the_first_vm_and_moves_over_all_rows() -> None:
    assert after().cursor == ("vm", "batch")
    assert after("j").cursor == ("vm", "broken")
    assert after("up").cursor == ("node", "node-3")
    assert after("home").cursor == after("k", "k", "k", "k").cursor == ("node", "node-1")
    assert after("end").cursor == after("pagedown").cursor == ("vm", "spare")


def test_the_cursor_stays_on_its_row_when_that_moves_and_leaves_one_that_is_gone() -> None:
    view = after("end")
    answers = some_answers()
    worse = [a_vm("spare", "failed"), *answers.vms[:4]]
    moved = picture(known(answers=replace(answers, vms=worse)), NOW_MS, 2000)
    assert placed(view, moved).cursor == ("vm", "spare")
    gone = picture(known(answers=replace(answers, vms=answers.vms[:4])), NOW_MS, 2000)
    assert placed(view, gone).cursor == ("vm", "batch")
    assert placed(replace(view, page="detail"), gone).cursor == ("vm", "spare")


def test_a_filter_is_typed_kept_and_ended() -> None:
    view = after("/", "q", "backspace", "d", "b")
    assert (view.filter, view.filtering, view.quitting) == ("db", True, False)
    assert [guest.name for guest in shown(NOW, view)] == ["db"]
    assert view.cursor == ("vm", "db")
    kept = after("enter", view=view)
    assert (kept.filter, kept.filtering) == ("db", False)
    assert after("escape", view=kept).filter == ""
    assert after("escape", view=view).filter == ""


@pytest.mark.parametrize("text", ["node-1", "refused", "RUNNING"])
def test_a_filter_looks_at_node_note_and_state(text: str) -> None:
    assert "broken" in [guest.name for guest in shown(NOW, View(filter=text))]
    assert "spare" not in [guest.name for guest in shown(NOW, View(filter=text))]


def test_whatever_the_order_what_is_not_as_wanted_comes_first() -> None:
    orders = {}
    view = View()
    for _ in range(5):
        orders[view.sort] = [guest.name for guest in shown(NOW, view)]
        view = after("s", view=view)
    assert view.sort == "name"
    assert orders["name"] == ["batch", "broken", "ci", "db", "spare"]
    assert orders["memory"] == ["batch", "ci", "broken", "db", "spare"]
    assert orders["node"] == ["batch", "ci", "broken", "spare", "db"]
    assert set(orders) == {"name", "state", "node", "since", "memory"}


def test_pages_open_over_a_row_and_turn_into_one_another() -> None:
    assert after("enter").page == "detail"
    assert after("w", "l").page == "logs"
    assert after("w", "w").page == after("e", "escape").page == after("?", "escape").page == ""
    assert after("home", "w").page == after("home", "l").page == ""
    assert after("home", "enter").page == "detail"
    assert after("q").quitting
    assert after("enter", "q").quitting
    assert after("/", "ctrl+c").quitting


# --- pages ----------------------------------------------------------------------------------------


def page(view: View, told: tuple[str, ...] = (), canvas: Canvas = SMALL) -> list[str]:
    lines, _ = covered(NOW, known(), told, view, canvas)
    return as_text(lines).split("\n")


def test_the_detail_of_a_vm_is_its_status() -> None:
    lines = page(after("j", "enter"))
    assert len(lines) == 24
    assert lines[2:5] == [
        "detail broken",
        "broken: running on node-1",
        "  Since     today 22:13:20 (38s), wanted: running",
    ]
    assert lines[-1] == "up/down scroll  esc back  q quit"


def test_the_detail_of_a_node() -> None:
    lines = page(after("home", "enter"))
    assert lines[3] == "node-1: up"
    assert "  CPU      4 of 8 vCPUs set aside" in lines
    assert "  VMs      broken, db" in lines


def test_the_events_of_a_row() -> None:
    view = after("j", "j", "e")
    assert page(view)[2:4] == ["events ci", "22:13:40  ci needs 16 GiB, and no node has that free"]
    assert page(after("e"))[3] == "no events since this began"
    long = page(view, canvas=Canvas(30, 24))
    assert long[3:5] == ["22:13:40  ci needs 16 GiB, and", "    no node has that free"]


def test_the_end_of_a_log_is_seen_first() -> None:
    told = tuple(f"line {number}" for number in range(100))
    view = after("l")
    assert page(view, told)[3] == "line 80"
    assert page(view, told)[-2] == "line 99"
    assert page(after("up", view=view), told)[-2] == "line 98"
    assert page(after("home", view=view), told)[3] == "line 0"


def test_what_a_guest_says_moves_no_cursor() -> None:
    assert page(after("l"), ("\x1b[2Jhello\x07",))[3] == "?[2Jhello?"


def test_why_is_told_node_by_node() -> None:
    finding = pb.Finding(rule="fit", text="16 GiB do not fit", refuses=True)
    answer = pb.ExplainVmResponse(
        headline="ci waits: no node can take it",
        verdicts=[
            pb.Verdict(node="node-1", findings=[finding]),
            pb.Verdict(node="node-2", rank=1, findings=[pb.Finding(rule="spread", text="empty")]),
        ],
        fixes=[pb.Fix(text="make room", command="blixard vm stop db")],
        as_of=pb.AsOf(index=41),
    )
    assert why_page(answer, NOW_MS) == [
        "ci waits: no node can take it",
        "  as of index 41, at 22:13:58",
        "node-1  refused",
        "  no  fit: 16 GiB do not fit",
        "node-2  choice 1",
        "      spread: empty",
        "fix: blixard vm stop db  make room",
    ]


def test_an_old_picture_says_so_on_every_page() -> None:
    old = picture(known(trouble="no leader"), NOW_MS + 14_000, 2000)
    for name in ("detail", "events", "why", "help"):
        lines, _ = covered(old, known(), (), View(cursor=("vm", "db"), page=name), SMALL)
        assert "last picture 14 s old" in as_text(lines[:1])
