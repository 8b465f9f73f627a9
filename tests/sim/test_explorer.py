"""The explorer: it finds what breaks when a rule is switched off, and nothing when none is."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from blixard.raft import snapshot
from blixard.raft.wire import Entry, Kind
from blixard.sim import explorer_steps
from blixard.sim.explorer import explore
from blixard.sim.explorer_actions import (
    FINDS,
    LONG,
    NARROW,
    SPENT,
    WIDE,
    Bounds,
    act,
    possible,
)
from blixard.sim.explorer_node import Process
from blixard.sim.explorer_rules import (
    Broken,
    Facts,
    Past,
    acknowledging,
    committing,
    facts,
    leading,
    log_matching,
)
from blixard.sim.explorer_state import FOUNDED_INDEX, History, NodeState, founded
from blixard.sim.explorer_steps import EMPTY, Situation, State, Steps
from blixard.sim.sabotage import SABOTAGES, switched_off


@pytest.mark.parametrize(
    "bounds",
    [
        pytest.param(Bounds(states=120_000), id="one message at a time"),
        pytest.param(replace(NARROW, states=30_000), id="elections and exchanges"),
        pytest.param(replace(WIDE, states=30_000, seeds=()), id="five nodes"),
        pytest.param(replace(LONG, states=20_000), id="one entry an append"),
        pytest.param(Bounds(states=20_000, pre_votes=True), id="with pre-votes"),
        pytest.param(
            replace(NARROW, states=20_000, chunk_bytes=40, leftovers=1, repeats=1, snapshots=2),
            id="leftovers, repeats and snapshots in chunks",
        ),
    ],
)
def test_with_all_rules_nothing_breaks(bounds: Bounds) -> None:
    report = explore(bounds)
    assert report.violation is None, report.violation
    assert report.states >= bounds.states or report.exhausted


@pytest.mark.parametrize("sabotage", FINDS)
def test_a_rule_that_is_switched_off_breaks_its_invariant(sabotage: str) -> None:
    bounds, invariant = FINDS[sabotage]
    report = explore(bounds, sabotage)
    assert report.violation is not None, f"not within {report.states} states"
    assert report.violation.invariant == invariant, report.violation
    assert report.violation.trace


def test_a_small_bound_is_exhausted_and_always_the_same() -> None:
    bounds = Bounds(
        entries=1, terms=1, crashes=0, resets=1, snapshots=1, seeds=("a leader in its first term",)
    )
    first, second = explore(bounds), explore(bounds)
    assert first.exhausted
    assert (first.states, first.steps) == (second.states, second.steps)
    assert first.states > 100


@pytest.mark.parametrize("name", SABOTAGES)
def test_a_sabotage_changes_the_shipped_code_and_undoes_it(name: str) -> None:
    with switched_off(name):
        pass
    assert explore(Bounds(states=50)).violation is None


def test_an_assertion_of_our_own_that_fires_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def apply(self: History, index: int, entry: bytes) -> object:
        raise AssertionError("no")

    monkeypatch.setattr(History, "apply", apply)
    report = explore(Bounds())
    assert report.violation is not None
    assert (report.violation.invariant, report.violation.what) == (
        "fail-stop",
        "node 1 stops: AssertionError: no",
    )


# What no sabotage breaks first.

FIRST = FOUNDED_INDEX + 1


def holding(*entries: tuple[int, bytes], **more: Any) -> Facts:
    """A node with these entries, each a term and a command, in memory and on its disk."""
    log = tuple(
        Entry(bytes([Kind.COMMAND]) + command, FIRST + place, term)
        for place, (term, command) in enumerate(entries)
    )
    chain, chains = b"", {}
    for entry in log:
        chain += entry.data
        chains[entry.index, entry.term] = chain
    plain = facts(founded(1, 3))
    return plain._replace(entries=log, chains=chains, kept=log, **more)


def test_the_same_place_in_two_logs_has_the_same_entry_after_the_same_entries() -> None:
    one = holding((1, b"a"), (1, b"b"), (2, b"c"))
    assert log_matching(one, holding((1, b"a"), (1, b"b"))) is None
    assert log_matching(one, holding((1, b"a"), (3, b"x"))) is None
    assert log_matching(one, holding((1, b"a"), (1, b"x"))) is not None
    assert log_matching(one, holding((1, b"x"), (3, b"b"), (2, b"c"))) is not None


def test_a_leader_has_all_that_was_committed_in_earlier_terms() -> None:
    past = committing(Past(), 1, holding((1, b"a"), (2, b"b"), term=2, commit=FIRST + 1))
    assert isinstance(past, Past)
    assert leading(past, 2, holding((1, b"a"), (2, b"b"), leads=3)) == past._replace(
        leaders=((3, 2),)
    )
    found = leading(past, 2, holding((1, b"a"), leads=3))
    assert isinstance(found, Broken)
    assert found.invariant == "leader-completeness"
    # Elected before that was committed, and the votes were late.
    assert isinstance(leading(past, 2, holding((1, b"a"), leads=2)), Past)


def test_an_entry_is_acknowledged_only_when_it_is_committed() -> None:
    past = committing(Past(), 1, holding((1, b"a"), commit=FIRST))
    assert isinstance(past, Past)
    assert acknowledging(past, ((FIRST, b"a"),)) == past._replace(acknowledged=1)
    for told in ((FIRST, b"x"), (FIRST + 1, b"a")):
        found = acknowledging(past, (told,))
        assert isinstance(found, Broken)
        assert found.invariant == "durability"


# Taking a node apart, and putting it together, changes nothing.


class Whole:
    """A node that is never taken apart, beside one that is."""

    def __init__(self, node: int, state: NodeState) -> None:
        self.process = Process(node, state)
        self.is_new = True

    def do(self, given: tuple[Any, ...]) -> tuple[list[tuple[int, bytes]], list[Any]]:
        process = self.process
        process.sent.clear()
        process.told.clear()
        if given[0] == "crash":
            return [], []
        if given[0] != "start":
            process.give(given)
        elif self.is_new:
            self.is_new = False
        else:
            process.start()
        process.engine.tick()
        for progress in process.core.replicator._members.values():
            progress.told_s = 0.0  # news of a commit are always due
        sent = [(e.receiver, explorer_steps._stripped(e)) for e in process.sent]
        return sent, list(process.told)


@pytest.mark.parametrize("seed", range(12))
def test_a_node_that_is_taken_apart_after_each_step_does_what_a_whole_one_does(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = Random(seed)
    bounds = Bounds(
        nodes=3,
        entries=20,
        terms=100,
        crashes=6,
        resets=10,
        leftovers=5,
        repeats=5,
        heartbeats=100,
        snapshots=10,
    )
    monkeypatch.setattr(snapshot, "CHUNK_BYTES", 40)
    steps = Steps(bounds.nodes)
    wholes = {node: Whole(node, founded(node, bounds.nodes)) for node in (1, 2, 3)}
    outcome = Steps.outcome
    compared = 0

    def both(self: Steps, node: int, state: int, given: tuple[Any, ...]) -> Any:
        nonlocal compared
        known = outcome(self, node, state, given)
        assert known.fault is None
        if given[0] == "deliver":
            given = ("deliver", self.messages.values[given[1]], given[2])
        sent, told = wholes[node].do(given)
        assert sent == [(to, self.messages.values[number]) for to, number in known.letters]
        assert told == list(known.told)
        compared += 1
        return known

    monkeypatch.setattr(Steps, "outcome", both)
    situation = Situation(steps, nothing(steps))
    for node in wholes:
        situation.start(node)
    for _ in range(600):
        state = situation.frozen()
        with pytest.MonkeyPatch.context() as quiet:
            quiet.setattr(Steps, "outcome", outcome)
            actions = [action for action in possible(bounds, steps, state) if action[0] != "torn"]
        likely = [action for action in actions if action[0] in ("deliver", "propose", "start")]
        act(situation, random.choice(likely if likely and random.random() < 0.9 else actions))
    assert compared >= 600
    assert len(steps.pasts.values[situation.past].committed) > 10


def nothing(steps: Steps) -> State:
    past = steps.pasts.number(Past())
    return steps.founders, (EMPTY,) * steps.nodes**2, past, (0,) * len(SPENT)


KNOWN = {
    "RaftEngine": "_barrier_is_under_way _clock _core _heard_s _journal _membership _post "
    "_proposals _readers _send _timings _waiters _waits_until_s wake",
    "Journal": "_chains _changes _commit_index _durable _entries _head _opened _snapshot_is_new "
    "_store _stored_to _term _vote snapshot",
    "Core": "_clock _election_s _heartbeat_s _incoming _journal _leader_heard_s _machine _port "
    "_pre_vote_ends_s _pre_votes _uniform _verified _votes learner_id members replicator self_id",
    "Replicator": "_clock _journal _members _retry_s _send _term _transfers",
    "Incoming": "_data _transfer",
    "Post": "_connections _core _heard_from _journal _membership _order _said _sequence",
    "Order": "_last",
    "Ballot": "term _voters",
    "Waiters": "_decided _waiting",
    "Membership": "_append _clock _core _journal _patience_s _requests _waiters learner",
    "Progress": "next_index match_index probing probe_due_s ahead told_commit told_s transfer "
    "chunk_due_s",
    "Outgoing": "transfer index total _term _data _checksum arrived",
}


def test_whatever_a_node_remembers_is_known_to_the_explorer() -> None:
    """A new attribute belongs into `explorer_state`, or is left out for a reason; then name it."""
    process = Process(1, founded(1, 3))
    engine, core = process.engine, process.core
    process.give(("campaign",))
    engine.tick()
    parts: list[Any] = [engine, engine._journal, core, core.replicator, core._incoming, core._votes]
    parts += [engine._post, engine._post._order, engine._waiters, engine._membership]
    library = {"_idToConsumer", "_idToMethod", "_methodToID", "_poller"}
    for part in parts:
        names = set(getattr(part, "__dict__", None) or part.__slots__)
        names = {name for name in names if not name.startswith("_SyncObj__")} - library
        assert names == set(KNOWN[type(part).__name__].split()), type(part).__name__
