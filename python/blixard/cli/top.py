"""`blixard top`: a cluster at a glance, live in a terminal, or one frame of it."""

import os
import sys
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, Final

import click

from blixard.cli import flags
from blixard.cli.cluster_view import cluster_json
from blixard.cli.connect import addresses, connected
from blixard.cli.events import event_json
from blixard.cli.failure import Failure, failure
from blixard.cli.output import emit, emit_json
from blixard.cli.terminal import Options, in_color, is_unicode, width_of
from blixard.cli.top_feed import PATIENCE_MS, Feed, last_events, look
from blixard.cli.top_frame import Canvas, as_text, frame
from blixard.cli.top_picture import Known, is_as_wanted, picture
from blixard.cli.top_view import View, shown
from blixard.cli.vm_view import as_json, now_ms
from blixard.errors import Code
from blixard.model import Fix, Rejected

SHORTEST_MS: Final = 200
EVENTS: Final = 10
"""How many of the last events one frame tells."""


@click.command()
@click.option(
    "--interval", "interval_ms", type=flags.duration, default="2s", help="How often to look (2s)."
)
@click.option("--once", is_flag=True, help="Print one frame as text, for scripts and reports.")
@flags.shared
@click.pass_obj
def top(options: Options, interval_ms: int, once: bool) -> None:
    """The cluster live: nodes, VMs (those that are not as wanted first), events, the log.

    It changes nothing. The key ? lists the keys, q quits.

    \b
    blixard top
    blixard top --interval 500ms
    blixard top --once -o json
    """
    if interval_ms < SHORTEST_MS:
        message = f"--interval: {interval_ms}ms is too short"
        raise failure(Code.BAD_ARGUMENT, message, fix=f"write at least {SHORTEST_MS}ms")
    if options.output not in (("table", "json") if once else ("table",)):
        raise failure(
            Code.USAGE,
            f'"top" does not print as {options.output}',
            fix="one frame as JSON",
            command="blixard top --once -o json",
        )
    if once:
        with connected(options) as client:
            answers = look(client)
            _show_once(replace(last_events(client, EVENTS), answers=answers), options)
    else:
        _refuse_without_terminal()
        _live(options, interval_ms)


def _show_once(known: Known, options: Options) -> None:
    now = picture(known, now_ms(), SHORTEST_MS)
    if options.output == "json":
        emit_json("top", _json(known, [guest.name for guest in shown(now, View())]))
        return
    canvas = Canvas(width_of(sys.stdout), unicode=is_unicode(sys.stdout))
    emit(as_text(frame(now, View(), canvas)))


def _json(known: Known, order: list[str]) -> dict[str, Any]:
    assert known.answers is not None
    vms = {vm.name: vm for vm in known.answers.vms}
    return {
        "cluster": cluster_json(known.answers.status),
        "vms": [{**as_json(vms[name]), "as_wanted": is_as_wanted(vms[name])} for name in order],
        "events": [event_json(event) for event in known.events],
    }


def _refuse_without_terminal() -> None:
    once = Fix("print one frame as text", "blixard top --once")
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if not on_terminal or os.environ.get("TERM", "dumb") == "dumb":
        rejected = Rejected(
            Code.USAGE,
            "the live view needs a terminal",
            why="it draws on the whole screen, and listens to keys",
            fixes=(once,),
        )
        raise Failure(rejected)
    if find_spec("textual") is None:
        rejected = Rejected(
            Code.USAGE,
            "the live view needs textual, a Python library that is not installed",
            why="nothing else of Blixard needs it, so it may be left out",
            fixes=(once, Fix("or install it beside blixard", "pip install textual")),
        )
        raise Failure(rejected)


def _live(options: Options, interval_ms: int) -> None:
    from blixard.cli.top_app import Top
    from blixard.cli.top_fetch import Fetcher
    from blixard.wire.client import Client

    asked = addresses(options)
    timeout_ms = options.timeout_ms or PATIENCE_MS

    def open_client() -> Client:
        return Client(asked, timeout_ms=timeout_ms)

    view = Top(
        interval_ms,
        Fetcher(open_client),
        unicode=is_unicode(sys.stdout),
        color=in_color(sys.stdout, options),
    )
    feed = Feed(open_client, interval_ms, view.heard)
    view.call_later(feed.start)
    try:
        view.run(mouse=False)
    finally:
        feed.stop()
