"""The law holds after every entry, whatever is proposed in whatever order."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    run_state_machine_as_test,
)

from blixard import machine
from blixard.commands import (
    Command,
    DeclareNodeDown,
    Entry,
    PlaceVm,
    RenewLeases,
    ReportVm,
)
from blixard.machine import leases, placements, vms
from blixard.model import (
    Accepted,
    Capacity,
    Cluster,
    Membership,
    Outcome,
    Reason,
    RequestId,
    State,
    Vm,
    Wanted,
)
from core.proposers import OUTCOMES_KEPT, Proposers
from core.strategies import of


@pytest.fixture(autouse=True)
def _short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "OUTCOMES_KEPT", OUTCOMES_KEPT)


def run(proposers: type[RuleBasedStateMachine], examples: int, *, repeatable: bool = False) -> None:
    phases = [Phase.generate] if repeatable else [Phase.reuse, Phase.generate, Phase.shrink]
    run_state_machine_as_test(
        proposers,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            phases=phases,
            derandomize=repeatable,
        ),
    )


def test_the_law_holds_after_every_entry() -> None:
    run(Proposers, examples=300)


@given(entries=st.lists(of(Entry), max_size=4))
def test_apply_never_raises(entries: list[Entry]) -> None:
    """Not even for numbers and texts that no honest proposer sends."""
    cluster = Cluster()
    for index, entry in enumerate(entries, start=1):
        cluster, _ = machine.apply(cluster, index, entry)


# --- the checkers notice a broken machine -------------------------------------------------------


def place_regardless(cluster: Cluster, index: int, at_ms: int, command: PlaceVm) -> Any:
    """Sabotage: a VM is placed although it has a holder."""
    vm = cluster.vms.get(command.name)
    if vm is None or vm.holder is None or vm.release is not None:
        return PLACE(cluster, index, at_ms, command)
    freed = replace(vm, state=State.PENDING, holder=None)
    loose = replace(cluster, vms={**cluster.vms, vm.name: freed})
    after, outcome = PLACE(loose, index, at_ms, command)
    return (after if isinstance(outcome, Accepted) else cluster), outcome


def believe_anyone(cluster: Cluster, index: int, at_ms: int, command: ReportVm) -> Any:
    """Sabotage: a report of an older placement counts."""
    vm = cluster.vms.get(command.name)
    if vm is not None and vm.holder is not None:
        command = replace(command, epoch=vm.holder.epoch)
    return REPORT(cluster, index, at_ms, command)


def endless_capacity(_cluster: Cluster, _node_id: int, besides: str = "") -> Capacity:
    """Sabotage: every node has room."""
    return Capacity(2**31, 2**31)


def forget_at_once(
    cluster: Cluster, _index: int, _request: RequestId, _command: Command, _outcome: Outcome
) -> Cluster:
    """Sabotage: no outcome is remembered."""
    return cluster


def remove_at_once(cluster: Cluster, index: int, at_ms: int, command: Any) -> Any:
    """Sabotage: a deleted VM leaves no tombstone."""
    after, outcome = DELETE(cluster, index, at_ms, command)
    if isinstance(outcome, Accepted):
        kept = {name: vm for name, vm in after.vms.items() if name != command.name}
        after = replace(after, vms=kept)
    return after, outcome


def keep_sources(cluster: Cluster, vm: Vm) -> Cluster:
    """Sabotage: a packed source outlives its last VM."""
    kept = {name: other for name, other in cluster.vms.items() if name != vm.name}
    return replace(cluster, vms=kept)


def renew_the_dead(cluster: Cluster, index: int, command: RenewLeases) -> Any:
    """Sabotage: a life that is over goes on."""
    nodes = {**cluster.nodes}
    for renewal in command.renewals:
        node = nodes.get(renewal.node_id)
        if node is not None and renewal.seq > node.seq:
            nodes[node.node_id] = replace(node, seq=renewal.seq, is_down=False)
    if nodes == cluster.nodes:
        return RENEW(cluster, index, command)
    return replace(cluster, nodes=nodes), Accepted(index)


def down_whatever_was_renewed(
    cluster: Cluster, index: int, at_ms: int, command: DeclareNodeDown
) -> Any:
    """Sabotage: the last renewal is not compared."""
    node = cluster.nodes.get(command.node_id)
    if node is not None:
        command = replace(command, seq=node.seq)
    return DOWN(cluster, index, at_ms, command)


def free_what_is_kept(
    cluster: Cluster, node_id: int, at_ms: int, reason: Reason, _spare: Callable[[Vm], Vm | None]
) -> Cluster:
    """Sabotage: the end of an incarnation frees what is to be kept as well."""
    return END(cluster, node_id, at_ms, reason, lambda _vm: None)


PLACE, REPORT, DELETE = placements.place, placements.report, vms.delete
RENEW, DOWN, END = leases.renew, leases.declare_down, placements.end_incarnation


@pytest.mark.parametrize(
    ("room", "function", "broken", "complaint"),
    [
        (placements, "place", place_regardless, "a holder was replaced by another"),
        (placements, "report", believe_anyone, "someone else's report"),
        (placements, "free_capacity", endless_capacity, "too many vCPUs|memory_mib"),
        (vms, "delete", remove_at_once, "vanished|without a report"),
        (vms, "remove", keep_sources, "sources exist"),
        (leases, "renew", renew_the_dead, "a life that was over"),
        (leases, "declare_down", down_whatever_was_renewed, "declared down that has renewed"),
        (leases, "end_incarnation", free_what_is_kept, "what is to be kept was freed"),
        (machine, "_remember", forget_at_once, "a retry"),
    ],
)
def test_the_law_notices(
    room: Any,
    function: str,
    broken: Callable[..., Any],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, function, broken)
    with pytest.raises(AssertionError, match=complaint):
        run(Proposers, examples=4_000, repeatable=True)


def test_the_proposers_reach_what_they_should() -> None:
    """The law is tested on VMs that run, stop, fail and wait, not on refusals alone."""
    seen: set[tuple[State, Wanted]] = set()
    memberships: set[Membership] = set()

    class Watched(Proposers):
        @invariant()
        def watch(self) -> None:
            for vm in self.law.cluster.vms.values():
                seen.add((vm.state, vm.wanted))
            memberships.update(node.membership for node in self.law.cluster.nodes.values())

    run(Watched, examples=900, repeatable=True)
    assert {state for state, _ in seen} == set(State)
    assert {wanted for _, wanted in seen} == set(Wanted)
    assert memberships == set(Membership)
