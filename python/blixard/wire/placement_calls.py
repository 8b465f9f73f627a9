"""The calls about where VMs run: why, where else, and on the way there."""

import asyncio
from typing import Any

import grpc

from blixard.commands import CreateVm, DrainNode, MoveVm, ResumeNode
from blixard.errors import Code
from blixard.machine import vms
from blixard.machine.vms import no_such_vm
from blixard.model import Cluster, Fix, Node, Rejected, State, Vm, Wanted
from blixard.ports import Log, LogStatus
from blixard.scheduler import Planner, Verdict, drain, exposures
from blixard.v1 import blixard_pb2 as pb
from blixard.wire import actor, checks, view
from blixard.wire.status import Refused, answers
from blixard.wire.vm_calls import VmCalls

Context = grpc.aio.ServicerContext[Any, Any]


class PlacementCalls(VmCalls):
    """`ClusterService`, the part about where VMs run."""

    @answers
    async def MoveVm(self, request: pb.MoveVmRequest, context: Context) -> pb.ChangeResponse:
        """Without a target the best of the other nodes is chosen here, and named in the log."""
        name = checks.vm_name(request.name)
        grace_ms = checks.grace_ms(request)
        request_id = checks.request_id(request.request_id)
        log = await self._node.read(stale=False)
        cluster = log.cluster()
        vm = cluster.vms.get(name)
        if request.to:
            to = self._named(cluster, request.to).node_id
        elif vm is None:
            raise Refused(no_such_vm(name))
        else:
            to = self._elsewhere(cluster, vm)
        command = MoveVm(name, to, (actor.asking() or "somebody"), grace_ms, request.kill)
        return await self._change(name, command, request_id)

    def _named(self, cluster: Cluster, name: str) -> Node:
        for node in cluster.nodes.values():
            if name in (node.name, str(node.node_id)):
                return node
        raise Refused(
            Rejected(
                Code.NO_SUCH_NODE,
                f'no node named "{name[:80]}"',
                fixes=(Fix("all names:", "blixard node list -o name"),),
            )
        )

    def _elsewhere(self, cluster: Cluster, vm: Vm) -> int:
        """The best node for a VM, apart from the one that holds it."""
        if vm.holder is None:
            return vm.last_node or min(cluster.nodes)  # the law says what is wrong
        here = vm.holder.node_id
        choice = self._planner(cluster).place(vm, frozenset({here}))
        if choice.node_id is None:
            raise Refused(
                Rejected(
                    Code.RULE_REFUSES,
                    f"{vm.name} cannot run on any other node",
                    why=choice.why,
                    fixes=(Fix("see every rule", f"blixard vm why {vm.name}"),),
                )
            )
        return choice.node_id

    def _planner(self, cluster: Cluster) -> Planner:
        return Planner(cluster, _silent(cluster, self._node.log.status()))

    @answers
    async def ExplainVm(
        self, request: pb.ExplainVmRequest, context: Context
    ) -> pb.ExplainVmResponse:
        """The scheduler's own view of the state of now."""
        if request.WhichOneof("subject") == "candidate":
            return await self._candidate(request.candidate)
        name = checks.vm_name(request.name)
        log = await self._node.read(stale=False)
        cluster, status = log.cluster(), log.status()
        vm = cluster.vms.get(name)
        if vm is None:
            raise Refused(no_such_vm(name))
        verdicts = self._planner(cluster).verdicts(vm)
        return self._explained(cluster, status, vm, verdicts)

    async def _candidate(self, request: pb.CreateVmRequest) -> pb.ExplainVmResponse:
        """A VM that is not there: created on paper, by the law itself."""
        command = await self.creation(request)
        log = await self._node.read(stale=False)
        status = log.status()
        index, at_ms = status.applied_index + 1, self._node.wall_ms()
        cluster, outcome = vms.create(log.cluster(), index, at_ms, command)
        if isinstance(outcome, Rejected):
            raise Refused(outcome)
        vm = cluster.vms[command.name]
        answer = self._explained(cluster, status, vm, self._planner(cluster).verdicts(vm))
        answer.warnings.extend(self._warnings(cluster, answer.node, command))
        return answer

    def _warnings(self, cluster: Cluster, node: str, command: CreateVm) -> list[str]:
        """What the loss of one host would mean once this VM is there."""
        if not node or command.wanted is not Wanted.RUNNING:
            return []
        planner = self._planner(cluster)
        vm = cluster.vms[command.name]
        held = int(node.removeprefix("node-"))
        choice = planner.place(vm, frozenset({held}))
        if choice.node_id is not None:
            return []
        return [f"if {node} were lost, no other node could run {vm.name}: {choice.why}"]

    def _explained(
        self, cluster: Cluster, status: LogStatus, vm: Vm, verdicts: list[Verdict]
    ) -> pb.ExplainVmResponse:
        best = verdicts[0] if verdicts and verdicts[0].rank else None
        return pb.ExplainVmResponse(
            headline=_headline(vm, best),
            vm=view.vm(cluster, status, vm),
            verdicts=[_verdict(verdict) for verdict in verdicts],
            node=f"node-{best.node_id}" if best is not None else "",
            fixes=[pb.Fix(text=one.text, command=one.command) for one in _ways_out(vm, verdicts)],
            as_of=view.as_of(status, linearizable=True),
        )

    @answers
    async def DrainNode(
        self, request: pb.DrainNodeRequest, context: Context
    ) -> pb.DrainNodeResponse:
        node_id = checks.node_id(request.node_id)
        reason = checks.remark(request.reason)
        request_id = checks.request_id(request.request_id)
        command = DrainNode(node_id, (actor.asking() or "somebody"), reason, request.until_restart)
        accepted = await self._node.change(command, request_id)
        return pb.DrainNodeResponse(index=accepted.index, note=accepted.note)

    @answers
    async def ResumeNode(
        self, request: pb.ResumeNodeRequest, context: Context
    ) -> pb.ResumeNodeResponse:
        node_id = checks.node_id(request.node_id)
        request_id = checks.request_id(request.request_id)
        command = ResumeNode(node_id, (actor.asking() or "somebody"))
        accepted = await self._node.change(command, request_id)
        return pb.ResumeNodeResponse(index=accepted.index, note=accepted.note)

    @answers
    async def PlanDrain(
        self, request: pb.PlanDrainRequest, context: Context
    ) -> pb.PlanDrainResponse:
        node_id = checks.node_id(request.node_id)
        log = await self._node.read(stale=False)
        cluster, status = log.cluster(), log.status()
        if node_id not in cluster.nodes:
            raise Refused(
                Rejected(
                    Code.NO_SUCH_NODE,
                    f"no node with id {node_id}",
                    fixes=(Fix("all nodes:", "blixard node list"),),
                )
            )
        silent = _silent(cluster, status)
        return pb.PlanDrainResponse(
            node=next(view.nodes(cluster, status, [node_id], {})),
            steps=[
                pb.DrainStep(
                    vm=step.vm.name,
                    state=step.vm.state.value,
                    to=f"node-{step.to}" if step.to is not None else "",
                    why=step.why,
                    move=view.move(step.vm),
                )
                for step in drain(cluster, node_id, silent)
            ],
            as_of=view.as_of(status, linearizable=True),
        )


