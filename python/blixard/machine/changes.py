"""What an entry changed, in words: the story a log reader or an operator follows."""

from collections.abc import Iterator
from dataclasses import dataclass

from blixard.model import Cluster, Node, State, Vm


@dataclass(frozen=True, slots=True)
class Change:
    """One fact that became true."""

    text: str
    vm: str = ""
    node: str = ""
    grave: bool = False
    """Whether a person should look at it."""


def changes(before: Cluster, after: Cluster) -> Iterator[Change]:
    """The changes of VMs and nodes from one state to the next, in the order of their names."""
    if before.level != after.level:
        yield Change(f"all nodes know the rules of level {after.level}, which hold from now on")
    if before.nodes is not after.nodes:
        for node_id in sorted({*before.nodes, *after.nodes}):
            yield from _node(before.nodes.get(node_id), after.nodes.get(node_id))
    if before.vms is not after.vms:
        for name in sorted({*before.vms, *after.vms}):
            old, new = before.vms.get(name), after.vms.get(name)
            if old is not new:
                yield from _vm(old, new)


def _vm(old: Vm | None, new: Vm | None) -> Iterator[Change]:
    if new is None:
        assert old is not None
        yield Change(f"{old.name} is deleted", vm=old.name)
    elif old is None or old.state is not new.state or old.holder != new.holder:
        holder = f"node-{new.holder.node_id}" if new.holder is not None else ""
        place = f" on {holder}" if holder else ""
        text = f"{new.name} is {new.state.value}{place}: {new.reason.text}"
        grave = new.state in (State.FAILED, State.UNREACHABLE)
        yield Change(text, vm=new.name, node=holder, grave=grave)


def _node(old: Node | None, new: Node | None) -> Iterator[Change]:
    if new is None:
        assert old is not None
        yield Change(f"{old.name} has left the cluster", node=old.name)
    elif old is None or old.membership is not new.membership:
        yield Change(f"{new.name} is {new.membership.value} at {new.address}", node=new.name)
    elif old.incarnation != new.incarnation:
        size = f"{new.capacity.vcpus} vCPUs and {new.capacity.memory_mib} MiB"
        text = f"{new.name} registered with {size}"
        yield Change(text, node=new.name)
    elif new.is_down and not old.is_down:
        yield Change(f"{new.name} is down: its lease is over", node=new.name, grave=True)
