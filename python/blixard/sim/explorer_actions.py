"""The actions of an explorer: which are possible, what each does, and where a search sets out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any, Final

from blixard.raft.snapshot import CHUNK_BYTES
from blixard.raft.wire import BATCH_BYTES
from blixard.sim.explorer_steps import Situation, State, Steps

Action = tuple[Any, ...]
Script = tuple[Action, ...]

_ELECTED: Final[Script] = (("elect", 1, (2, 3)), ("exchange", 1, 2), ("exchange", 1, 3))
_TAIL: Final[Script] = (
    *_ELECTED,
    ("propose", 1),
    ("lose", 1, 2),
    ("lose", 1, 3),
    ("propose", 1),
    ("lose", 1, 2),
    ("lose", 1, 3),
)
_PART: Final[Script] = (
    *_ELECTED,
    *(("propose", 1), ("lose", 1, 3), ("deliver", 1, 2)) * 2,
    *(("propose", 1), ("lose", 1, 2), ("lose", 1, 3)),
)
_CRASHED: Final[Script] = (
    *_PART,
    *(("deliver", 2, 1), ("lose", 2, 1), ("reset", 1, 2)),
    *(("deliver", 1, 2), ("deliver", 2, 1)) * 2,
    ("crash", 1),
)
SEEDS: Final[dict[str, Script]] = {
    "a leader in its first term": _ELECTED,
    "a leader whose entries have reached nobody": _TAIL,
    "a leader with entries that have reached one follower, and one that has reached nobody": _PART,
    "that leader has crashed, after its connection had broken": _CRASHED,
    "a successor of a leader that was cut off": (*_TAIL, ("elect", 2, (3,))),
    "a leader that was cut off leads again": (*_TAIL, ("elect", 2, (3,)), ("elect", 1, (3,))),
    "a successor of a leader that has crashed": (*_CRASHED, ("elect", 2, (3,))),
    "a successor that has taken a snapshot": (*_CRASHED, ("compact", 2), ("elect", 2, (3,))),
}
"""Where a search in a cluster of three sets out, by what it is."""

_WIDE: Final[Script] = (
    ("elect", 1, (2, 3, 4, 5)),
    *(("exchange", 1, other) for other in (2, 3, 4, 5)),
    ("propose", 1),
    ("propose", 1),
    *(("lose", 1, other) for other in (3, 4, 5)),
    ("deliver", 1, 2),
    ("deliver", 1, 2),
)
WIDE_SEEDS: Final[dict[str, Script]] = {
    "a leader with entries that have reached one of four followers": _WIDE,
    "a successor, elected by the others": (*_WIDE, ("elect", 3, (4, 5))),
}
"""The same for a cluster of five."""


@dataclass(frozen=True)
class Bounds:
    """How far a search goes. What is spent is counted from the seed on."""

    nodes: int = 3
    entries: int = 4
    """Proposals of clients, those of the seed included."""
    terms: int = 3
    crashes: int = 1
    resets: int = 1
    """Connections that break and lose what is under way."""
    leftovers: int = 0
    """Connections that break, but what is under way may still arrive."""
    repeats: int = 0
    """Messages that arrive twice."""
    heartbeats: int = 1
    snapshots: int = 1
    in_flight: int = 4
    """Messages on one link; a state with more is not looked at."""
    depth: int = 1000
    """Actions after the seed."""
    states: int = 1_000_000
    seconds: float = 3600.0
    pre_votes: bool = False
    strides: bool = False
    chunk_bytes: int = CHUNK_BYTES
    """Of a snapshot: less cuts it into several chunks."""
    batch_bytes: int = BATCH_BYTES
    """Of an append; with 1 each carries one entry."""
    seeds: tuple[str, ...] = ()
    """By name; all if empty."""


_CALM: Final = Bounds(
    entries=2, crashes=0, resets=0, heartbeats=0, snapshots=0, strides=True, seconds=600
)
"""Nothing breaks; messages are late."""
NARROW: Final = Bounds(strides=True)
WIDE: Final = replace(_CALM, nodes=5, seeds=("a successor, elected by the others",))
LONG: Final = replace(
    _CALM, terms=4, batch_bytes=1, seeds=("a leader that was cut off leads again",)
)
FINDS: Final[dict[str, tuple[Bounds, str]]] = {
    "commit-index-unverified": (NARROW, "state-machine-safety"),
    "append-truncates-matching": (NARROW, "durability"),
    "append-unmatched": (NARROW, "quorum-durability"),
    "ack-of-any-term": (WIDE, "quorum-durability"),
    "stale-snapshot-installed": (NARROW, "durability"),
    "vote-of-any-term": (NARROW, "election-safety"),
    "vote-not-durable": (NARROW, "election-safety"),
    "vote-for-shorter-log": (NARROW, "leader-completeness"),
    "fsync-before-send": (NARROW, "quorum-durability"),
    "commit-of-older-term": (LONG, "leader-completeness"),
}
"""The sabotages that a search finds: within which bounds, and which invariant breaks first. What
the others need is not within reach: more kinds of faults, readers, changes of the members."""

SPENT: Final = ("entries", "crashes", "resets", "leftovers", "repeats", "heartbeats", "snapshots")
"""What a state counts, in this order: the names are those of `Bounds`."""
ENTRIES, CRASHES, RESETS, LEFTOVERS, REPEATS, HEARTBEATS, SNAPSHOTS = range(len(SPENT))

COSTS: Final = {
    "propose": ENTRIES,
    "crash": CRASHES,
    "torn": CRASHES,
    "reset": RESETS,
    "leave": LEFTOVERS,
    "repeat": REPEATS,
    "heartbeat": HEARTBEATS,
    "compact": SNAPSHOTS,
}


def act(situation: Situation, action: Action) -> None:
    """Do it. Raises `Violated`."""
    cost = COSTS.get(action[0])
    if cost is not None:
        situation.spent[cost] += 1
    _ACTS[action[0]](situation, *action[1:])


def _campaign(situation: Situation, node: int) -> None:
    situation.step(node, ("campaign",), "campaigns")


def _ask(situation: Situation, node: int) -> None:
    situation.step(node, ("ask",), "has heard no leader for an election timeout")


def _heartbeat(situation: Situation, node: int) -> None:
    situation.step(node, ("heartbeat",), "sends heartbeats")


def _propose(situation: Situation, node: int) -> None:
    entry = b"%c" % (ord("a") + situation.spent[ENTRIES] - 1)
    situation.step(node, ("propose", entry), f"proposes {entry.decode()}")


def _compact(situation: Situation, node: int) -> None:
    situation.step(node, ("compact",), "takes a snapshot")


def _elect(situation: Situation, node: int, voters: tuple[int, ...]) -> None:
    _campaign(situation, node)
    for voter in voters:
        _drain(situation, node, voter)
        _drain(situation, voter, node)


def _exchange(situation: Situation, one: int, other: int) -> None:
    for _ in range(EXCHANGES):
        _drain(situation, one, other)
        _drain(situation, other, one)


EXCHANGES: Final = 6
"""So often two nodes answer one another in one exchange."""


def _drain(situation: Situation, sender: int, receiver: int) -> None:
    """What is under way now arrives."""
    for _ in situation.links[situation.link(sender, receiver)].new:
        situation.deliver(sender, receiver)


_ACTS: Final[dict[str, Callable[..., None]]] = {
    "deliver": Situation.deliver,
    "repeat": partial(Situation.deliver, keep=True),
    "torn": partial(Situation.deliver, torn=True),
    "late": Situation.deliver_late,
    "reset": Situation.connect,
    "leave": partial(Situation.connect, leave=True),
    "lose": Situation.lose,
    "crash": Situation.crash,
    "start": Situation.start,
    "campaign": _campaign,
    "ask": _ask,
    "heartbeat": _heartbeat,
    "propose": _propose,
    "compact": _compact,
    "elect": _elect,
    "exchange": _exchange,
}


def possible(bounds: Bounds, steps: Steps, state: State) -> Iterator[Action]:
    """What can happen next."""
    situation = Situation(steps, state)
    left = [int(getattr(bounds, name)) - spent for name, spent in zip(SPENT, state[3], strict=True)]
    for node in range(1, bounds.nodes + 1):
        if not situation.runs(node):
            yield ("start", node)
            continue
        yield from _of_node(bounds, situation, node, left)
        for other in situation.others(node):
            yield from _of_link(situation, node, other, left)
    if bounds.strides:
        for one, other in combinations(range(1, bounds.nodes + 1), 2):
            there = situation.links[situation.link(one, other)].new
            back = situation.links[situation.link(other, one)].new
            if there or back:
                yield ("exchange", one, other)


def _of_node(bounds: Bounds, situation: Situation, node: int, left: list[int]) -> Iterator[Action]:
    facts = situation.facts(node)
    if facts.term < bounds.terms:
        if bounds.pre_votes:
            if not facts.leads:
                yield ("ask", node)
        elif bounds.strides:
            others = [other for other in situation.others(node) if situation.runs(other)]
            for voters in combinations(others, bounds.nodes // 2):
                yield ("elect", node, voters)
        else:
            yield ("campaign", node)
    if facts.leads:
        if left[ENTRIES] > 0:
            yield ("propose", node)
        if left[HEARTBEATS] > 0:
            yield ("heartbeat", node)
    if left[SNAPSHOTS] > 0 and facts.applied > facts.snapshot:
        yield ("compact", node)
    if left[CRASHES] > 0:
        yield ("crash", node)


def _of_link(situation: Situation, sender: int, receiver: int, left: list[int]) -> Iterator[Action]:
    link = situation.links[situation.link(sender, receiver)]
    if link.old:
        yield ("late", sender, receiver)
    if not link.new:
        return
    yield ("deliver", sender, receiver)
    if left[CRASHES] > 0 and situation.writes(sender, receiver):
        yield ("torn", sender, receiver)
    if left[REPEATS] > 0 and not link.is_seen:
        yield ("repeat", sender, receiver)
    if left[RESETS] > 0:
        yield ("reset", sender, receiver)
    if left[LEFTOVERS] > 0:
        yield ("leave", sender, receiver)
