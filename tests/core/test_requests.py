"""A request that is asked again gets its first outcome, or is refused; it never acts twice."""

from dataclasses import replace

import pytest

from blixard import machine
from blixard.commands import (
    Command,
    CreateVm,
    DeleteVm,
    Entry,
    RemoveNode,
    StartVm,
    StopVm,
)
from blixard.errors import Code
from blixard.model import (
    Cluster,
    Rejected,
    RequestId,
    State,
    Wanted,
)
from blixard.source import StoreSource
from core.founding import SMALL, add, register, told


def test_a_retry_gets_the_first_outcome_and_acts_once() -> None:
    law = told(register(1))
    entry = Entry(CreateVm("web", SMALL), 0, RequestId("s", 1, base_index=1))
    first = law.apply(entry)
    law.apply(Entry(DeleteVm("web"), 0))
    assert law.apply(entry) == first
    assert law.cluster.vms == {}


def test_a_refusal_is_remembered_as_well() -> None:
    law = told(register(1))
    entry = Entry(StartVm("web"), 0, RequestId("s", 1, base_index=1))
    first = law.apply(entry)
    law.apply(Entry(CreateVm("web", SMALL, Wanted.STOPPED), 0))
    assert law.apply(entry) == first
    assert law.cluster.vms["web"].state is State.STOPPED


@pytest.mark.parametrize("other", [StopVm("web"), StartVm("db"), RemoveNode(2)])
def test_a_request_id_names_one_command_only(other: Command) -> None:
    law = told(register(1), add(2))
    request = RequestId("s", 1, base_index=1)
    entry = Entry(StartVm("web"), 0, request)
    first = law.apply(entry)
    outcome = law.apply(Entry(other, 0, request))
    assert isinstance(outcome, Rejected)
    assert outcome.code is Code.BAD_ARGUMENT
    assert "request s/1 was StartVm web" in outcome.message
    assert law.apply(entry) == first, "the first outcome is still known"


def test_a_retry_may_have_been_locked_anew() -> None:
    law = told(register(1))
    request = RequestId("s", 1, base_index=1)
    first = law.apply(Entry(CreateVm("web", SMALL), 0, request))
    again = CreateVm("web", replace(SMALL, source=StoreSource("/nix/store/1-vm")))
    assert law.apply(Entry(again, 0, request)) == first


def test_a_forgotten_request_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "OUTCOMES_KEPT", 2)
    law = told(register(1))
    entry = Entry(CreateVm("web", SMALL), 0, RequestId("s", 1, base_index=1))
    law.apply(entry)
    for number in range(2, 4):
        law.apply(Entry(StartVm("web"), 0, RequestId("s", number, law.index)))
    law.apply(Entry(DeleteVm("web"), 0))
    outcome = law.apply(entry)
    assert isinstance(outcome, Rejected)
    assert outcome.code is Code.REQUEST_FORGOTTEN
    assert outcome.fixes
    assert law.cluster.vms == {}


def test_the_memory_is_as_long_as_promised() -> None:
    cluster = Cluster()
    for number in range(1, machine.OUTCOMES_KEPT + 10):
        entry = Entry(StartVm("web"), 0, RequestId("s", number, number - 1))
        cluster, _ = machine.apply(cluster, number, entry)
    assert len(cluster.outcomes) == machine.OUTCOMES_KEPT
    assert cluster.forgotten_index == 9
