"""The law of VMs: what operators may ask of them, and what it changes at once."""

from dataclasses import replace
from hashlib import sha256

from blixard.commands import CreateVm, DeleteVm, RestartVm, SetPolicy, StartVm, StopVm
from blixard.errors import Code
from blixard.machine.rules import contradiction
from blixard.machine.transitions import (
    as_declared,
    drop_unused_sources,
    give_up,
    pending,
    put,
    remove,
    with_policy,
)
from blixard.model import (
    Accepted,
    Cluster,
    Fix,
    Move,
    Outcome,
    Reason,
    Rejected,
    Release,
    State,
    Vm,
    VmSpec,
    Wanted,
)
from blixard.policy import Policy
from blixard.source import PackedSource

Step = tuple[Cluster, Outcome]

MAX_RESTARTS = 1_000


def create(cluster: Cluster, index: int, at_ms: int, command: CreateVm) -> Step:
    existing = cluster.vms.get(command.name)
    if existing is not None:
        return cluster, name_taken(cluster, existing)
    wrong = flaw(cluster, command)
    if wrong is not None:
        return cluster, wrong
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
        policy=command.policy,
    )
    return with_content(put(cluster, vm), command), Accepted(index)


def flaw(cluster: Cluster, command: CreateVm) -> Rejected | None:
    """Why no VM can be as it is asked for."""
    name, spec = command.name, command.spec
    if command.wanted is Wanted.DELETED:
        return Rejected(Code.BAD_ARGUMENT, f'"{name}" cannot begin as deleted')
    if spec.vcpus < 1 or spec.memory_mib < 1:
        return Rejected(Code.BAD_ARGUMENT, f'"{name}" needs a vCPU and memory')
    if not _is_sound(command.policy):
        return _bad_limit(name)
    impossible = contradiction(command.policy)
    if impossible:
        return _impossible(name, impossible)
    unknown = _unknown_neighbour(cluster, name, command.policy)
    if unknown is not None:
        return unknown
    source, digest = spec.source, sha256(command.content).hexdigest()
    if isinstance(source, PackedSource) and source.digest != digest:
        return Rejected(
            Code.BAD_ARGUMENT, f'the packed source of "{name}" does not match its digest'
        )
    return _larger_than_any_node(cluster, name, spec)


def with_content(cluster: Cluster, command: CreateVm) -> Cluster:
    """Keep the archive of a packed source."""
    source = command.spec.source
    if not isinstance(source, PackedSource):
        return cluster
    return replace(cluster, sources={**cluster.sources, source.digest: command.content})


def start(cluster: Cluster, index: int, at_ms: int, command: StartVm) -> Step:
    vm = cluster.vms.get(command.name)
    if vm is None or vm.wanted is Wanted.DELETED:
        return cluster, no_such_vm(command.name)
    if vm.release is not None:
        resumed = replace(vm, wanted=Wanted.RUNNING)
        return put(cluster, resumed), Accepted(index, f"{vm.name} starts again once it has stopped")
    if vm.wanted is Wanted.RUNNING and vm.state is not State.FAILED:
        return cluster, Accepted(index, f"{vm.name} is already {_whereabouts(cluster, vm)}")
    anew = replace(as_declared(vm), failures=0, failed_on=None)
    too_large = _larger_than_any_node(cluster, anew.name, anew.spec)
    if too_large is not None:
        return cluster, too_large
    started = pending(anew, at_ms, Reason("started", "waits for a node"))
    return drop_unused_sources(put(cluster, started)), Accepted(index)


def stop(cluster: Cluster, index: int, at_ms: int, command: StopVm) -> Step:
    vm = cluster.vms.get(command.name)
    if vm is None or vm.wanted is Wanted.DELETED:
        return cluster, no_such_vm(command.name)
    if vm.state is State.STOPPED:
        return cluster, Accepted(index, f"{vm.name} is already stopped")
    stopped = replace(vm, wanted=Wanted.STOPPED, move=_no_longer_as_it_was(vm.move))
    release = Release(command.grace_ms, command.kill)
    return put(cluster, give_up(stopped, at_ms, release, "stopped by request")), Accepted(index)


def restart(cluster: Cluster, index: int, at_ms: int, command: RestartVm) -> Step:
    vm = cluster.vms.get(command.name)
    if vm is None or vm.wanted is Wanted.DELETED:
        return cluster, no_such_vm(command.name)
    if vm.holder is None:
        return start(cluster, index, at_ms, StartVm(command.name))
    move = _no_longer_as_it_was(vm.move)
    wanted = replace(vm, wanted=Wanted.RUNNING, failures=0, failed_on=None, move=move)
    release = Release(command.grace_ms, command.kill)
    return put(cluster, give_up(wanted, at_ms, release, "restarted by request")), Accepted(index)


