"""`--watch`: a list that stays up to date; as JSON, a line for every change."""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from blixard.cli.cluster_view import node_json, show_nodes
from blixard.cli.connect import connected
from blixard.cli.events import response_json
from blixard.cli.output import emit_json_line
from blixard.cli.terminal import Options
from blixard.cli.vm_view import NONE_YET, as_json, show_list, summary

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb

CLEARED = "\033[H\033[2J"
"""Redraws begin at the top of an empty screen."""


def watch_vms(wanted: Callable[[str], bool], options: Options) -> None:
    """`vm list --watch`: the VMs whose names are wanted."""
    known: dict[str, pb.Vm] = {}

    def draw(as_of: "pb.AsOf") -> None:
        vms = [known[name] for name in sorted(known)]
        show_list(vms, as_of, options)
        if options.output in ("table", "wide"):
            options.talk(summary(vms, as_of) if vms else NONE_YET)

    _watch("vm", known, wanted, as_json, draw, options)


def watch_nodes(options: Options) -> None:
    """`node list --watch`."""
    known: dict[str, pb.Node] = {}

    def draw(as_of: "pb.AsOf") -> None:
        from blixard.v1 import blixard_pb2 as pb

        nodes = sorted(known.values(), key=lambda node: node.node_id)
        show_nodes(pb.GetClusterStatusResponse(nodes=nodes, as_of=as_of), options)

    _watch("node", known, lambda _: True, node_json, draw, options)


def _watch(
    kind: Literal["vm", "node"],
    known: dict[str, Any],
    wanted: Callable[[str], bool],
    described: Callable[[Any], Mapping[str, Any]],
    draw: Callable[["pb.AsOf"], None],
    options: Options,
) -> None:
    """Follow the objects of a kind in `known`, and show it whenever it is complete."""
    from blixard.v1 import blixard_pb2 as pb

    options.after_interrupt = "stopped watching"
    is_complete = False
    with connected(options) as client:
        for response in client.watch(pb.WatchRequest(objects=True)):
            thing = getattr(response, kind) if response.HasField(kind) else None
            name = thing.name if thing is not None else response.name
            match response.type:
                case "put" if thing is not None and wanted(name):
                    known[name] = thing
                case "delete" if response.kind == kind and wanted(name):
                    known.pop(name, None)
                case "put" | "delete" | "event":
                    continue
                case "reset":
                    known.clear()
                    is_complete = False
                case "synced":
                    is_complete = True
            if options.output == "json":
                emit_json_line("watch", _line(response, kind, name, described))
            elif is_complete:
                _clear()
                draw(pb.AsOf(index=response.index, linearizable=True))
                sys.stdout.flush()


def _line(
    response: "pb.WatchResponse",
    kind: str,
    name: str,
    described: Callable[[Any], Mapping[str, Any]],
) -> Mapping[str, Any]:
    match response.type:
        case "put":
            about = {"kind": kind, "name": name, "initial": response.initial}
            return {**response_json(response), **about, kind: described(getattr(response, kind))}
        case "delete":
            return {**response_json(response), "kind": kind, "name": name}
        case _:
            return response_json(response)


def _clear() -> None:
    """On a pipe the tables follow one another."""
    if sys.stdout.isatty():
        sys.stdout.write(CLEARED)
