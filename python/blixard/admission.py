"""How a node with an empty data directory finds its way into a cluster, or founds one.

A cluster is founded once, by an explicit act. A node that has peers asks them first, so that a
wiped disk never founds a second cluster and never votes in the first one again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from blixard.errors import BlixardError, Code
from blixard.v1 import blixard_pb2 as pb


@dataclass(frozen=True, slots=True)
class Found:
    """Found a cluster: nobody has one."""


@dataclass(frozen=True, slots=True)
class Join:
    """Join the cluster that the peers know."""

    cluster_id: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again later."""

    why: str


def choose(
    node_id: int, founding: bool, peers: Sequence[str], answers: Sequence[pb.GreetResponse]
) -> Found | Join | Wait:
    """What a node without data does, given what its peers answered.

    Raises `BlixardError` where only a person can decide.
    """
    clusters = sorted({answer.cluster_id for answer in answers if answer.cluster_id})
    if len(clusters) > 1:
        raise BlixardError(
            f"the peers of node-{node_id} belong to different clusters: {', '.join(clusters)}",
            remedy="list only peers of the cluster that this node shall join",
            code=Code.NODE_TAKEN,
        )
    if any(answer.knows_you for answer in answers):
        raise BlixardError(
            f"cluster {clusters[0]} has a node-{node_id}, but this data directory is empty",
            remedy=f"if its disk was lost: blixard cluster leave --node {node_id} there, and start "
            "it again. Otherwise give this node another id",
            code=Code.NODE_TAKEN,
        )
    if clusters:
        return Join(clusters[0])
    if not founding:
        return Wait("no peer knows a cluster yet" if answers else "no peer answers yet")
    if any(answer.founding for answer in answers):
        rivals = ", ".join(f"node-{a.node_id}" for a in answers if a.founding)
        raise BlixardError(
            f"{rivals} was told to found a cluster too",
            remedy="use bootstrap on exactly one node; the others join it",
            code=Code.NODE_TAKEN,
        )
    if peers and not answers:
        return Wait("no peer answers, so it is not known whether there is a cluster already")
    return Found()
