"""The law of VMs: one holder at a time, and every way out of a host passes through its report."""

from dataclasses import replace
from hashlib import sha256

from blixard.commands import (
    CreateVm,
    DeferVm,
    DeleteVm,
    PlaceVm,
    ReportVm,
    RestartVm,
    StartVm,
    StopVm,
)
from blixard.errors import Code
from blixard.model import (
    Accepted,
    Capacity,
    Cluster,
    Fix,
    Holder,
    Membership,
    Outcome,
    PackedSource,
    Reason,
    Rejected,
    Release,
    State,
    Vm,
    VmSpec,
    Wanted,
)

Step = tuple[Cluster, Outcome]

REPORTABLE = frozenset({State.BUILDING, State.STARTING, State.RUNNING, State.STOPPED, State.FAILED})


def free_capacity(cluster: Cluster, node_id: int) -> Capacity:
    """What is left on a node after the VMs it holds, in vCPUs and MiB."""
    total = cluster.nodes[node_id].capacity
    held = [
        vm.spec
        for vm in cluster.vms.values()
        if vm.holder is not None and vm.holder.node_id == node_id
    ]
    return Capacity(
        vcpus=total.vcpus - sum(spec.vcpus for spec in held),
        memory_mib=total.memory_mib - sum(spec.memory_mib for spec in held),
    )


def create(cluster: Cluster, index: int, at_ms: int, command: CreateVm) -> Step:
    existing = cluster.vms.get(command.name)
    if command.wanted is Wanted.DELETED:
        return cluster, Rejected(Code.BAD_ARGUMENT, f'"{command.name}" cannot begin as deleted')
    if command.spec.vcpus < 1 or command.spec.memory_mib < 1:
        return cluster, Rejected(Code.BAD_ARGUMENT, f'"{command.name}" needs a vCPU and memory')
    if existing is not None:
        return cluster, _name_taken(cluster, existing)
    too_large = _larger_than_any_node(cluster, command.name, command.spec)
    if too_large is not None:
        return cluster, too_large
    sources = cluster.sources
    if isinstance(command.spec.source, PackedSource):
        digest = command.spec.source.digest
        if sha256(command.content).hexdigest() != digest:
            return cluster, Rejected(
                Code.BAD_ARGUMENT,
                f'the packed source of "{command.name}" does not match its digest',
            )
        sources = {**sources, digest: command.content}
    running = command.wanted is Wanted.RUNNING
    vm = Vm(
        name=command.name,
        uid=index,
        spec=command.spec,
        wanted=command.wanted,
        state=State.PENDING if running else State.STOPPED,
        reason=Reason("created", "waits for a node" if running else "created, not started"),
        since_ms=at_ms,
        created_ms=at_ms,
    )
    return _put(replace(cluster, sources=sources), vm), Accepted(index)


def start(cluster: Cluster, index: int, at_ms: int, command: StartVm) -> Step:
    vm = cluster.vms.get(command.name)
    if vm is None or vm.wanted is Wanted.DELETED:
        return cluster, no_such_vm(command.name)
    if vm.release is not None:
        resumed = replace(vm, wanted=Wanted.RUNNING)
        return _put(cluster, resumed), Accepted(
            index, f"{vm.name} starts again once it has stopped"
        )
    if vm.wanted is Wanted.RUNNING and vm.state is not State.FAILED:
        return cluster, Accepted(index, f"{vm.name} is already {_whereabouts(cluster, vm)}")
    too_large = _larger_than_any_node(cluster, vm.name, vm.spec)
    if too_large is not None:
        return cluster, too_large
    return _put(cluster, _pending(vm, at_ms, Reason("started", "waits for a node"))), Accepted(
        index
    )


def stop(cluster: Cluster, index: int, at_ms: int, command: StopVm) -> Step:
    vm = cluster.vms.get(command.name)
    if vm is None or vm.wanted is Wanted.DELETED:
        return cluster, no_such_vm(command.name)
    if vm.state is State.STOPPED:
        return cluster, Accepted(index, f"{vm.name} is already stopped")
    stopped = replace(vm, wanted=Wanted.STOPPED)
    release = Release(command.grace_ms, command.kill)
    return _put(cluster, _give_up(stopped, at_ms, release, "stopped by request")), Accepted(index)


