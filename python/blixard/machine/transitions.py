"""The ways of a VM from one state to the next, as every rule of VMs uses them."""

from dataclasses import replace

from blixard.model import Cluster, PackedSource, Reason, Release, State, Vm, Wanted


def put(cluster: Cluster, vm: Vm) -> Cluster:
    return replace(cluster, vms={**cluster.vms, vm.name: vm})


def remove(cluster: Cluster, vm: Vm) -> Cluster:
    vms = {name: kept for name, kept in cluster.vms.items() if name != vm.name}
    used = {
        kept.spec.source.digest
        for kept in vms.values()
        if isinstance(kept.spec.source, PackedSource)
    }
    sources = {digest: content for digest, content in cluster.sources.items() if digest in used}
    return replace(cluster, vms=vms, sources=sources)


def pending(vm: Vm, at_ms: int, reason: Reason) -> Vm:
    return replace(
        vm,
        wanted=Wanted.RUNNING,
        state=State.PENDING,
        reason=reason,
        since_ms=at_ms,
        holder=None,
        release=None,
    )


def give_up(vm: Vm, at_ms: int, release: Release, why: str) -> Vm:
    """Order the holder to stop the VM; without a holder there is nothing to wait for."""
    if vm.holder is None:
        return replace(
            vm, state=State.STOPPED, reason=Reason("requested", why), since_ms=at_ms, release=None
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
    match vm.wanted:
        case Wanted.DELETED:
            return remove(cluster, vm)
        case Wanted.RUNNING:
            return put(cluster, pending(vm, at_ms, Reason(reason.code, "waits for a node")))
        case Wanted.STOPPED:
            stopped = replace(
                vm, state=State.STOPPED, reason=reason, since_ms=at_ms, holder=None, release=None
            )
            return put(cluster, stopped)
