"""The checker of histories: judged by hand, by the real machine, and by trying every order."""

import time
from collections import Counter
from itertools import count
from random import Random

import pytest

from blixard.errors import Code
from blixard.model import Accepted, Wanted
from blixard.sim.linearizability import (
    Absent,
    Answer,
    Call,
    Operation,
    Seen,
    Undecided,
    Verb,
    Violation,
    check,
)
from sim.histories import KEEP, explainable, falsified, refused, true_history

CREATE = Call(Verb.CREATE)
CREATE_STOPPED = Call(Verb.CREATE, Wanted.STOPPED)
START, STOP, RESTART = Call(Verb.START), Call(Verb.STOP), Call(Verb.RESTART)
DELETE, READ = Call(Verb.DELETE), Call(Verb.READ)
SET_KEEP, SET_USUAL = Call(Verb.SET, policy=KEEP), Call(Verb.SET)
RUNNING, STOPPED, DELETED = Wanted

Step = tuple[Call, Answer | None]
Span = tuple[int, int | None, Call, Answer | None]


def one_by_one(*steps: Step) -> list[Operation]:
    """Each step begins when the one before it has ended; without an answer it never ends."""
    stamps = count(1)
    made = []
    for call, answer in steps:
        begun = next(stamps)
        ended = next(stamps) if answer is not None else None
        made.append(Operation(1, "web", call, begun, ended, answer))
    return made


def at_once(*spans: Span) -> list[Operation]:
    return [
        Operation(client, "web", call, begun, ended, answer)
        for client, (begun, ended, call, answer) in enumerate(spans)
    ]


TRUE = {
    "a life": one_by_one(
        (READ, Absent()),
        (START, refused(Code.NO_SUCH_VM)),
        (CREATE_STOPPED, Accepted(5)),
        (CREATE, refused(Code.EXISTS)),
        (READ, Seen(5, STOPPED)),
        (RESTART, Accepted(6)),
        (READ, Seen(5, RUNNING)),
        (STOP, Accepted(9)),
        (READ, Seen(5, STOPPED)),
        (DELETE, Accepted(10)),
        (READ, Seen(5, DELETED)),
        (CREATE, refused(Code.BUSY)),
        (STOP, refused(Code.NO_SUCH_VM)),
        (DELETE, Accepted(12)),
        (READ, Absent()),
        (CREATE, Accepted(13)),
        (READ, Seen(13, RUNNING)),
    ),
    "a refusal for other reasons": one_by_one(
        (CREATE, refused(Code.BAD_ARGUMENT)),
        (CREATE, refused(Code.TOO_LARGE)),
        (CREATE_STOPPED, Accepted(5)),
        (START, refused(Code.TOO_LARGE)),
        (STOP, refused(Code.NO_LEADER)),
        (STOP, refused(Code.BUSY)),
        (READ, Seen(5, STOPPED)),
    ),
    "a lost creation that took effect, with a uid nobody was told": one_by_one(
        (CREATE, None), (READ, Seen(8, RUNNING)), (STOP, Accepted(9)), (READ, Seen(8, STOPPED))
    ),
    "a policy that is changed": one_by_one(
        (SET_KEEP, refused(Code.NO_SUCH_VM)),
        (CREATE, Accepted(5)),
        (READ, Seen(5, RUNNING)),
        (SET_KEEP, Accepted(6)),
        (STOP, Accepted(7)),
        (READ, Seen(5, STOPPED, KEEP)),
        (DELETE, Accepted(8)),
        (SET_USUAL, refused(Code.NO_SUCH_VM)),
        (READ, Seen(5, DELETED, KEEP)),
        (READ, Absent()),
        (CREATE, Accepted(9)),
        (READ, Seen(9, RUNNING)),
    ),
    "a lost change of policy that takes effect late": one_by_one(
        (CREATE, Accepted(5)),
        (SET_KEEP, None),
        (READ, Seen(5, RUNNING)),
        (READ, Seen(5, RUNNING, KEEP)),
    ),
    "a lost creation that never took effect": one_by_one((CREATE, None), (READ, Absent())),
    "a lost deletion that takes effect late": one_by_one(
        (CREATE, Accepted(5)), (DELETE, None), (READ, Seen(5, RUNNING)), (READ, Absent())
    ),
    "a forgotten stop that took effect": one_by_one(
        (CREATE, Accepted(5)), (STOP, refused(Code.REQUEST_FORGOTTEN)), (READ, Seen(5, STOPPED))
    ),
    "a forgotten creation that took no index": one_by_one(
        (CREATE, Accepted(5)),
        (DELETE, Accepted(6)),
        (CREATE, refused(Code.REQUEST_FORGOTTEN)),
        (DELETE, refused(Code.REQUEST_FORGOTTEN)),
        (READ, Absent()),
        (CREATE, None),
        (READ, Seen(7, RUNNING)),
    ),
    "an unknown stop that took effect late": one_by_one(
        (CREATE, Accepted(5)),
        (STOP, refused(Code.OUTCOME_UNKNOWN)),
        (READ, Seen(5, RUNNING)),
        (READ, Seen(5, STOPPED)),
    ),
    "a read that overlaps a stop sees either": at_once(
        (1, 2, CREATE, Accepted(5)),
        (3, 8, STOP, Accepted(6)),
        (4, 5, READ, Seen(5, STOPPED)),
        (6, 7, READ, Seen(5, STOPPED)),
    ),
    "two rivals for a name": at_once(
        (1, 4, CREATE, Accepted(5)), (2, 3, CREATE, refused(Code.EXISTS))
    ),
}