def restart(cluster: Cluster, index: int, at_ms: int, command: RestartVm) -> Step:
    vm = cluster.vms.get(command.name)
    if vm is None or vm.wanted is Wanted.DELETED:
        return cluster, no_such_vm(command.name)
    if vm.holder is None:
        return start(cluster, index, at_ms, StartVm(command.name))
    wanted = replace(vm, wanted=Wanted.RUNNING)
    release = Release(command.grace_ms, command.kill)
    return _put(cluster, _give_up(wanted, at_ms, release, "restarted by request")), Accepted(index)


def delete(cluster: Cluster, index: int, at_ms: int, command: DeleteVm) -> Step:
    vm = cluster.vms.get(command.name)
    if vm is None:
        return cluster, no_such_vm(command.name)
    doomed = replace(vm, wanted=Wanted.DELETED)
    if vm.holder is None:
        return _remove(cluster, doomed), Accepted(index)
    release = Release(command.grace_ms, command.kill)
    return _put(cluster, _give_up(doomed, at_ms, release, "deleted by request")), Accepted(index)


def place(cluster: Cluster, index: int, at_ms: int, command: PlaceVm) -> Step:
    """Give a VM its holder, if it has none and the node is alive, a member, and has room."""
    vm = cluster.vms.get(command.name)
    node = cluster.nodes.get(command.node_id)
    if (
        vm is None
        or vm.uid != command.uid
        or vm.state is not State.PENDING
        or vm.holder is not None
    ):
        return cluster, Rejected(Code.STALE, f"{command.name} no longer waits for a node")
    if (
        node is None
        or node.membership is not Membership.MEMBER
        or node.incarnation != command.incarnation
    ):
        return cluster, Rejected(Code.STALE, f"node-{command.node_id} takes no VMs")
    free = free_capacity(cluster, node.node_id)
    if free.vcpus < vm.spec.vcpus or free.memory_mib < vm.spec.memory_mib:
        return cluster, Rejected(Code.STALE, f"{node.name} has no room for {vm.name}")
    placed = replace(
        vm,
        state=State.STARTING,
        reason=Reason("placed", f"placed on {node.name}"),
        since_ms=at_ms,
        holder=Holder(node.node_id, node.incarnation, epoch=index),
        last_node=node.node_id,
    )
    return _put(cluster, placed), Accepted(index)


def defer(cluster: Cluster, index: int, command: DeferVm) -> Step:
    """Say why a VM waits. It has waited since it became pending, whatever the reason is now."""
    vm = cluster.vms.get(command.name)
    if vm is None or vm.uid != command.uid or vm.state is not State.PENDING:
        return cluster, Rejected(Code.STALE, f"{command.name} no longer waits for a node")
    return _put(cluster, replace(vm, reason=Reason("no-room", command.why))), Accepted(index)


def report(cluster: Cluster, index: int, at_ms: int, command: ReportVm) -> Step:
    """Take a holder's word. Anyone else's, or word of an older placement or daemon, has no say."""
    vm = cluster.vms.get(command.name)
    node = cluster.nodes.get(command.node_id)
    holder = Holder(command.node_id, command.incarnation, command.epoch)
    if vm is None or vm.uid != command.uid or vm.holder != holder:
        return cluster, Rejected(Code.STALE, f"node-{command.node_id} does not hold {command.name}")
    if node is None or node.session != command.session:
        return cluster, Rejected(Code.STALE, "that report is of an earlier daemon")
    if command.state not in REPORTABLE:
        return cluster, Rejected(Code.BAD_ARGUMENT, f'"{command.state}" is no state to report')
    if command.state in (State.STOPPED, State.FAILED):
        return _given_up(cluster, vm, at_ms, command), Accepted(index)
    if vm.release is not None:
        return cluster, Rejected(Code.STALE, f"{vm.name} is to be given up")
    reported = replace(
        vm,
        state=command.state,
        reason=command.reason,
        since_ms=at_ms if command.state is not vm.state else vm.since_ms,
        runner=command.runner or vm.runner,
    )
    return _put(cluster, reported), Accepted(index)


def end_incarnation(cluster: Cluster, node_id: int, at_ms: int) -> Cluster:
    """Clear a node's hold on all its VMs: the life under which it held them is over."""
    for name in sorted(cluster.vms):
        vm = cluster.vms[name]
        if vm.holder is not None and vm.holder.node_id == node_id:
            reason = Reason("host-restarted", f"node-{node_id} came back without it")
            cluster = _without_holder(cluster, vm, at_ms, reason)
    return cluster


