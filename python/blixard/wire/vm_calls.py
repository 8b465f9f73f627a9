"""The calls about VMs, and the sessions that make repeating them safe."""

import asyncio
import secrets
from typing import Any

import grpc

from blixard.commands import (
    Command,
    DeclareVm,
    DeleteVm,
    DisownVm,
    RestartVm,
    SetPolicy,
    StartVm,
    StopVm,
)
from blixard.commands import CreateVm as Creation
from blixard.machine.vms import no_such_vm
from blixard.model import (
    RequestId,
    VmSpec,
    Wanted,
)
from blixard.policy import Policy
from blixard.ports import Locker
from blixard.source import Source
from blixard.v1 import blixard_pb2 as pb
from blixard.wire import checks, policies, view
from blixard.wire.node_log import NodeLog
from blixard.wire.status import Refused, answers

Context = grpc.aio.ServicerContext[Any, Any]


class VmCalls:
    """`ClusterService`, the part about VMs."""

    def __init__(self, node: NodeLog, locker: Locker) -> None:
        self._node = node
        self._locker = locker
        self._one_policy = asyncio.Lock()

    @answers
    async def OpenSession(
        self, request: pb.OpenSessionRequest, context: Context
    ) -> pb.OpenSessionResponse:
        """A fresh session. Any node may open it: its own applied index is never ahead."""
        base_index = self._node.log.status().applied_index
        return pb.OpenSessionResponse(session=secrets.token_hex(16), base_index=base_index)

    @answers
    async def CreateVm(self, request: pb.CreateVmRequest, context: Context) -> pb.ChangeResponse:
        """Declare a VM. A flake reference is locked here, so that every host builds the same."""
        name = checks.vm_name(request.name)
        request_id = checks.request_id(request.request_id)
        return await self._change(name, await self.creation(request), request_id)

    async def creation(self, request: pb.CreateVmRequest) -> Creation:
        """What a request would propose. Raises `Refused`."""
        name, size = checks.vm_name(request.name), checks.size(request)
        policy = policies.policy(request.policy, Policy())
        self._node.leader_only()
        source, content = await self._source(request)
        return Creation(
            name=name,
            spec=VmSpec(source, *size),
            wanted=Wanted.STOPPED if request.stopped else Wanted.RUNNING,
            content=content,
            policy=policy,
        )

    async def _source(self, request: pb.CreateVmRequest) -> tuple[Source, bytes]:
        match request.WhichOneof("source"):
            case "flake":
                url, attribute = checks.flake(request.flake)
                return await self._locker.lock(url, attribute), b""
            case "packed":
                return checks.packed(request.packed), request.packed.content
            case "store":
                return checks.store(request.store), b""
            case _:
                raise checks.bad(
                    "source: none was given",
                    "name a flake reference, a packed source or a store path",
                )

    @answers
    async def DeclareVm(self, request: pb.DeclareVmRequest, context: Context) -> pb.ChangeResponse:
        """Create or change a VM as its owner's configuration has it."""
        name = checks.vm_name(request.vm.name)
        request_id = checks.request_id(request.request_id)
        digest = checks.digest(request.digest)
        create = await self.creation(request.vm)
        command = DeclareVm(
            name=name,
            node_id=request.node_id,
            generation=request.generation,
            spec=create.spec,
            digest=digest,
            policy=create.policy,
            content=create.content,
        )
        return await self._change(name, command, request_id)

    @answers
    async def DisownVm(self, request: pb.DisownVmRequest, context: Context) -> pb.ChangeResponse:
        name = checks.vm_name(request.name)
        command = DisownVm(name, request.node_id, request.generation)
        return await self._change(name, command, checks.request_id(request.request_id))

    @answers
    async def StartVm(self, request: pb.StartVmRequest, context: Context) -> pb.ChangeResponse:
        name = checks.vm_name(request.name)
        return await self._change(name, StartVm(name), checks.request_id(request.request_id))

    @answers
    async def StopVm(self, request: pb.StopVmRequest, context: Context) -> pb.ChangeResponse:
        name = checks.vm_name(request.name)
        command = StopVm(name, checks.grace_ms(request), request.kill)
        return await self._change(name, command, checks.request_id(request.request_id))

    @answers
    async def RestartVm(self, request: pb.RestartVmRequest, context: Context) -> pb.ChangeResponse:
        name = checks.vm_name(request.name)
        command = RestartVm(name, checks.grace_ms(request), request.kill)
        return await self._change(name, command, checks.request_id(request.request_id))

    @answers
    async def DeleteVm(self, request: pb.DeleteVmRequest, context: Context) -> pb.ChangeResponse:
        name = checks.vm_name(request.name)
        command = DeleteVm(name, checks.grace_ms(request), request.kill)
        return await self._change(name, command, checks.request_id(request.request_id))

    @answers
    async def SetVmPolicy(
        self, request: pb.SetVmPolicyRequest, context: Context
    ) -> pb.ChangeResponse:
        """Change parts of a policy. One at a time: each begins from what the last one made."""
        name = checks.vm_name(request.name)
        request_id = checks.request_id(request.request_id)
        changed = policies.policy(request.policy, Policy())
        if not request.policy.ListFields():
            raise checks.bad(
                "policy: nothing is to be changed",
                "say what: on_quorum_loss, failover, restart_limit, priority, require, ...",
            )
        async with self._one_policy:
            log = await self._node.read(stale=False)
            vm = log.cluster().vms.get(name)
            if vm is not None:
                changed = policies.policy(request.policy, vm.policy)
            return await self._change(name, SetPolicy(name, changed), request_id)

    async def _change(
        self, name: str, command: Command, request_id: RequestId | None
    ) -> pb.ChangeResponse:
        accepted = await self._node.change(command, request_id)
        log = self._node.log
        vm = log.cluster().vms.get(name)
        shown = view.vm(log.cluster(), log.status(), vm) if vm is not None else None
        return pb.ChangeResponse(index=accepted.index, note=accepted.note, vm=shown)

    @answers
    async def ListVms(self, request: pb.ListVmsRequest, context: Context) -> pb.ListVmsResponse:
        log = await self._node.read(stale=request.stale)
        status = log.status()
        return pb.ListVmsResponse(
            vms=view.vms(log.cluster(), status),
            as_of=view.as_of(status, linearizable=not request.stale),
        )

    @answers
    async def GetVmStatus(
        self, request: pb.GetVmStatusRequest, context: Context
    ) -> pb.GetVmStatusResponse:
        name = checks.vm_name(request.name)
        log = await self._node.read(stale=request.stale)
        cluster, status = log.cluster(), log.status()
        vm = cluster.vms.get(name)
        if vm is None:
            raise Refused(no_such_vm(name))
        return pb.GetVmStatusResponse(
            vm=view.vm(cluster, status, vm),
            as_of=view.as_of(status, linearizable=not request.stale),
        )
