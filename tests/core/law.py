"""What must hold of every state and every step of the machine, whoever proposes whatever."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

from blixard import codec, machine
from blixard.commands import (
    Command,
    ConfirmDown,
    CreateVm,
    DeclareNodeDown,
    DeclareVm,
    DeleteVm,
    DisownVm,
    Entry,
    Kept,
    PlaceVm,
    RegisterNode,
    ReportVm,
    SettleNode,
)
from blixard.errors import Code
from blixard.model import (
    Accepted,
    Cluster,
    Node,
    Outcome,
    Rejected,
    State,
    Vm,
    Wanted,
)
from blixard.source import PackedSource

Apply = Callable[[Cluster, int, Entry], tuple[Cluster, Outcome]]

UNHELD = {State.PENDING, State.STOPPED, State.FAILED}


class Law:
    """A log and the state it leads to; every entry is checked as it is applied."""

    def __init__(self, apply: Apply = machine.apply) -> None:
        self.cluster = Cluster()
        self.index = 0
        self._apply = apply
        self.entries: list[Entry] = []
        self._first: dict[str, tuple[Command, Outcome]] = {}
        self._identities: set[int] = set()

    def apply(self, entry: Entry) -> Outcome:
        """Append and apply an entry. Raises AssertionError if the machine breaks its law."""
        self.index += 1
        self.entries.append(entry)
        before, image = self.cluster, codec.encode_cluster(self.cluster)
        after, outcome = self._apply(before, self.index, entry)
        assert codec.encode_cluster(before) == image, "the state before was changed in place"
        twin, twin_outcome = self._apply(codec.decode_cluster(image), self.index, entry)
        assert twin_outcome == outcome
        assert codec.encode_cluster(twin) == codec.encode_cluster(after), "not deterministic"
        if isinstance(outcome, Rejected):
            assert _without_memory(after) == _without_memory(before), "a refusal changed the state"
        self._check_request(before, entry, after, outcome)
        self._check_identities(before, after)
        for name in sorted({*before.vms, *after.vms}):
            _check_vm_step(before.vms.get(name), entry, after.vms.get(name), self.index, outcome)
        _check_place(entry, after, outcome)
        for node_id in before.nodes.keys() & after.nodes.keys():
            _check_life(before.nodes[node_id], entry, after.nodes[node_id])
        assert after.level in (before.level, before.level + 1), "a level was skipped or lost"
        check_state(after, self.index)
        self.cluster = after
        return outcome

    def _check_request(
        self, before: Cluster, entry: Entry, after: Cluster, outcome: Outcome
    ) -> None:
        if entry.request is None:
            assert after.outcomes == before.outcomes
            return
        first = self._first.get(entry.request.key)
        if first is None:
            self._first[entry.request.key] = entry.command, outcome
            return
        command, first_outcome = first
        assert _without_memory(after) == _without_memory(before), "a retry acted again"
        forgotten = isinstance(outcome, Rejected) and outcome.code is Code.REQUEST_FORGOTTEN
        if type(command) is type(entry.command) and _about(command) == _about(entry.command):
            assert outcome == first_outcome or forgotten, "a retry got another outcome"
        else:
            assert isinstance(outcome, Rejected), "an id was given to another command"
            assert forgotten or outcome.code is Code.BAD_ARGUMENT
        known = entry.request.key in before.outcomes
        assert forgotten != known, "a retry was neither answered nor refused"

    def _check_identities(self, before: Cluster, after: Cluster) -> None:
        """A uid, an epoch and an incarnation are each the index of their entry, so never reused."""
        fresh = _identities(after) - _identities(before)
        assert not fresh & self._identities, "an identity was used again"
        assert fresh <= {self.index}, "an identity is not the index of its entry"
        self._identities |= fresh


def _identities(cluster: Cluster) -> set[int]:
    return {
        *(vm.uid for vm in cluster.vms.values()),
        *(vm.holder.epoch for vm in cluster.vms.values() if vm.holder is not None),
        *(node.incarnation for node in cluster.nodes.values() if node.incarnation),
    }


def _about(command: Command) -> object:
    return getattr(command, "name", None) or getattr(command, "node_id", None)


def _without_memory(cluster: Cluster) -> tuple[object, ...]:
    return cluster.vms, cluster.nodes, cluster.sources, cluster.level, cluster.attested_index


def check_state(cluster: Cluster, index: int) -> None:
    """What holds of every state."""
    for name, vm in cluster.vms.items():
        assert vm.name == name
        assert vm.uid <= index
        _check_vm(cluster, vm)
    for node_id, node in cluster.nodes.items():
        assert node.node_id == node_id
        assert node.incarnation <= index
        assert node.level >= cluster.level, "a node does not know the rules that hold"
    used = {
        spec.source.digest
        for vm in cluster.vms.values()
        for spec in (vm.spec, vm.declared.spec if vm.declared else vm.spec)
        if isinstance(spec.source, PackedSource)
    }
    assert used == set(cluster.sources), "sources exist iff a VM refers to them"
    for digest, content in cluster.sources.items():
        assert sha256(content).hexdigest() == digest
    assert len(cluster.outcomes) <= machine.OUTCOMES_KEPT
    assert all(kept.index > cluster.forgotten_index for kept in cluster.outcomes.values())


def _check_vm(cluster: Cluster, vm: Vm) -> None:
    assert (vm.holder is None) == (vm.state in UNHELD)
    assert (vm.release is not None) == (vm.state is State.STOPPING)
    if vm.state is State.UNREACHABLE:
        assert vm.keeps, "what may still run is what is to be kept"
    if vm.holder is not None:
        node = cluster.nodes[vm.holder.node_id]
        assert node.incarnation == vm.holder.incarnation
        is_lost = vm.state in (State.UNREACHABLE, State.STOPPING)
        assert not node.is_down or (vm.keeps and is_lost), "a node that is down holds a VM"
        assert vm.holder.incarnation > 0, "held by a node that never registered"
        assert vm.last_node == vm.holder.node_id
    match vm.state:
        case State.STOPPED:
            assert vm.wanted is Wanted.STOPPED
        case State.STOPPING:
            pass
        case _:
            assert vm.wanted is Wanted.RUNNING
    if vm.wanted is Wanted.DELETED:
        assert vm.holder is not None, "a tombstone outlived its holder"


def _check_vm_step(
    before: Vm | None, entry: Entry, after: Vm | None, index: int, outcome: Outcome
) -> None:
    """`PlaceVm` alone gives a holder; its own last word or its node's new life takes it."""
    command = entry.command
    if before is None:
        created = isinstance(command, CreateVm | DeclareVm)
        assert after is None or (created and after.uid == index)
        return
    if after is None:
        deleted = isinstance(command, DeleteVm) and before.holder is None
        assert deleted or before.wanted is Wanted.DELETED, "a VM vanished that nobody deleted"
    else:
        assert after.uid == before.uid
        assert after.created_ms == before.created_ms
        _check_spec(before, after)
        _check_owner(before, entry.command, after)
    held_after = after.holder if after is not None else None
    if held_after == before.holder:
        return
    assert isinstance(outcome, Accepted)
    if isinstance(command, RegisterNode) and held_after is not None:
        assert before.holder is not None
        assert before.keeps, "only what is to be kept outlives an incarnation"
        assert held_after == replace(before.holder, incarnation=index)
        assert Kept(before.name, before.uid, held_after.epoch) in command.kept
        return
    if before.holder is None:
        assert isinstance(command, PlaceVm), "a holder came without a placement"
        assert held_after is not None
        assert held_after.epoch == index
        return
    assert held_after is None, "a holder was replaced by another"
    if isinstance(command, RegisterNode | DeclareNodeDown | ConfirmDown):
        assert command.node_id == before.holder.node_id
        frees_kept = isinstance(command, DeclareNodeDown) and before.keeps
        assert not frees_kept, "what is to be kept was freed"
        return
    assert isinstance(command, ReportVm), "a holder was cleared without a report"
    assert command.state in (State.STOPPED, State.FAILED)
    assert command.uid == before.uid
    assert (command.node_id, command.incarnation, command.epoch) == (
        before.holder.node_id,
        before.holder.incarnation,
        before.holder.epoch,
    ), "a holder was cleared by someone else's report"