def _silent(cluster: Cluster, status: LogStatus) -> frozenset[int]:
    return frozenset(i for i in cluster.nodes if not status.hears(i))


async def exposed(log: Log) -> list[pb.Exposure]:
    """Which VMs the loss of one node would leave without a host. In a large cluster that takes a
    while, so it is not found out on the loop."""
    cluster, silent = log.cluster(), _silent(log.cluster(), log.status())
    found = await asyncio.to_thread(exposures, cluster, silent)
    return [pb.Exposure(node=f"node-{i}", vms=names) for i, names in sorted(found.items())]


def _verdict(verdict: Verdict) -> pb.Verdict:
    refusals = [pb.Finding(rule=one.rule, text=one.text, refuses=True) for one in verdict.refusals]
    merits = [pb.Finding(rule=rule, text=text) for rule, text in verdict.merits]
    return pb.Verdict(
        node=f"node-{verdict.node_id}",
        node_id=verdict.node_id,
        rank=verdict.rank,
        findings=[*refusals, *merits],
    )


def _headline(vm: Vm, best: Verdict | None) -> str:
    state = vm.state.value
    if vm.holder is not None:
        return f"{vm.name} is {state} on node-{vm.holder.node_id}: {vm.reason.text}"
    if vm.state is State.PENDING and best is None:
        return f"{vm.name} is {state}: no node can run it"
    if vm.state is State.PENDING:
        return f"{vm.name} is {state}: {vm.reason.text}"
    return f"{vm.name} is {state} and on no node: {vm.reason.text}"


def _ways_out(vm: Vm, verdicts: list[Verdict]) -> list[Fix]:
    """What would let a VM run that cannot: the one rule that stands in the way of a node."""
    if vm.holder is not None or any(verdict.rank for verdict in verdicts):
        return []
    fixes = []
    for verdict in verdicts:
        node = f"node-{verdict.node_id}"
        if {one.rule for one in verdict.refusals} == {"drain"}:
            fixes.append(Fix(f"let {node} take VMs again", f"blixard node resume {node}"))
        if {one.rule for one in verdict.refusals} == {"tie"}:
            what = f"leave its volumes behind, and start it on {node}"
            fixes.append(_with_policy(vm, what, "failover", "always"))
        if {one.rule for one in verdict.refusals} == {"require"}:
            what = f"require nothing, and start it on {node}"
            fixes.append(_with_policy(vm, what, "require", "''"))
    return fixes[:3]


def _with_policy(vm: Vm, what: str, part: str, value: str) -> Fix:
    """A way out by a change of policy: where a configuration declares the VM, only there."""
    if vm.declared is None:
        return Fix(what, f"blixard vm set {vm.name} --{part} {value}")
    return Fix(f"{what}: services.blixard.vms.{vm.name}.{part} on node-{vm.declared.node_id}")
