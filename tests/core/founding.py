"""Logs that begin with the same few words: a small VM, and nodes that join and register."""

from blixard.commands import AddNode, Command, Entry, RegisterNode
from blixard.model import (
    Capacity,
    VmSpec,
)
from blixard.source import StoreSource
from core.law import Law

SMALL = VmSpec(StoreSource("/nix/store/0-vm"), 2, 1024)
ROOM = Capacity(4, 4096)


def told(*commands: Command) -> Law:
    law = Law()
    for command in commands:
        law.apply(Entry(command, at_ms=law.index))
    return law


def register(node_id: int, previous: int = 0, capacity: Capacity = ROOM) -> RegisterNode:
    address = f"n{node_id}:7001"
    return RegisterNode(node_id, f"m{node_id}", f"j{node_id}", address, previous, capacity, "1.0")


def add(node_id: int) -> AddNode:
    return AddNode(node_id, f"n{node_id}:7001", f"m{node_id}", f"j{node_id}")
