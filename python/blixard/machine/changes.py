"""What an entry changed, in words: the story a log reader or an operator follows.

It follows from the log alone, so every node tells the same of an index, in the same order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from blixard.commands import (
    AbandonMove,
    AddNode,
    AssignStandby,
    AttestState,
    ConfirmDown,
    DeclareNodeDown,
    DeferVm,
    Entry,
    HandOverVm,
    NodeCommand,
    PlaceVm,
    RaiseLevel,
    RenewLeases,
    SettleNode,
    speaker,
)
from blixard.machine.node_changes import node_words
from blixard.machine.vm_changes import vm_words
from blixard.machine.words import Words
from blixard.model import Accepted, Cluster, Node, Outcome

LEADER: Final = "leader"
"""Who asked for what a leader chose."""

_CHOICES: Final = (
    PlaceVm,
    DeferVm,
    AssignStandby,
    HandOverVm,
    AbandonMove,
    SettleNode,
    DeclareNodeDown,
    RaiseLevel,
    AttestState,
)


@dataclass(frozen=True, slots=True)
class Event:
    """One fact that became true."""

    index: int
    at_ms: int
    kind: str
    """vm, node or cluster."""
    subject: str
    """The name of the VM or node."""
    code: str
    """Stable, for programs."""
    text: str
    actor: str
    """Who asked: user@host, node-2, leader; empty if that was not said."""
    cause: str
    """The kind of the entry."""
    node: str = ""
    """The node that has to do with it; may be empty."""
    grave: bool = False
    """Whether a person should look at it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """All that one index changed. `vms` and `nodes` are other than before, or gone: more of them
    than events tell of, such as a build that goes on."""

    index: int
    events: tuple[Event, ...] = ()
    vms: tuple[str, ...] = ()
    nodes: tuple[int, ...] = ()
    is_gap: bool = False
    """A snapshot took the place of all entries up to `index`: what they changed is not told."""


def changes(
    before: Cluster, after: Cluster, index: int, entry: Entry, outcome: Outcome
) -> Batch | None:
    """What `entry` changed; None for nothing, and for renewals, which come all the time."""
    if isinstance(entry.command, RenewLeases):
        return None
    vms = _changed_vms(before, after)
    nodes = _changed_nodes(before, after)
    told = [*_cluster_words(before, after, entry, outcome)]
    for node_id in nodes:
        told += node_words(before.nodes.get(node_id), after.nodes.get(node_id))
    for name in vms:
        told += vm_words(before.vms.get(name), after.vms.get(name))
    if not (told or vms or nodes):
        return None
    actor, cause = actor_of(entry), type(entry.command).__name__
    events = tuple(
        Event(
            index=index,
            at_ms=entry.at_ms,
            kind=words.kind,
            subject=words.subject,
            code=words.code,
            text=words.text,
            actor=actor,
            cause=cause,
            node=words.node,
            grave=words.grave,
        )
        for words in told
    )
    holders = {
        vm.holder.node_id
        for cluster in (before, after)
        for name in vms
        if (vm := cluster.vms.get(name)) is not None and vm.holder is not None
    }
    return Batch(index, events, tuple(vms), tuple(sorted({*nodes, *holders})))


def actor_of(entry: Entry) -> str:
    """Who asked for an entry."""
    command = entry.command
    asked = entry.by or getattr(command, "by", "")
    if asked:
        return asked
    if isinstance(command, NodeCommand):
        return f"node-{speaker(command)}"
    if isinstance(command, AddNode):
        return f"node-{command.node_id}"
    return LEADER if isinstance(command, _CHOICES) else ""


def _changed_vms(before: Cluster, after: Cluster) -> list[str]:
    if before.vms is after.vms:
        return []
    changed = [name for name, vm in after.vms.items() if before.vms.get(name) is not vm]
    gone = [name for name in before.vms if name not in after.vms]
    return sorted([*changed, *gone])


def _changed_nodes(before: Cluster, after: Cluster) -> list[int]:
    if before.nodes is after.nodes:
        return []
    known = {*before.nodes, *after.nodes}
    return sorted(i for i in known if _differ(before.nodes.get(i), after.nodes.get(i)))


def _differ(old: Node | None, new: Node | None) -> bool:
    if old is None or new is None:
        return old is not new
    return old is not new and replace(old, seq=new.seq) != new


def _cluster_words(
    before: Cluster, after: Cluster, entry: Entry, outcome: Outcome
) -> Iterator[Words]:
    if before.level != after.level:
        text = f"all nodes know the rules of level {after.level}, which hold from now on"
        yield Words("cluster", "cluster", "cluster-level-raised", text)
    command = entry.command
    if isinstance(command, ConfirmDown) and isinstance(outcome, Accepted):
        name = f"node-{command.node_id}"
        text = f"{command.by} says that {name} is down; {outcome.note}"
        yield Words("node", name, "node-confirmed-down", text, node=name, grave=True)
