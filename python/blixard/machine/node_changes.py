"""What became of a node, in words."""

from collections.abc import Iterator

from blixard.machine.words import Words
from blixard.model import Membership, Node


def node_words(old: Node | None, new: Node | None) -> Iterator[Words]:
    """The facts that became true of a node from one state to the next."""
    if new is None:
        assert old is not None
        yield _words(old, "node-left", f"{old.name} has left the cluster")
        return
    if old is None or old.membership is not new.membership:
        yield _membership(new)
    if old is None or old.incarnation != new.incarnation:
        if new.incarnation:
            yield _registered(old, new)
    elif new.is_down and not old.is_down:
        yield _words(new, "node-down", f"{new.name} is down: its lease is over", grave=True)
    elif new.session != old.session:
        yield _words(new, "node-checked-in", f"{new.name}'s daemon has checked in")
    if old is not None:
        yield from _terms(old, new)
        yield from _drain(old, new)


def _membership(new: Node) -> Words:
    codes = {
        Membership.JOINING: "node-joining",
        Membership.MEMBER: "node-joined",
        Membership.LEAVING: "node-leaving",
    }
    text = f"{new.name} is {new.membership.value} at {new.address}"
    return _words(new, codes[new.membership], text)


def _registered(old: Node | None, new: Node) -> Words:
    size = f"{new.capacity.vcpus} vCPUs and {new.capacity.memory_mib} MiB"
    if old is not None and old.is_down:
        return _words(new, "node-back", f"{new.name} is back: registered with {size}")
    return _words(new, "node-registered", f"{new.name} registered with {size}")


def _terms(old: Node, new: Node) -> Iterator[Words]:
    """What a node says of itself when it registers or checks in."""
    is_new = old.incarnation == 0
    if old.lease_ms != new.lease_ms and not is_new:
        text = f"the lease of {new.name} is {new.lease_ms} ms, and was {old.lease_ms} ms"
        yield _words(new, "node-lease-changed", text)
    if old.guaranteed != new.guaranteed and not (is_new and not new.guaranteed):
        text = (
            f"{new.name} is guaranteed: a watchdog resets it if it cannot end its VMs in time"
            if new.guaranteed
            else f"{new.name} is best-effort: no watchdog ends its VMs if it cannot"
        )
        yield _words(new, "node-mode-changed", text, grave=not new.guaranteed)
    changed = []
    if old.capacity != new.capacity and old.incarnation == new.incarnation:
        changed.append(f"{new.capacity.vcpus} vCPUs and {new.capacity.memory_mib} MiB")
    if old.version != new.version and not is_new:
        changed.append(f"version {new.version}, before {old.version}")
    if old.address != new.address:
        changed.append(f"address {new.address}, before {old.address}")
    if old.labels != new.labels and not is_new:
        labels = ", ".join(f"{key}={new.labels[key]}" for key in sorted(new.labels))
        changed.append(f"labels {labels or 'none'}")
    if changed:
        yield _words(new, "node-changed", f"{new.name} has {'; '.join(changed)}")


def _drain(old: Node, new: Node) -> Iterator[Words]:
    if new.drain is None:
        if old.drain is not None:
            yield _words(new, "node-drain-ended", f"{new.name} takes VMs again")
    elif old.drain != new.drain:
        why = f": {new.drain.reason}" if new.drain.reason else ""
        until = " until its host has restarted" if new.drain.until_restart else ""
        text = f"{new.name} is drained{until}, asked by {new.drain.by}{why}"
        yield _words(new, "node-drain-begun", text)


def _words(node: Node, code: str, text: str, *, grave: bool = False) -> Words:
    return Words("node", node.name, code, text, node=node.name, grave=grave)
