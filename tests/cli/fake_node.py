"""A node that answers over real gRPC as a test tells it to: what only accidents would show."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, Self

import grpc

from blixard.errors import Code
from blixard.model import Fix, Rejected
from blixard.v1 import blixard_pb2 as pb
from blixard.wire.actor import KEY
from blixard.wire.request_id import format_request_id
from blixard.wire.status import ERROR_KEY, status_of

NOW_MS = 1_700_000_038_000
SINCE_MS = 1_700_000_000_000

Context = grpc.ServicerContext
Step = Callable[[Any, Context], Any]
"""Answers one call instead of the node; if it returns None, the node answers after all."""


def a_vm(name: str, state: str = "running", **fields: Any) -> pb.Vm:
    """A VM with all its fields set."""
    held = state not in ("pending", "stopped", "failed")
    usual: dict[str, Any] = {
        "uid": 5,
        "wanted": "stopped" if state in ("stopped", "stopping") else "running",
        "reason": pb.Reason(code=state, text=f"is {state}"),
        "node": "node-1" if held else "",
        "node_id": 1 if held else 0,
        "epoch": 7 if held else 0,
        "since_ms": SINCE_MS,
        "created_ms": SINCE_MS,
        "vcpus": 1,
        "memory_mib": 512,
        "source": pb.Source(
            flake=pb.FlakeSource(
                url="github:me/infra/4f1c2ab", attribute=name, nar_hash="sha256-9d0P"
            )
        ),
        "policy": pb.Policy(on_quorum_loss="stop", failover="auto", restart_limit=5),
        "mode": "best-effort" if held else "",
    }
    return pb.Vm(name=name, state=state, **(usual | fields))


def a_node(node_id: int, **fields: Any) -> pb.Node:
    """A node that is up, of 8 vCPUs and 16 GiB."""
    usual: dict[str, Any] = {
        "name": f"node-{node_id}",
        "address": f"127.0.0.1:{node_id}",
        "state": "up",
        "role": "follower",
        "vcpus": 8,
        "memory_mib": 16384,
        "version": "0.1.0",
        "incarnation": 3,
        "heard_ms": 120,
        "mode": "best-effort",
        "lease_ms": 9000,
        "renewed_ms_ago": 1400,
    }
    return pb.Node(node_id=node_id, **(usual | fields))


def refuse(
    context: Context, rejected: Rejected, leader: str = "", *, maybe_applied: bool = False
) -> NoReturn:
    """End a call as a node does."""
    error = pb.Error(
        code=rejected.code,
        message=rejected.message,
        why=rejected.why,
        fixes=[pb.Fix(text=fix.text, command=fix.command) for fix in rejected.fixes],
        leader_address=leader,
        maybe_applied=maybe_applied,
    )
    context.set_trailing_metadata(((ERROR_KEY, error.SerializeToString()),))
    context.abort(status_of(rejected.code), rejected.message)
    raise AssertionError("abort always raises")


def lose(_: Any, context: Context) -> None:
    """A step: the connection breaks."""
    context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")


def no_leader(_: Any, context: Context) -> None:
    """A step: this node knows nobody who leads."""
    refuse(context, Rejected(Code.NO_LEADER, "no leader is known"))


class FakeNode(grpc.GenericRpcHandler):
    """One node, at `address` and at `socket`. It keeps VMs and the outcomes of requests.

    `script` holds, for a procedure, the steps that answer its next calls, `streams` what each
    next `Watch` is told. A node with a `leader` sends callers there. After `lose_answers`, that
    many changes are made and never answered.
    """

    def __init__(self, socket: Path) -> None:
        self.vms: dict[str, pb.Vm] = {}
        self.nodes = [a_node(1, role="leader", heard_ms=0)]
        self.script: dict[str, list[Step]] = {}
        self.streams: list[Sequence[pb.WatchResponse | Step]] = []
        self.actors: list[str] = []
        self.events: list[pb.Event] = []
        self.leader = ""
        self.lose_answers = 0
        self.calls: list[tuple[str, Any]] = []
        self.outcomes: dict[str, pb.ChangeResponse] = {}
        self.socket = f"unix:{socket}"
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(8)
        self._server = grpc.server(self._pool, [self], options=[("grpc.so_reuseport", 0)])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('0.0.0.0:0')}"
        self._server.add_insecure_port(self.socket)
        self._server.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.stop(0).wait()
        self._pool.shutdown()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """One handler for all procedures, by their names."""
        method = handler_call_details.method.rpartition("/")[2]
        said = dict(handler_call_details.invocation_metadata)
        self.actors += [str(said[KEY])] if KEY in said else []
        if method == "Watch":
            return grpc.unary_stream_rpc_method_handler(
                self._watch,
                request_deserializer=pb.WatchRequest.FromString,
                response_serializer=lambda response: response.SerializeToString(),
            )
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._answer(method, request, context),
            request_deserializer=getattr(pb, f"{method}Request").FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )

    def hang(self, _: Any, context: Context) -> None:
        """A step: no answer before the test is over."""
        self._over.wait()
        context.abort(grpc.StatusCode.CANCELLED, "the test is over")

    def die(self, _: Any, context: Context) -> None:
        """A step: the node is gone before it answers."""
        self._server.stop(0)
        context.abort(grpc.StatusCode.CANCELLED, "gone")

    def called(self, method: str) -> list[Any]:
        """The requests of all calls of a procedure."""
        return [request for name, request in self.calls if name == method]

    def _watch(self, request: pb.WatchRequest, context: Context) -> Iterator[pb.WatchResponse]:
        """What the next of `streams` holds; a step ends it, and so does its end."""
        self.calls.append(("Watch", request))
        if self.events:
            yield from self._told(request, context)
            return
        usual = [pb.WatchResponse(type="synced", index=41)]
        for response in self.streams.pop(0) if self.streams else usual:
            if isinstance(response, pb.WatchResponse):
                yield response
            else:
                response(request, context)

    def _answer(self, method: str, request: Any, context: Context) -> Any:
        self.calls.append((method, request))
        steps = self.script.get(method)
        if steps:
            answer = steps.pop(0)(request, context)
            if answer is not None:
                return answer
        anywhere = method in ("OpenSession", "GetRaftStatus") or getattr(request, "stale", False)
        if self.leader and not anywhere:
            refuse(context, Rejected(Code.NO_LEADER, "node-1 does not lead"), self.leader)
        match method:
            case "OpenSession":
                session = f"s{len(self.called(method))}"
                return pb.OpenSessionResponse(session=session, base_index=40)
            case "GetRaftStatus":
                return pb.GetRaftStatusResponse(is_leader=not self.leader, node_id=1, term=3)
            case "ListVms":
                vms = [self.vms[name] for name in sorted(self.vms)]
                return pb.ListVmsResponse(vms=vms, as_of=self._as_of(request))
            case "GetVmStatus":
                vm = self._known(request.name, context)
                return pb.GetVmStatusResponse(vm=vm, as_of=self._as_of(request))
            case "GetClusterStatus":
                return self._cluster_status(request)
            case "JoinThrough":
                return pb.JoinThroughResponse(cluster_id="c2")
            case "ConfirmNodeDown":
                return pb.ConfirmNodeDownResponse(index=43, note="freed: db")
            case "LeaveCluster":
                return pb.LeaveClusterResponse()
            case _:
                return self._changed(method, request, context)

    def _told(self, request: pb.WatchRequest, context: Context) -> Iterator[pb.WatchResponse]:
        """The events that there are, and later ones for as long as the caller listens."""
        told = 0
        while context.is_active():
            for event in self.events[told:]:
                yield pb.WatchResponse(type="event", index=event.index, event=event)
            told = len(self.events)
            if request.finite or self._over.wait(0.02):
                return

    def _changed(self, method: str, request: Any, context: Context) -> pb.ChangeResponse:
        """Change a VM once for every request id, however often it is asked for."""
        key = format_request_id(request.request_id)
        if key not in self.outcomes:
            self.outcomes[key] = self._change(method, request, context)
        if self.lose_answers > 0:
            self.lose_answers -= 1
            lose(request, context)
        return self.outcomes[key]

    def _change(self, method: str, request: Any, context: Context) -> pb.ChangeResponse:
        name, note = request.name, ""
        match method:
            case "CreateVm":
                if name in self.vms:
                    look = Fix("look at it", f"blixard vm status {name}")
                    taken = f'a VM named "{name}" already exists'
                    refuse(context, Rejected(Code.EXISTS, taken, fixes=(look,)))
                self.vms[name] = a_vm(name, "stopped" if request.stopped else "pending")
            case "StartVm" if self._known(name, context).state == "running":
                note = f"{name} is already running on node-1"
            case "StartVm" | "RestartVm":
                self._known(name, context)
                self.vms[name] = a_vm(name, "pending")
            case "SetVmPolicy":
                self._known(name, context).policy.MergeFrom(request.policy)
            case "StopVm":
                self._known(name, context)
                self.vms[name] = a_vm(name, "stopping")
            case "DeleteVm":
                self._known(name, context)
                del self.vms[name]
        return pb.ChangeResponse(index=len(self.outcomes) + 42, note=note, vm=self.vms.get(name))

    def _known(self, name: str, context: Context) -> pb.Vm:
        if name not in self.vms:
            fix = Fix("all names", "blixard vm list -o name")
            refuse(context, Rejected(Code.NO_SUCH_VM, f'no VM named "{name}"', fixes=(fix,)))
        return self.vms[name]

    def _as_of(self, request: Any) -> pb.AsOf:
        return pb.AsOf(index=41, term=3, node="node-1", linearizable=not request.stale)

    def _cluster_status(self, request: Any) -> pb.GetClusterStatusResponse:
        states: dict[str, int] = {}
        for vm in self.vms.values():
            states[vm.state] = states.get(vm.state, 0) + 1
        return pb.GetClusterStatusResponse(
            cluster_id="c1",
            leader_id=1,
            nodes=self.nodes,
            term=3,
            commit_index=41,
            vms=states,
            quorum=len(self.nodes) // 2 + 1,
            as_of=self._as_of(request),
        )
