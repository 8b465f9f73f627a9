"""The ways of a VM from one state to the next, as every rule of VMs uses them."""

from dataclasses import replace

from blixard.model import (
    Cluster,
    Reason,
    Release,
    State,
    Vm,
    Wanted,
)
from blixard.policy import Policy
from blixard.source import PackedSource


def put(cluster: Cluster, vm: Vm) -> Cluster:
    return replace(cluster, vms={**cluster.vms, vm.name: vm})


def remove(cluster: Cluster, vm: Vm) -> Cluster:
    vms = {name: kept for name, kept in cluster.vms.items() if name != vm.name}
    return drop_unused_sources(replace(cluster, vms=vms))


def drop_unused_sources(cluster: Cluster) -> Cluster:
    used = {
        spec.source.digest
        for vm in cluster.vms.values()
        for spec in (vm.spec, vm.declared.spec if vm.declared is not None else vm.spec)
        if isinstance(spec.source, PackedSource)
    }
    if used.issuperset(cluster.sources):
        return cluster
    sources = {digest: content for digest, content in cluster.sources.items() if digest in used}
    return replace(cluster, sources=sources)


def as_declared(vm: Vm) -> Vm:
    """What a VM is once nobody holds it: as its owner has declared it meanwhile."""
    declared = vm.declared
    if declared is None or declared.spec == vm.spec:
        return vm
    return replace(
        vm,
        spec=declared.spec,
        spec_index=declared.at_index,
        has_left=vm.has_left or vm.runner is not None,
        runner=None,
        standby=None,
        failures=0,
        failed_on=None,
    )


def with_policy(vm: Vm, policy: Policy) -> Vm:
    """What another check has found out says nothing of this one."""
    return replace(vm, policy=policy, health=vm.health if policy.check == vm.policy.check else None)


def pending(vm: Vm, at_ms: int, reason: Reason) -> Vm:
    return replace(
        vm,
        wanted=Wanted.RUNNING,
        state=State.PENDING,
        reason=reason,
        since_ms=at_ms,
        holder=None,
        release=None,
        health=None,
    )


def give_up(vm: Vm, at_ms: int, release: Release, why: str) -> Vm:
    """Order the holder to stop the VM; without a holder there is nothing to wait for."""
    if vm.holder is None:
        return replace(
            vm,
            state=State.STOPPED,
            reason=Reason("requested", why),
            since_ms=at_ms,
            release=None,
            move=None,
        )
    hurried = vm.release is not None and vm.release.kill
    return replace(
        vm,
        state=State.STOPPING,
        reason=Reason("requested", why),
        since_ms=vm.since_ms if vm.state is State.STOPPING else at_ms,
        release=replace(release, kill=release.kill or hurried),
    )


def without_holder(cluster: Cluster, vm: Vm, at_ms: int, reason: Reason) -> Cluster:
    """Free a VM. Only if that was ordered does it become what was declared meanwhile: a failover
    or a move starts what ran before."""
    is_moved = vm.move is not None and vm.move.handed_ms > 0
    ordered = vm.release is not None and not is_moved
    freed = as_declared(vm) if ordered else vm
    match freed.wanted:
        case Wanted.DELETED:
            return remove(cluster, freed)
        case Wanted.RUNNING:
            freed = pending(freed, at_ms, Reason(reason.code, "waits for a node"))
        case Wanted.STOPPED:
            freed = replace(
                freed,
                state=State.STOPPED,
                reason=reason,
                since_ms=at_ms,
                holder=None,
                release=None,
                health=None,
                move=None,
            )
    changed = put(cluster, freed)
    return changed if freed.spec is vm.spec else drop_unused_sources(changed)