def _given_up(cluster: Cluster, vm: Vm, at_ms: int, command: ReportVm) -> Cluster:
    """The holder has nothing of the VM left: it failed by itself, or was released."""
    if command.state is State.FAILED and vm.release is None:
        failed = replace(vm, state=State.FAILED, reason=command.reason, since_ms=at_ms, holder=None)
        return _put(cluster, failed)
    return _without_holder(cluster, vm, at_ms, command.reason)


def _without_holder(cluster: Cluster, vm: Vm, at_ms: int, reason: Reason) -> Cluster:
    match vm.wanted:
        case Wanted.DELETED:
            return _remove(cluster, vm)
        case Wanted.RUNNING:
            return _put(cluster, _pending(vm, at_ms, Reason(reason.code, "waits for a node")))
        case Wanted.STOPPED:
            stopped = replace(
                vm, state=State.STOPPED, reason=reason, since_ms=at_ms, holder=None, release=None
            )
            return _put(cluster, stopped)


def _pending(vm: Vm, at_ms: int, reason: Reason) -> Vm:
    return replace(
        vm,
        wanted=Wanted.RUNNING,
        state=State.PENDING,
        reason=reason,
        since_ms=at_ms,
        holder=None,
        release=None,
    )


def _give_up(vm: Vm, at_ms: int, release: Release, why: str) -> Vm:
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


def _put(cluster: Cluster, vm: Vm) -> Cluster:
    return replace(cluster, vms={**cluster.vms, vm.name: vm})


def _remove(cluster: Cluster, vm: Vm) -> Cluster:
    vms = {name: kept for name, kept in cluster.vms.items() if name != vm.name}
    used = {
        kept.spec.source.digest
        for kept in vms.values()
        if isinstance(kept.spec.source, PackedSource)
    }
    sources = {digest: content for digest, content in cluster.sources.items() if digest in used}
    return replace(cluster, vms=vms, sources=sources)


def _whereabouts(cluster: Cluster, vm: Vm) -> str:
    if vm.holder is None:
        return vm.state.value
    return f"{vm.state.value} on {cluster.nodes[vm.holder.node_id].name}"


def no_such_vm(name: str) -> Rejected:
    """What anyone is told who names a VM that does not exist."""
    return Rejected(
        Code.NO_SUCH_VM,
        f'no VM named "{name}"',
        fixes=(Fix("all names:", "blixard vm list -o name"),),
    )


def _name_taken(cluster: Cluster, vm: Vm) -> Rejected:
    if vm.wanted is Wanted.DELETED:
        return Rejected(
            Code.BUSY,
            f'"{vm.name}" is still being deleted',
            why=f"it is {_whereabouts(cluster, vm)}; the name is free once its host reports that",
            fixes=(Fix("watch it, then create it again", f"blixard vm status {vm.name}"),),
        )
    return Rejected(
        Code.EXISTS,
        f'a VM named "{vm.name}" already exists',
        why=f"it is {_whereabouts(cluster, vm)}",
        fixes=(
            Fix("look at it", f"blixard vm status {vm.name}"),
            Fix("or delete it first", f"blixard vm delete {vm.name}"),
        ),
    )


def _larger_than_any_node(cluster: Cluster, name: str, spec: VmSpec) -> Rejected | None:
    """Refuse what no node could ever hold; what merely finds no room now is queued instead."""
    capacities = [node.capacity for node in cluster.nodes.values() if node.incarnation > 0]
    fits = [
        capacity
        for capacity in capacities
        if capacity.vcpus >= spec.vcpus and capacity.memory_mib >= spec.memory_mib
    ]
    if fits or not capacities:
        return None
    vcpus = max(capacity.vcpus for capacity in capacities)
    memory_mib = max(capacity.memory_mib for capacity in capacities)
    return Rejected(
        Code.TOO_LARGE,
        f'"{name}" asks for {spec.vcpus} vCPUs and {spec.memory_mib} MiB; no node is that large',
        why=f"the largest nodes have {vcpus} vCPUs and {memory_mib} MiB",
        fixes=(Fix("ask for less with --vcpus or --memory, or add a larger node"),),
    )