def _check_spec(before: Vm, after: Vm) -> None:
    """A VM changes only while nobody holds it, and only to what its owner has declared."""
    if (after.spec, after.spec_index) == (before.spec, before.spec_index):
        return
    assert after.holder is None, "a VM changed while a host held it"
    assert before.holder is None or before.release is not None, "a failover changed a VM"
    assert after.declared is not None
    assert (after.spec, after.spec_index) == (after.declared.spec, after.declared.at_index)
    if before.tied_to is not None and before.policy == after.policy:
        assert after.tied_to == before.tied_to, "a VM left its volumes behind"


def _check_owner(before: Vm, command: Command, after: Vm) -> None:
    """What one host declares, nobody else changes."""
    if before.declared is None or (before.declared, before.policy) == (
        after.declared,
        after.policy,
    ):
        assert (
            before.declared is not None or isinstance(command, DeclareVm) or after.declared is None
        )
        return
    assert isinstance(command, DeclareVm | DisownVm | SettleNode)
    assert command.node_id == before.declared.node_id, "a VM was changed by another than its owner"


def _check_life(before: Node, entry: Entry, after: Node) -> None:
    """A life goes on by renewals that get later, ends once, and never begins again."""
    command = entry.command
    if before.incarnation != after.incarnation:
        assert isinstance(command, RegisterNode)
        assert (after.seq, after.is_down) == (0, False)
        return
    assert after.lease_ms >= before.lease_ms, "a lease was shortened"
    if before.is_down:
        assert after.is_down, "a life that was over went on"
        assert after.seq == before.seq, "a life that was over was renewed"
    elif after.is_down:
        assert isinstance(command, DeclareNodeDown)
        same = (command.incarnation, command.seq) == (before.incarnation, before.seq)
        assert same, "a node was declared down that has renewed"
    else:
        assert after.seq >= before.seq


def _check_place(entry: Entry, after: Cluster, outcome: Outcome) -> None:
    command = entry.command
    if isinstance(command, PlaceVm) and isinstance(outcome, Accepted):
        node = after.nodes[command.node_id]
        held = [
            vm.spec
            for vm in after.vms.values()
            if vm.holder is not None and vm.holder.node_id == node.node_id
        ]
        assert sum(spec.vcpus for spec in held) <= node.capacity.vcpus, "too many vCPUs placed"
        assert sum(spec.memory_mib for spec in held) <= node.capacity.memory_mib
