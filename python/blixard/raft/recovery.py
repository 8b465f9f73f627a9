"""Reading a journal back, and the two ways in which a journal begins.

A node trusts its journal only if everything adds up: the seals, the chain from the base to the end
without a hole, and the high-water mark. Only a transaction that had not ended may be missing.
"""

import os

import msgspec

from blixard.errors import BlixardError, Code
from blixard.raft import snapshot as snapshots
from blixard.raft.journal import ORIGIN, Head, Journal, Mark, link, mark_of, write_mark
from blixard.raft.seal import seal, unseal
from blixard.raft.snapshot import Snapshot
from blixard.raft.store import Batch, CorruptJournal, Row, Store, Stored
from blixard.raft.wire import Change, Entry, membership_entry


class Identity(msgspec.Struct, frozen=True):
    """Which node of which cluster a store belongs to."""

    cluster_id: str
    node_id: int


def identity_of(store: Store) -> Identity | None:
    """Whose journal the store holds; None if it is empty. Raises `CorruptJournal`."""
    stored = store.load()
    if stored is None:
        return None
    head = _head(stored)
    return Identity(head.cluster_id, head.node_id)


def bootstrap(
    store: Store, cluster_id: str, node_id: int, address: str, *, birth: int | None = None
) -> None:
    """Found a cluster in an empty store: its first entry adds this node, and nothing else is its
    configuration. To be done once in the life of a cluster. `birth` is drawn unless given. Raises
    `BlixardError` if the store holds a journal."""
    birth = birth or _draw()
    founding = Entry(membership_entry(Change(True, node_id, address, birth)), 1, 1)
    _begin(store, cluster_id, node_id, birth, founding)


def join(store: Store, cluster_id: str, node_id: int, *, birth: int | None = None) -> None:
    """Prepare an empty store for a node that a cluster will add. It never campaigns before its own
    log names it, and votes only for one whose log names it with its birth, which is drawn unless
    given. Raises `BlixardError` if the store holds a journal."""
    _begin(store, cluster_id, node_id, birth or _draw(), None)


def _draw() -> int:
    return int.from_bytes(os.urandom(8), "big") or 1


def _begin(store: Store, cluster_id: str, node_id: int, birth: int, founding: Entry | None) -> None:
    assert cluster_id
    assert node_id > 0
    if store.load() is not None or store.read_marks():
        raise BlixardError(
            "this data directory already belongs to a node of a cluster",
            remedy="start the node with it as it is, or choose an empty --data-dir",
            code=Code.DATA_UNUSABLE,
        )
    rows = []
    if founding is not None:
        rows = [Row(founding.index, founding.term, founding.data, link(ORIGIN, founding))]
    head = Head(
        sequence=1,
        cluster_id=cluster_id,
        node_id=node_id,
        birth=birth,
        opened=0,
        term=len(rows),
        vote=node_id if rows else None,
        commit_index=0,
        base_index=0,
        base_term=0,
        base_chain=ORIGIN,
        last_index=len(rows),
        last_chain=rows[-1].chain if rows else ORIGIN,
    )
    store.commit(Batch(seal(msgspec.msgpack.encode(head)), 0, 0, rows, None))
    write_mark(store, head)


def recover(store: Store, node_id: int) -> Journal:
    """The journal in the store, checked. Raises `CorruptJournal`, and `BlixardError` if it is not
    that of `node_id`."""
    stored = store.load()
    marks = store.read_marks()
    if stored is None:
        if marks:
            raise CorruptJournal("the database is empty, but its high-water mark is not")
        raise BlixardError(
            "this data directory belongs to no cluster yet",
            remedy="found a cluster with --bootstrap, or join one with --peer",
            code=Code.DATA_UNUSABLE,
        )
    head = _head(stored)
    if head.node_id != node_id:
        raise BlixardError(
            f"this data directory belongs to node {head.node_id}, not to node {node_id}",
            remedy=f"use --id {head.node_id}, or another --data-dir",
            code=Code.DATA_UNUSABLE,
        )
    _check_mark(head, marks)
    snapshot = _snapshot(stored, head)
    entries = _entries(stored.rows, head)
    # A crash between the transaction and its mark leaves the mark one behind; catch up.
    write_mark(store, head)
    return Journal(store, head, entries, snapshot)


def _head(stored: Stored) -> Head:
    payload = unseal(stored.head) if isinstance(stored.head, bytes) else None
    if payload is None:
        raise CorruptJournal("the checksum of its head is wrong")
    return msgspec.msgpack.decode(payload, type=Head)


def _snapshot(stored: Stored, head: Head) -> Snapshot | None:
    if stored.snapshot is None:
        if head.base_index:
            raise CorruptJournal("its snapshot is gone")
        return None
    snapshot = snapshots.decode(stored.snapshot) if isinstance(stored.snapshot, bytes) else None
    if snapshot is None:
        raise CorruptJournal("the checksum of its snapshot is wrong")
    if not head.base_index <= snapshot.index <= head.last_index:
        raise CorruptJournal("its snapshot does not fit its entries")
    return snapshot


def _entries(rows: list[tuple[object, object, object, object]], head: Head) -> list[Entry]:
    entries = []
    index, chain = head.base_index, head.base_chain
    for found_index, term, data, found_chain in rows:
        index += 1
        if found_index != index:
            raise CorruptJournal(f"entry {index} is missing")
        if not isinstance(data, bytes) or not isinstance(term, int) or term < 0:
            raise CorruptJournal(f"entry {index} cannot be read")
        entry = Entry(data, index, term)
        chain = link(chain, entry)
        if chain != found_chain:
            raise CorruptJournal(f"the checksum of entry {index} is wrong")
        entries.append(entry)
    if (index, chain) != (head.last_index, head.last_chain):
        raise CorruptJournal(f"it ends at entry {index} instead of {head.last_index}")
    return entries


def _check_mark(head: Head, slots: list[bytes]) -> None:
    marks = [
        msgspec.msgpack.decode(payload, type=Mark)
        for slot in slots
        if (payload := unseal(slot)) is not None
    ]
    if not marks:
        if head.sequence > 1:
            raise CorruptJournal("its high-water mark is gone")
        return
    mark = max(marks, key=lambda mark: mark.sequence)
    if mark.sequence > head.sequence:
        raise CorruptJournal(
            f"it ends {mark.sequence - head.sequence} transactions below its high-water mark"
        )
    if mark.sequence < head.sequence - 1 or (
        mark.sequence == head.sequence and mark != mark_of(head)
    ):
        raise CorruptJournal("its high-water mark is that of another journal")
