"""`blixard cluster`: who belongs to it, and how a node comes and goes."""

from typing import TYPE_CHECKING

import click

from blixard.cli import flags
from blixard.cli.cluster_view import show_json, show_page
from blixard.cli.connect import CHANGE_MS, addresses, connected
from blixard.cli.failure import failure
from blixard.cli.lazy import Noun
from blixard.cli.output import emit, emit_json
from blixard.cli.question import confirm
from blixard.cli.terminal import Options
from blixard.errors import Code

if TYPE_CHECKING:
    from blixard.wire.client import Client


@click.group(cls=Noun)
def cluster() -> None:
    """Look at the cluster, join it, leave it."""


@cluster.command()
@flags.stale
@flags.no_headers
@flags.shared
@click.pass_obj
def status(options: Options, stale: bool) -> None:
    """The cluster at a glance, node by node."""
    with connected(options) as client:
        seen = client.cluster_status(stale=stale)
    match options.output:
        case "json":
            show_json(seen)
        case "name":
            for node in seen.nodes:
                emit(node.name)
        case _:
            show_page(seen, options)


@cluster.command()
@click.argument("address")
@flags.shared
@click.pass_obj
def join(options: Options, address: str) -> None:
    """Tell this host's node, which belongs to no cluster yet, to join through the node at ADDRESS.

    A node that was started with --peer joins by itself.

    \b
    blixard cluster join 10.0.0.1:7001
    """
    with connected(options, CHANGE_MS) as client:
        joined = client.join_through(address)
    if options.output == "json":
        emit_json("cluster_joined", {"cluster_id": joined.cluster_id, "through": address})
    else:
        emit(f"joined cluster {joined.cluster_id} through {address}")


@cluster.command()
@click.option("--node", "node_id", type=int, help="The node that leaves (this host's).")
@flags.request_id
@flags.asking
@flags.shared
@click.pass_obj
def leave(options: Options, node_id: int | None) -> None:
    """Take a node out of the cluster. It must hold no VMs, and the rest must be a majority.

    \b
    blixard cluster leave --node 3
    """
    from blixard.v1 import blixard_pb2 as pb

    with connected(options, CHANGE_MS) as client:
        leaving = node_id if node_id is not None else _this_node(client, options)
        name = f"node-{leaving}"
        confirm(f"{name} leaves the cluster, and never comes back with its present data.", options)
        options.after_interrupt = "interrupted; see what became of it: blixard cluster status"
        client.leave_cluster(pb.LeaveClusterRequest(node_id=leaving))
        if options.output == "json":
            emit_json("cluster_left", {"node": name, "request_id": client.request_id})
        else:
            emit(f"{name} has left the cluster")


def _this_node(client: "Client", options: Options) -> int:
    """The node behind this host's socket; over the network it is not plain whose that is."""
    if not all(address.startswith("unix:") for address in addresses(options)):
        raise failure(Code.USAGE, "which node shall leave?", fix="name it: --node 3")
    return client.raft_status().node_id