FALSE = {
    "a stale read": one_by_one(
        (CREATE, Accepted(5)), (STOP, Accepted(6)), (READ, Seen(5, RUNNING))
    ),
    "a lost update": one_by_one(
        (CREATE_STOPPED, Accepted(5)), (START, Accepted(6)), (READ, Seen(5, STOPPED))
    ),
    "a change of policy that is lost": one_by_one(
        (CREATE, Accepted(5)), (SET_KEEP, Accepted(6)), (READ, Seen(5, RUNNING))
    ),
    "a policy that nobody asked for": one_by_one(
        (CREATE, Accepted(5)), (READ, Seen(5, RUNNING, KEEP))
    ),
    "a policy that goes back by itself": one_by_one(
        (CREATE, Accepted(5)),
        (SET_KEEP, None),
        (READ, Seen(5, RUNNING, KEEP)),
        (READ, Seen(5, RUNNING)),
    ),
    "a policy that is set after the deletion": one_by_one(
        (CREATE, Accepted(5)), (DELETE, Accepted(6)), (SET_KEEP, Accepted(7))
    ),
    "an acknowledged creation that vanishes": one_by_one((CREATE, Accepted(5)), (READ, Absent())),
    "an acknowledged creation that a second one does not meet": one_by_one(
        (CREATE, Accepted(5)), (CREATE, Accepted(6))
    ),
    "a creation carried out again by a retry, after another's deletion": one_by_one(
        (CREATE, Accepted(5)), (DELETE, Accepted(6)), (READ, Absent()), (READ, Seen(7, RUNNING))
    ),
    "a forgotten stop that takes effect after it was answered": one_by_one(
        (CREATE, Accepted(5)),
        (STOP, refused(Code.REQUEST_FORGOTTEN)),
        (READ, Seen(5, RUNNING)),
        (READ, Seen(5, STOPPED)),
    ),
    "a state that nobody asked for": one_by_one((CREATE, Accepted(5)), (READ, Seen(5, STOPPED))),
    "a tombstone that nobody made": one_by_one((CREATE, Accepted(5)), (READ, Seen(5, DELETED))),
    "a deletion that is taken back": one_by_one(
        (CREATE, Accepted(5)), (DELETE, Accepted(6)), (READ, Absent()), (READ, Seen(5, DELETED))
    ),
    "a deleted VM that starts": one_by_one(
        (CREATE, Accepted(5)), (DELETE, Accepted(6)), (START, Accepted(7))
    ),
    "a name that is free and busy again": one_by_one(
        (CREATE, Accepted(5)),
        (DELETE, Accepted(6)),
        (DELETE, refused(Code.NO_SUCH_VM)),
        (CREATE, refused(Code.BUSY)),
    ),
    "a uid that is used again": one_by_one(
        (CREATE, None),
        (READ, Seen(8, RUNNING)),
        (DELETE, Accepted(9)),
        (CREATE, None),
        (READ, Seen(8, RUNNING)),
    ),
    "a uid that changes": one_by_one(
        (CREATE, None), (READ, Seen(8, RUNNING)), (READ, Seen(9, RUNNING))
    ),
    "a uid above the index of a later command": one_by_one(
        (CREATE, None), (STOP, Accepted(6)), (READ, Seen(7, STOPPED))
    ),
    "a lost creation that acts twice": one_by_one(
        (CREATE, None),
        (READ, Seen(5, RUNNING)),
        (DELETE, Accepted(6)),
        (READ, Absent()),
        (READ, Seen(7, RUNNING)),
    ),
    "reads that go back in time during a stop": at_once(
        (1, 2, CREATE, Accepted(5)),
        (3, 8, STOP, Accepted(6)),
        (4, 5, READ, Seen(5, STOPPED)),
        (6, 7, READ, Seen(5, RUNNING)),
    ),
    "two rivals who both get the name": at_once(
        (1, 4, CREATE, Accepted(5)), (2, 3, CREATE, Accepted(6))
    ),
    "an order of effects that is not the order of the log": at_once(
        (1, 2, CREATE, Accepted(5)),
        (3, 6, STOP, Accepted(8)),
        (4, 7, START, Accepted(7)),
        (8, 9, READ, Seen(5, RUNNING)),
    ),
    "an index given twice": at_once((1, 3, CREATE, Accepted(5)), (2, 4, STOP, Accepted(5))),
    "too large for a deletion": one_by_one(
        (CREATE, Accepted(5)), (DELETE, refused(Code.TOO_LARGE))
    ),
}