def _no_longer_as_it_was(move: Move | None) -> Move | None:
    """A VM that is stopped only to move starts as it ran; one that is stopped by request, while it
    moves, as it is declared."""
    return move and replace(move, handed_ms=0)


def set_policy(cluster: Cluster, index: int, command: SetPolicy) -> Step:
    """Replace the policy. What the present placement does on quorum loss was settled with it."""
    vm = cluster.vms.get(command.name)
    if vm is None or vm.wanted is Wanted.DELETED:
        return cluster, no_such_vm(command.name)
    if vm.declared is not None:
        return cluster, _declared(vm)
    if not _is_sound(command.policy):
        return cluster, _bad_limit(command.name)
    impossible = contradiction(command.policy)
    if impossible:
        return cluster, _impossible(command.name, impossible)
    unknown = _unknown_neighbour(cluster, command.name, command.policy)
    if unknown is not None:
        return cluster, unknown
    changed = with_policy(vm, command.policy)
    late = vm.holder is not None and command.policy.on_quorum_loss is not vm.policy.on_quorum_loss
    note = f"{vm.name} follows the new policy once it is started anew" if late else ""
    return put(cluster, changed), Accepted(index, note)


def delete(cluster: Cluster, index: int, at_ms: int, command: DeleteVm) -> Step:
    vm = cluster.vms.get(command.name)
    if vm is None:
        return cluster, no_such_vm(command.name)
    if vm.declared is not None:
        return cluster, _declared(vm)
    doomed = replace(vm, wanted=Wanted.DELETED)
    if vm.holder is None:
        return remove(cluster, doomed), Accepted(index)
    release = Release(command.grace_ms, command.kill)
    return put(cluster, give_up(doomed, at_ms, release, "deleted by request")), Accepted(index)


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


def _declared(vm: Vm) -> Rejected:
    assert vm.declared is not None
    owner = f"node-{vm.declared.node_id}"
    return Rejected(
        Code.DECLARED,
        f"{vm.name} is declared by the configuration of {owner}",
        why="it would come back, or be changed back, with the next start of that node",
        fixes=(Fix(f"change or remove services.blixard.vms.{vm.name} on {owner} first"),),
    )


def _impossible(name: str, contradiction: str) -> Rejected:
    return Rejected(
        Code.CONTRADICTION,
        f'no node could ever run "{name}": {contradiction}',
        fixes=(Fix("leave one of the two out"),),
    )


def _unknown_neighbour(cluster: Cluster, name: str, policy: Policy) -> Rejected | None:
    """A VM that is to be near nobody would wait for ever."""
    known = {name, policy.group, *cluster.vms}
    known.update(vm.policy.group for vm in cluster.vms.values())
    for relation in policy.near:
        if relation.group not in known:
            return Rejected(
                Code.NO_SUCH_VM,
                f'near: no VM and no group is named "{relation.group}"',
                why=f'"{name}" would wait for ever',
                fixes=(
                    Fix(f"create {relation.group} first, or put this VM into that group: --group"),
                    Fix("all names:", "blixard vm list -o name"),
                ),
            )
    return None


def _is_sound(policy: Policy) -> bool:
    return 0 <= policy.restart_limit <= MAX_RESTARTS


def _bad_limit(name: str) -> Rejected:
    return Rejected(
        Code.BAD_ARGUMENT,
        f'the restart limit of "{name}" is out of range',
        fixes=(Fix(f"choose 0 to {MAX_RESTARTS}; with 0 it is never restarted by itself"),),
    )


def name_taken(cluster: Cluster, vm: Vm) -> Rejected:
    """What anyone is told who wants to create a VM of a name that is in use."""
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
        if capacity.vcpus >= spec.vcpus
        and capacity.memory_mib >= spec.memory_mib
        and (not spec.disk_mib or capacity.disk_mib >= spec.disk_mib)
    ]
    if fits or not capacities:
        return None
    vcpus = max(capacity.vcpus for capacity in capacities)
    memory_mib = max(capacity.memory_mib for capacity in capacities)
    wanted = f"{spec.vcpus} vCPUs and {spec.memory_mib} MiB"
    most, flags = f"{vcpus} vCPUs and {memory_mib} MiB", "--vcpus or --memory"
    if spec.disk_mib:
        disk_mib = max(capacity.disk_mib for capacity in capacities)
        wanted, most = f"{wanted}, {spec.disk_mib} MiB of disk", f"{most}, {disk_mib} MiB of disk"
        flags = "--vcpus, --memory or --disk"
    return Rejected(
        Code.TOO_LARGE,
        f'"{name}" asks for {wanted}; no node is that large',
        why=f"the largest nodes have {most}",
        fixes=(Fix(f"ask for less with {flags}, or add a larger node"),),
    )
