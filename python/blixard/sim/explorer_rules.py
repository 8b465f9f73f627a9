"""Raft's invariants, checked from outside after every step of the explorer.

Each is a statement about what the nodes hold and what has happened so far: who led which term, what
was committed, what was acknowledged. No code of the engine is asked whether it is right.
"""

from typing import Final, NamedTuple

from blixard.raft import library
from blixard.raft.wire import Entry, Kind
from blixard.sim.explorer_state import FOUNDED_INDEX, NodeState, snapshot_of

ELECTION_SAFETY: Final = "election-safety"
LOG_MATCHING: Final = "log-matching"
LEADER_COMPLETENESS: Final = "leader-completeness"
STATE_MACHINE_SAFETY: Final = "state-machine-safety"
QUORUM_DURABILITY: Final = "quorum-durability"
DURABILITY: Final = "durability"
FAIL_STOP: Final = "fail-stop"


class Broken(NamedTuple):
    """An invariant that does not hold, and why not."""

    invariant: str
    what: str


class Past(NamedTuple):
    """What has happened so far, as far as the invariants look back."""

    leaders: tuple[tuple[int, int], ...] = ()
    """Each term that had a leader, with the leader."""
    committed: tuple[Entry, ...] = ()
    """Every entry after the founding one that some node has treated as committed."""
    terms: tuple[int, ...] = ()
    """The terms of the nodes that were the first to do so."""
    acknowledged: int = 0
    """A bit for each of `committed`: its proposer was told that it is decided."""


class Facts(NamedTuple):
    """What the invariants want to know of one node state."""

    term: int
    leads: int
    """The term that it leads; 0 if it does not lead."""
    commit: int
    base: int
    entries: tuple[Entry, ...]
    """What it holds after `base`: in memory if it runs, else on its disk."""
    chains: dict[tuple[int, int], bytes]
    """The chained hash of each place in its log, by index and term."""
    kept: tuple[Entry, ...]
    """What its disk holds after `kept_base`."""
    kept_base: int
    applied: int
    snapshot: int
    history: tuple[tuple[int, bytes], ...]


def facts(state: NodeState) -> Facts:
    """What is to be known of a node state."""
    disk, memory = state
    kept = tuple(Entry(row.data, row.index, row.term) for row in disk.rows)
    kept_base = snapshot_of(disk.snapshot).index if disk.snapshot else FOUNDED_INDEX
    if memory is None:
        chains = {(row.index, row.term): row.chain for row in disk.rows}
        chains[disk.head.base_index, disk.head.base_term] = disk.head.base_chain
        base = disk.head.base_index
        return Facts(disk.head.term, 0, 0, base, kept, chains, kept, kept_base, 0, 0, ())
    return Facts(
        term=memory.term,
        leads=memory.term if memory.role == library.LEADER else 0,
        commit=memory.journal_commit,
        base=memory.entries[0].index,
        entries=memory.entries[1:],
        chains={
            (entry.index, entry.term): chain
            for entry, chain in zip(memory.entries, memory.chains, strict=True)
        },
        kept=kept,
        kept_base=kept_base,
        applied=memory.applied,
        snapshot=snapshot_of(memory.snapshot).index if memory.snapshot else 0,
        history=memory.history,
    )


def log_matching(one: Facts, other: Facts) -> str | None:
    """The same index and term means the same entry, after the same entries."""
    for place, chain in one.chains.items():
        if other.chains.get(place, chain) != chain:
            return (
                f"two nodes hold different entries, or others before it, at index and term {place}"
            )
    return None


def committing(past: Past, node: int, now: Facts) -> Past | Broken:
    """What is committed after all once a node treats it as committed."""
    committed = list(past.committed)
    for entry in now.entries:
        position = entry.index - FOUNDED_INDEX - 1
        if entry.index > now.commit or position > len(committed):
            break
        if position == len(committed):
            committed.append(entry)
        elif committed[position] != entry:
            return Broken(
                STATE_MACHINE_SAFETY,
                f"node {node} treats {_named(entry)} as committed, but committed was "
                f"{_named(committed[position])}",
            )
    applied = tuple(
        (entry.index, entry.data[1:])
        for entry in committed[: now.applied - FOUNDED_INDEX]
        if entry.data[0] == Kind.COMMAND
    )
    if now.applied and now.history != applied:
        return Broken(
            STATE_MACHINE_SAFETY,
            f"node {node} has applied {list(now.history)} instead of {list(applied)}",
        )
    new = len(committed) - len(past.committed)
    if not new:
        return past
    return past._replace(committed=tuple(committed), terms=past.terms + (now.term,) * new)


def acknowledging(past: Past, told: tuple[tuple[int, bytes], ...]) -> Past | Broken:
    """What is acknowledged once these proposals, by index, were."""
    acknowledged = past.acknowledged
    for index, data in told:
        position = index - FOUNDED_INDEX - 1
        if position >= len(past.committed) or past.committed[position].data[1:] != data:
            return Broken(DURABILITY, f"{data.decode()} was acknowledged, but is not committed")
        acknowledged |= 1 << position
    return past._replace(acknowledged=acknowledged)


def holds(past: Past, base: int, entries: tuple[Entry, ...]) -> int:
    """A bit for each committed entry that is among `entries` or in the snapshot at `base`."""
    held = 0
    found = {entry.index: entry for entry in entries}
    for position, entry in enumerate(past.committed):
        if entry.index <= base or found.get(entry.index) == entry:
            held |= 1 << position
    return held


def leading(past: Past, node: int, now: Facts) -> Past | Broken:
    """A node leads that did not before."""
    before = dict(past.leaders).get(now.leads)
    if before not in (None, node):
        return Broken(ELECTION_SAFETY, f"nodes {before} and {node} both lead term {now.leads}")
    # A leader may learn of its election when the next term has begun already.
    earlier = sum(1 << position for position, term in enumerate(past.terms) if term < now.leads)
    missing = earlier & ~holds(past, now.base, now.entries)
    if missing:
        return Broken(
            LEADER_COMPLETENESS,
            f"node {node} leads term {now.leads} without {_which(past, missing)}, "
            "which was committed",
        )
    if before is not None:
        return past
    return past._replace(leaders=tuple(sorted([*past.leaders, (now.leads, node)])))


def durable(before: Past, past: Past, held: list[int]) -> Broken | None:
    """What is committed is on the disks of a majority. `held` has the bits of each node."""
    missing = 0
    for position in range(len(past.committed)):
        if 2 * sum(bits >> position & 1 for bits in held) <= len(held):
            missing |= 1 << position
    if not missing:
        return None
    where = "is on the disks of no majority"
    lost = missing & before.acknowledged
    if lost:
        return Broken(DURABILITY, f"{_which(past, lost)} was acknowledged, and {where}")
    return Broken(QUORUM_DURABILITY, f"{_which(past, missing)} is committed, and {where}")


def _which(past: Past, bits: int) -> str:
    return ", ".join(
        _named(entry) for position, entry in enumerate(past.committed) if bits >> position & 1
    )


def _named(entry: Entry) -> str:
    what = entry.data[1:].decode() if entry.data[0] == Kind.COMMAND else "the empty one"
    return f"entry {entry.index} of term {entry.term} ({what})"
