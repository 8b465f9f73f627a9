"""The law of declared VMs: the configuration of one host owns each, and nobody else changes it.

While a cluster is rebuilt host by host, old and new configurations meet. Whoever declared a VM
first owns it, and what others say of it changes nothing: no two overwrite each other in turn.
"""

from dataclasses import replace

from blixard.commands import CreateVm, DeclareVm, DisownVm
from blixard.errors import Code
from blixard.machine import vms
from blixard.machine.transitions import (
    as_declared,
    drop_unused_sources,
    pending,
    put,
    with_policy,
)
from blixard.model import (
    Accepted,
    Cluster,
    Declaration,
    Fix,
    Outcome,
    Reason,
    Rejected,
    State,
    Vm,
    Wanted,
)

Step = tuple[Cluster, Outcome]


def declare(cluster: Cluster, index: int, at_ms: int, command: DeclareVm) -> Step:
    """Create a VM, or change what this host has declared before, or what nobody has declared."""
    vm = cluster.vms.get(command.name)
    refused = _refused(cluster, vm, command)
    if refused is not None:
        return cluster, refused
    create = CreateVm(command.name, command.spec, Wanted.RUNNING, command.content, command.policy)
    if vm is None:
        created, outcome = vms.create(cluster, index, at_ms, create)
        if isinstance(outcome, Rejected):
            return cluster, outcome
        return put(created, _owned(created.vms[command.name], index, command)), outcome
    if vm.wanted is Wanted.DELETED:
        return cluster, vms.name_taken(cluster, vm)
    flaw = vms.flaw(cluster, create)
    if flaw is not None:
        return cluster, flaw
    return _change(cluster, index, at_ms, _owned(vm, index, command), create)


def disown(cluster: Cluster, index: int, command: DisownVm) -> Step:
    """A VM that its owner's configuration names no more goes on; anyone may change it."""
    vm = cluster.vms.get(command.name)
    refused = _refused(cluster, vm, command)
    if refused is not None:
        return cluster, refused
    if vm is None or vm.declared is None:
        return cluster, Rejected(Code.STALE, f"{command.name} is declared by nobody")
    # What was declared and has not come about yet is nobody's wish any more.
    changed = drop_unused_sources(put(cluster, replace(vm, declared=None)))
    return changed, Accepted(index)


def _owned(vm: Vm, index: int, command: DeclareVm) -> Vm:
    known = vm.declared.spec if vm.declared is not None else vm.spec
    at_index = vm.declared.at_index if vm.declared is not None else vm.build
    declared = Declaration(
        node_id=command.node_id,
        generation=command.generation,
        digest=command.digest,
        spec=command.spec,
        at_index=at_index if known == command.spec else index,
    )
    return replace(with_policy(vm, command.policy), declared=declared)


def _change(cluster: Cluster, index: int, at_ms: int, vm: Vm, create: CreateVm) -> Step:
    """A VM that a host holds goes on as it is until it is stopped by an order."""
    renewed = as_declared(vm) if vm.holder is None else vm
    note = ""
    if vm.holder is not None and vm.declared is not None and vm.declared.spec != vm.spec:
        note = f"{vm.name} is what was declared once it is restarted"
    if renewed.state is State.FAILED and renewed.spec != vm.spec:
        renewed = pending(renewed, at_ms, Reason("declared", "waits for a node"))
    changed = vms.with_content(put(cluster, renewed), create)
    return drop_unused_sources(changed), Accepted(index, note)


def _refused(cluster: Cluster, vm: Vm | None, command: DeclareVm | DisownVm) -> Rejected | None:
    """Why this host has no say in a VM, or not with what it has seen of it."""
    if command.node_id not in cluster.nodes:
        return Rejected(
            Code.NO_SUCH_NODE,
            f"no node with id {command.node_id}",
            fixes=(Fix("all nodes:", "blixard node list"),),
        )
    known = vm.declared if vm is not None else None
    if vm is not None and known is not None and known.node_id != command.node_id:
        return _of_another(vm, known)
    if command.generation != (known.generation if known is not None else 0) + 1:
        return Rejected(Code.STALE, f"{command.name} was declared anew in the meantime")
    return None


def _of_another(vm: Vm, declared: Declaration) -> Rejected:
    owner = f"node-{declared.node_id}"
    return Rejected(
        Code.DECLARED,
        f"{vm.name} is declared by {owner} already",
        why="one host's configuration owns a VM, so that no two overwrite each other in turn",
        fixes=(Fix(f"declare it there alone, or the same on both: {owner}'s holds"),),
    )
