"""`blixard events`: what has happened, who asked for it, and what happens now."""

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from blixard.cli import flags
from blixard.cli.connect import connected
from blixard.cli.failure import failure
from blixard.cli.output import emit_json, emit_json_line, emit_now
from blixard.cli.terminal import Options, cut, harmless, styled, width_of
from blixard.cli.units import rfc3339
from blixard.cli.vm_view import as_of_json
from blixard.errors import Code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blixard.v1 import blixard_pb2 as pb

LAST = 50
_LINE = "{:14}  {:>7}  {:20}  {}"
_WIDE = "{:14}  {:>7}  {:20}  {:20}  {:15}  {:8}  {}"


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on, and tell what happens as it happens.")
@click.option(
    "--since",
    type=click.IntRange(min=0),
    metavar="INDEX",
    help="All after this index, as an earlier event or answer had it.",
)
@click.option(
    "-n",
    "--last",
    type=click.IntRange(min=0),
    metavar="COUNT",
    help=f"Begin with so many ({LAST}), or a few more: what one entry caused comes together.",
)
@click.option("--vm", "vms", multiple=True, metavar="NAME", help="Only of this VM; repeatable.")
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NODE",
    help="Only what concerns this node; repeatable.",
)
@flags.stale
@flags.no_headers
@flags.shared
@click.pass_obj
def events(
    options: Options,
    /,
    follow: bool,
    since: int | None,
    last: int | None,
    vms: tuple[str, ...],
    nodes: tuple[str, ...],
    stale: bool,
) -> None:
    """Tell what has happened to VMs and nodes, and who asked for it.

    With --follow, another node is asked when one is lost, and nothing is left out.

    \b
    blixard events --vm web
    blixard events --follow --since 48213
    blixard events -f -o json
    """
    if since is not None and last is not None:
        message = "--since and --last both say where to begin"
        raise failure(Code.USAGE, message, fix="leave one of the two out")
    from blixard.v1 import blixard_pb2 as pb

    request = pb.WatchRequest(since_index=since, finite=not follow, vms=vms, nodes=nodes)
    if since is None:
        request.last = LAST if last is None else last
    with connected(options) as client:
        if follow:
            options.after_interrupt = "stopped following"
            _follow(client.watch(request), options)
            return
        # Whoever leads has seen all that was ever acknowledged.
        as_of = client.cluster_status(stale=stale).as_of
        told = [one.event for one in client.watch(request) if one.type == "event"]
    if options.output == "json":
        items = [event_json(event) for event in told]
        emit_json("event_list", {"items": items, "as_of": as_of_json(as_of)})
        return
    _headers(options)
    for event in told:
        show_event(event, options)
    if not told:
        options.talk("no events that this node remembers" if stale else "no events are remembered")


def _follow(responses: "Iterator[pb.WatchResponse]", options: Options) -> None:
    if options.output != "json":
        _headers(options)
    for response in responses:
        if options.output == "json":
            emit_json_line("watch", response_json(response))
        elif response.type == "event":
            show_event(response.event, options)


def response_json(response: "pb.WatchResponse") -> Mapping[str, Any]:
    """One line of a stream, of what is no object."""
    if response.type == "event":
        return {"type": "event", **event_json(response.event)}
    return {"type": response.type, "index": response.index}


def event_json(event: "pb.Event") -> Mapping[str, Any]:
    """An event without its schema; what is not known is null."""
    return {
        "index": event.index,
        "at": rfc3339(event.at_ms),
        "kind": event.kind,
        "subject": event.subject,
        "code": event.code,
        "text": event.text,
        "actor": event.actor or None,
        "cause": event.cause or None,
        "node": event.node or None,
        "grave": event.grave,
    }


def _headers(options: Options) -> None:
    if options.no_headers or options.output == "name":
        return
    if options.output == "wide":
        emit_now(_WIDE.format("TIME", "INDEX", "ACTOR", "CODE", "CAUSE", "NODE", "WHAT"))
    else:
        emit_now(_LINE.format("TIME", "INDEX", "ACTOR", "WHAT"))


def show_event(event: "pb.Event", options: Options) -> None:
    """An event as a line; one that a person should look at has a mark, and a color."""
    if options.output == "name":
        emit_now(event.subject)
        return
    at = time.strftime("%m-%d %H:%M:%S", time.localtime(event.at_ms / 1000))
    what = harmless(event.text.partition("\n")[0])
    what = f"! {what}" if event.grave else what
    actor = harmless(event.actor) or "-"
    if options.output == "wide":
        cause, node = event.cause, event.node or "-"
        line = _WIDE.format(at, event.index, actor, event.code, cause, node, what)
    else:
        line = _LINE.format(at, event.index, actor, what)
    limit = width_of(sys.stdout)
    if limit is not None:
        line = cut(line, limit, sys.stdout)
    emit_now(styled(line, "red" if event.grave else "", sys.stdout, options))