@pytest.mark.parametrize("history", TRUE.values(), ids=TRUE)
def test_a_history_with_an_explanation_is_accepted(history: list[Operation]) -> None:
    assert check(history) is None
    assert explainable(history)


@pytest.mark.parametrize("history", FALSE.values(), ids=FALSE)
def test_a_history_without_one_is_a_violation(history: list[Operation]) -> None:
    assert isinstance(check(history), Violation)
    assert not explainable(history)


def test_a_violation_names_the_operation_and_what_was_possible_before_it() -> None:
    stale = [*FALSE["a stale read"], Operation(2, "web", READ, 90, 91, Absent())]
    found = check(stale)
    assert isinstance(found, Violation)
    assert (found.vm, found.operation) == ("web", stale[2])
    assert found.history == tuple(stale[:3]), "the shortest prefix"
    assert str(found).splitlines() == [
        'VM "web": 5..6 client 1: read -> uid 5, wanted running',
        "No order explains this. Before it the VM was uid 5, wanted stopped.",
        "  1..2 client 1: create (running) -> accepted at 5",
        "  3..4 client 1: stop -> accepted at 6",
        "  5..6 client 1: read -> uid 5, wanted running",
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((CREATE, Accepted(9)), (CREATE, Accepted(5))),
        ((CREATE, Accepted(5)), (CREATE, Accepted(5))),
        ((READ, Seen(9, RUNNING)), (READ, Seen(9, RUNNING))),
        ((CREATE, Accepted(5)), (READ, Seen(5, RUNNING))),
    ],
)
def test_indexes_are_one_log_for_all_vms(first: Step, second: Step) -> None:
    lost = [Operation(7, vm, CREATE, begun) for vm, begun in (("a", 1), ("b", 2))]
    a = Operation(1, "a", first[0], 3, 4, first[1])
    b = Operation(2, "b", second[0], 5, 6, second[1])
    found = check([*lost, a, b])
    assert isinstance(found, Violation)
    assert found.operation == b


def test_a_lost_creation_is_later_in_the_log_than_what_was_answered_before() -> None:
    a = Operation(1, "a", CREATE, 1, 2, Accepted(9))
    b = Operation(1, "b", CREATE, 3)
    assert isinstance(check([a, b, Operation(2, "b", READ, 4, 5, Seen(8, RUNNING))]), Violation)
    assert check([a, b, Operation(2, "b", READ, 4, 5, Seen(10, RUNNING))]) is None


def test_vms_have_nothing_to_do_with_one_another() -> None:
    a = Operation(1, "a", CREATE, 1, 2, Accepted(5))
    assert check([a, Operation(1, "b", READ, 3, 4, Absent())]) is None


@pytest.mark.parametrize("seed", range(60))
def test_what_the_machine_did_is_always_accepted(seed: int) -> None:
    history = true_history(seed, 120, clients=4, vms=2, lost=0.12 * (seed % 3))
    assert check(history) is None


def test_what_is_falsified_is_mostly_rejected() -> None:
    random = Random(1)
    verdicts = Counter(
        type(check(falsified(true_history(seed, 60, lost=0.03), random))) for seed in range(200)
    )
    assert verdicts[Undecided] == 0
    assert verdicts[Violation] > 140, verdicts


def test_short_histories_are_judged_as_by_trying_every_order() -> None:
    random = Random(2)
    verdicts = Counter[bool]()
    for seed in range(3_000):
        history = true_history(seed, random.randint(3, 7), lost=random.choice((0.0, 0.1, 0.3)))
        for _ in range(random.randrange(4)):
            if not all(one.unknown for one in history):
                history = falsified(history, random)
        true = explainable(history)
        found = check(history)
        assert (found is None) == true, "\n".join([f"seed {seed}: {found}", *map(str, history)])
        verdicts[true] += 1
    assert min(verdicts[True], verdicts[False]) > 500, verdicts


@pytest.mark.parametrize(("vms", "lost"), [(5, 0.02), (5, 0.2), (1, 0.02)])
def test_two_thousand_operations_are_judged_in_time(vms: int, lost: float) -> None:
    history = true_history(3, 2_000, clients=10, vms=vms, lost=lost)
    began = time.perf_counter()
    assert check(history) is None
    last = max(one.ended or one.begun for one in history)
    never = Operation(99, "vm-0", READ, last + 1, last + 2, Seen(1, RUNNING))
    assert isinstance(check([*history, never]), Violation)
    assert time.perf_counter() - began < 60, "a quarter of that is the most that is usual"


def test_what_costs_too_much_is_undecided_and_not_accepted() -> None:
    history = true_history(3, 200, clients=10)
    assert check(history) is None
    assert isinstance(check(history, budget=100), Undecided)
    false = Operation(99, "vm-1", READ, 100_000, 100_001, Seen(1, RUNNING))
    assert isinstance(check([*history, false], budget=100), Violation), "another VM is judged"
