"""What goes wrong while a host is cut off from the others: somebody changes what it holds, removes
it, or asks it as if it still led."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from blixard.errors import Code
from blixard.model import (
    Accepted,
    Rejected,
    Vm,
)
from blixard.policy import OnQuorumLoss, Policy
from blixard.sim.clients import KEEP
from blixard.sim.faults_leases import BEYOND_S
from blixard.sim.operations import Answer, Call, Verb

if TYPE_CHECKING:
    from blixard.sim.faults import Faults
    from blixard.sim.host import Host

LOOK_US: Final = 500_000
AGAIN_US: Final = 1_000_000
AT_LENGTH_S: Final = (16.0, 40.0)
AFTER_S: Final = 1.0
"""For so long more a leader that was deposed may be asked."""


class _Cut:
    """A host and the others hear nothing of each other. Clients reach all of them."""

    def __init__(
        self,
        faults: "Faults",
        host: "Host",
        seconds: float,
        ended: Callable[[], object] = lambda: None,
    ) -> None:
        """`ended` is told at the end."""
        self.is_over = False
        pairs = [pair for pair in faults.pairs() if host.node_id in pair]
        faults.network.block(*pairs)
        faults.calm(seconds)

        def ending() -> None:
            ended()
            self.is_over = True
            faults.network.release(*pairs)

        faults.lasting((seconds, seconds), ending)


def _running_vm(faults: "Faults") -> "tuple[Host, Vm] | None":
    """A VM that runs on the host that holds it; none while the operator is busy."""
    world = faults.world
    found = [
        (host, vm)
        for host in faults.running()
        for vm in world.checks.canon.cluster.vms.values()
        if vm.holder is not None
        and vm.holder.node_id == host.node_id
        and host.hypervisor.executing(vm.name)
    ]
    return faults.random.choice(found) if found and faults.operator.is_idle else None


def recreate_cut_off(faults: "Faults") -> bool:
    """A VM is deleted and created again under its name, while the host that runs it is cut off."""
    found = _running_vm(faults)
    if found is None:
        return False
    host, vm = found
    cut = _Cut(faults, host, faults.random.uniform(*BEYOND_S))
    name, policy = vm.name, faults.random.choice((Policy(), KEEP))

    def create() -> None:
        if not cut.is_over:
            faults.operator.ask(name, Call(Verb.CREATE, policy=policy), created)

    def created(answer: Answer | None) -> None:
        """It struck if the name was free once the lease was over, or not even then."""
        is_busy = isinstance(answer, Rejected) and answer.code is Code.BUSY
        if is_busy:
            faults.world.later(AGAIN_US, create)
        is_decided = vm.keeps if is_busy else isinstance(answer, Accepted)
        if is_decided and not cut.is_over and _is_lost(faults, vm):
            faults.world.bit("recreate-cut-off")

    def deleted(answer: Answer | None) -> None:
        if isinstance(answer, Accepted):
            create()

    faults.operator.ask(name, Call(Verb.DELETE), deleted)
    return True


def policy_cut_off(faults: "Faults") -> bool:
    """What becomes of a VM on quorum loss is changed while its host has lost it."""
    found = _running_vm(faults)
    if found is None:
        return False
    host, vm = found
    changed: list[bool] = []

    def ended() -> None:
        """It struck if the host was lost with what it was to do before the change."""
        if changed and _is_lost(faults, vm):
            faults.world.bit("policy-cut-off")

    cut = _Cut(faults, host, faults.random.uniform(*AT_LENGTH_S), ended)
    other = OnQuorumLoss.STOP if vm.keeps else OnQuorumLoss.KEEP

    def told(answer: Answer | None) -> None:
        now = faults.world.checks.canon.cluster.vms.get(vm.name)
        is_held = now is not None and now.holder == vm.holder
        if isinstance(answer, Accepted) and is_held and not cut.is_over:
            changed.append(True)

    policy = replace(vm.policy, on_quorum_loss=other)
    faults.operator.ask(vm.name, Call(Verb.SET, policy=policy), told)
    return True


def _is_lost(faults: "Faults", vm: Vm) -> bool:
    """Whether the life that held a VM is over."""
    assert vm.holder is not None
    node = faults.world.checks.canon.cluster.nodes.get(vm.holder.node_id)
    return node is None or node.is_down or node.incarnation != vm.holder.incarnation


def _failed_over(faults: "Faults") -> "Host | None":
    """A host that runs VMs, all of which another would start if it were lost."""
    vms = faults.world.checks.canon.cluster.vms.values()
    keeping = {vm.holder.node_id for vm in vms if vm.holder is not None and vm.keeps}
    hosts = [host for host in faults.running() if host.node_id not in keeping]
    return next((host for host in hosts if host.hypervisor.slice()), None)


def remove_cut_off(faults: "Faults") -> bool:
    """A node is removed while it is cut off: it learns that only when it is back."""
    host = _failed_over(faults) if faults.is_whole() else None
    if host is None:
        return False
    cut = _Cut(faults, host, faults.random.uniform(*AT_LENGTH_S))

    def remove() -> None:
        if not cut.is_over:
            faults.world.administrator.remove(host.node_id, told)

    def told(outcome: object) -> None:
        if not isinstance(outcome, Accepted):
            faults.world.later(AGAIN_US, remove)
        elif not cut.is_over:
            faults.world.bit("remove-cut-off")

    remove()
    return True


def deposed_leader(faults: "Faults") -> bool:
    """The leader is alone with clients, or stands still, for longer than a lease; others elect."""
    hosts = [host for host in faults.running() if host.node is not None and host.node.is_open]
    host = next((host for host in hosts if host.node is not None and host.node.engine.leads), None)
    if host is None or host.node is None:
        return False
    world, node, asked = faults.world, host.node, faults.network.asked
    term, seconds = node.engine.term, faults.random.uniform(*BEYOND_S)
    until_us = world.now_us + int((seconds + AFTER_S) * 1e6)
    before: list[int] = []
    """How much it had been asked when another was first seen to lead."""

    def look() -> None:
        """It struck if the same process is asked later."""
        if before and asked[host.node_id] > before[0]:
            world.bit("deposed-leader")
        elif host.node is node and world.now_us < until_us:
            if not before and world.checks.newest_term > term:
                before.append(asked[host.node_id])
            world.later(LOOK_US, look)

    if faults.random.random() < 0.5:
        _Cut(faults, host, seconds)
    else:
        host.paused_until_us = world.now_us + int(seconds * 1e6)
    look()
    return True
