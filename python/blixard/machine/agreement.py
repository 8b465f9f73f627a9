"""The law of agreement: which rules hold among releases, and whether the replicas are the same."""

from dataclasses import replace

from blixard.commands import AttestState, RaiseLevel
from blixard.errors import Code
from blixard.model import Accepted, Cluster, Fix, Outcome, Rejected


def raise_level(cluster: Cluster, index: int, command: RaiseLevel) -> tuple[Cluster, Outcome]:
    """Go on to the next level, if every node supports it."""
    supported = all(node.level >= command.level for node in cluster.nodes.values())
    if command.level != cluster.level + 1 or not cluster.nodes or not supported:
        return cluster, Rejected(Code.STALE, f"level {command.level} is not the next for all nodes")
    return replace(cluster, level=command.level), Accepted(index)


def refuse_level(cluster: Cluster, name: str, level: int) -> Rejected | None:
    """The refusal of a node whose release does not know the rules that hold."""
    if level >= cluster.level:
        return None
    return Rejected(
        Code.RELEASE_TOO_OLD,
        f"{name} supports level {level} at most, and the cluster is at level {cluster.level}",
        why="its release would apply the log by rules that no longer hold",
        fixes=(Fix("update it to the release of the other nodes"),),
    )


def attest(cluster: Cluster, index: int, command: AttestState) -> tuple[Cluster, Outcome]:
    """Note that the state of an index was attested, so that it is once. The comparison is made by
    each node for itself, beside the law."""
    if not cluster.attested_index < command.at_index < index:
        return cluster, Rejected(Code.STALE, f"entry {command.at_index} was attested already")
    return replace(cluster, attested_index=command.at_index), Accepted(index)
