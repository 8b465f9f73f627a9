"""The cluster as a caller sees it: finds the node that leads, and repeats what it asks safely.

Synchronous, for the command line. A change is sent under a request id, so that a repetition gets
the first outcome and never acts twice. What could not be settled in time is told as such.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Self

import grpc
from google.protobuf.message import Message

from blixard.errors import Code
from blixard.model import Fix, Rejected
from blixard.v1 import blixard_pb2 as pb
from blixard.wire.actor import KEY
from blixard.wire.calls import (
    CLUSTER_STATUS,
    CONFIRM_NODE_DOWN,
    CREATE_VM,
    DECLARE_VM,
    DELETE_VM,
    DISOWN_VM,
    JOIN_THROUGH,
    LEAVE,
    LIST_VMS,
    OPEN_SESSION,
    RAFT_STATUS,
    RESTART_VM,
    SET_VM_POLICY,
    START_VM,
    STOP_VM,
    VM_STATUS,
    Call,
    Miss,
    Response,
)
from blixard.wire.client_console import Consoles
from blixard.wire.client_watch import Watching
from blixard.wire.request_id import format_request_id
from blixard.wire.status import refusal_in

MAX_HOPS: Final = 3
"""How often one round follows a node's word about who leads."""
LONGEST_ATTEMPT_S: Final = 5.0
SHORTEST_ATTEMPT_S: Final = 0.2
"""A single node is waited for half of the time that is left, within these bounds."""
LEARNING_S: Final = 1.0
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 0.1
"""Shorter than an election, so that little is added to it."""
_OPTIONS: Final = (
    # Nodes are reached directly, whatever proxy the shell's environment names for the web.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # A node that is gone ends a stream on which nothing comes, too.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)

_Change = (
    pb.CreateVmRequest
    | pb.MoveVmRequest
    | pb.DrainNodeRequest
    | pb.ResumeNodeRequest
    | pb.StartVmRequest
    | pb.StopVmRequest
    | pb.RestartVmRequest
    | pb.DeclareVmRequest
    | pb.DisownVmRequest
    | pb.DeleteVmRequest
    | pb.SetVmPolicyRequest
    | pb.LeaveClusterRequest
    | pb.ConfirmNodeDownRequest
)


class CallFailed(Exception):
    """A call had no success. `facts` tells what each address answered, one line each; `request_id`
    names the change, so that it can be repeated."""

    def __init__(
        self, rejected: Rejected, *, facts: tuple[str, ...] = (), request_id: str = ""
    ) -> None:
        super().__init__(rejected.message)
        self.rejected = rejected
        self.facts = facts
        self.request_id = request_id


class Client(Watching, Consoles):
    """Calls to one cluster through any of `addresses` (`host:port` or `unix:/path`).

    Every call raises `CallFailed`: at once if it is refused, after `timeout_ms` if no node could
    serve it. `trace` is told of every attempt, `notice` once when a call has to be repeated.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        timeout_ms: int,
        request_id: pb.RequestId | None = None,
        trace: Callable[[str], None] = lambda _: None,
        notice: Callable[[str], None] = lambda _: None,
        actor: str = "",
    ) -> None:
        """`actor` is who asks, such as user@host: the cluster puts it on record."""
        self._metadata = ((KEY, actor),) if actor else ()
        self._addresses = list(dict.fromkeys(addresses))
        self._members: list[str] = []
        self._leader = ""
        self._timeout_ms = timeout_ms
        self._channels: dict[str, grpc.Channel] = {}
        self._answered: set[str] = set()
        self._next_request = request_id
        self._trace = trace
        self._notice = notice
        self.request_id = ""
        """The id of the last change that was asked for."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for address in list(self._channels):
            self._hang_up(address)

    # --- what can be asked ----------------------------------------------------------------------

    def list_vms(self, *, stale: bool = False) -> pb.ListVmsResponse:
        return self.ask(LIST_VMS, pb.ListVmsRequest(stale=stale))

    def vm_status(self, name: str, *, stale: bool = False) -> pb.GetVmStatusResponse:
        return self.ask(VM_STATUS, pb.GetVmStatusRequest(name=name, stale=stale))

    def cluster_status(self, *, stale: bool = False) -> pb.GetClusterStatusResponse:
        return self.ask(CLUSTER_STATUS, pb.GetClusterStatusRequest(stale=stale))

    def raft_status(self) -> pb.GetRaftStatusResponse:
        """The consensus state of whichever node answers first."""
        return self.ask(RAFT_STATUS, pb.GetRaftStatusRequest())

    def create_vm(self, request: pb.CreateVmRequest) -> pb.ChangeResponse:
        return self.change(CREATE_VM, request)

    def declare_vm(self, request: pb.DeclareVmRequest) -> pb.ChangeResponse:
        return self.change(DECLARE_VM, request)

    def disown_vm(self, request: pb.DisownVmRequest) -> pb.ChangeResponse:
        return self.change(DISOWN_VM, request)

    def start_vm(self, request: pb.StartVmRequest) -> pb.ChangeResponse:
        return self.change(START_VM, request)

    def stop_vm(self, request: pb.StopVmRequest) -> pb.ChangeResponse:
        return self.change(STOP_VM, request)

    def restart_vm(self, request: pb.RestartVmRequest) -> pb.ChangeResponse:
        return self.change(RESTART_VM, request)

    def delete_vm(self, request: pb.DeleteVmRequest) -> pb.ChangeResponse:
        return self.change(DELETE_VM, request)

    def set_vm_policy(self, request: pb.SetVmPolicyRequest) -> pb.ChangeResponse:
        return self.change(SET_VM_POLICY, request)

    def confirm_node_down(self, request: pb.ConfirmNodeDownRequest) -> pb.ConfirmNodeDownResponse:
        return self.change(CONFIRM_NODE_DOWN, request)

    def leave_cluster(self, request: pb.LeaveClusterRequest) -> pb.LeaveClusterResponse:
        return self.change(LEAVE, request)

    def join_through(self, address: str) -> pb.JoinThroughResponse:
        """Tell the node at the first address, and no other, to join; asked once, without an id."""
        asked = self._addresses[0]
        request = pb.JoinThroughRequest(address=address)
        answer = self._ask(asked, JOIN_THROUGH, request, time.monotonic() + self._timeout_ms / 1000)
        if isinstance(answer, Miss):
            raise self._failure({asked: answer}, maybe_applied=answer.maybe_applied)
        return answer

    def learn_members(self) -> None:
        """Remember where the cluster's nodes are, so that the loss of one leaves others to ask."""
        deadline = time.monotonic() + LEARNING_S
        request = pb.GetClusterStatusRequest(stale=True)
        for address in self._candidates():
            try:
                answer = self._attempt(address, CLUSTER_STATUS, request, deadline)
            except CallFailed:
                continue
            if not isinstance(answer, Miss):
                self._members = [node.address for node in answer.nodes]
                return

    # --- how it is asked ------------------------------------------------------------------------

    def change(self, call: Call[Response], request: _Change) -> Response:
        """Ask for a change under the next request id."""
        if self._next_request is None:
            opened = self.ask(OPEN_SESSION, pb.OpenSessionRequest())
            self._next_request = pb.RequestId(
                session=opened.session, number=1, base_index=opened.base_index
            )
            self.learn_members()
        request.request_id.CopyFrom(self._next_request)
        self.request_id = format_request_id(request.request_id)
        self._next_request.number += 1
        self._trace(f"request id {self.request_id}")
        return self.ask(call, request)

    def ask(self, call: Call[Response], request: Message) -> Response:
        """Ask round after round until a node serves the call, or the time is over."""
        deadline = time.monotonic() + self._timeout_ms / 1000
        pause_s = FIRST_PAUSE_S
        maybe_applied = False
        while True:
            misses: dict[str, Miss] = {}
            for address, answer in self._round(call, request, deadline):
                if not isinstance(answer, Miss):
                    self._leader = address
                    return answer
                misses[address] = answer
                maybe_applied |= answer.maybe_applied
            hopeless = all(miss.hopeless for miss in misses.values())
            if hopeless or time.monotonic() + pause_s >= deadline:
                raise self._failure(misses, maybe_applied)
            if pause_s == FIRST_PAUSE_S:
                self._notice(f"no node can serve this yet; trying for {self._timeout_ms // 1000} s")
            if not self._members:
                self.learn_members()
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _round(
        self, call: Call[Response], request: Message, deadline: float
    ) -> Iterator[tuple[str, Response | Miss]]:
        """Ask every known address once, and after each whoever it says leads."""
        asked: set[str] = set()
        for candidate in self._candidates():
            address, hops = candidate, 0
            while address and address not in asked and hops <= MAX_HOPS:
                asked.add(address)
                answer = self._ask(address, call, request, deadline)
                yield address, answer
                address, hops = (answer.leader if isinstance(answer, Miss) else ""), hops + 1

    def _candidates(self) -> list[str]:
        known = [self._leader, *self._addresses, *self._members]
        return [address for address in dict.fromkeys(known) if address]

    def _ask(
        self, address: str, call: Call[Response], request: Message, deadline: float
    ) -> Response | Miss:
        """Ask one node. Raises `CallFailed` if the call is refused for good."""
        if address not in self._answered and (call.changes or self._members):
            # Once a harmless call was answered, a change that got lost can be told from one that
            # was never sent, and a node that has no majority from one that is not there.
            reached = self._attempt(address, RAFT_STATUS, pb.GetRaftStatusRequest(), deadline)
            if isinstance(reached, Miss) and not reached.answered:
                return reached
        return self._attempt(address, call, request, deadline)

    def _attempt(
        self, address: str, call: Call[Response], request: Message, deadline: float
    ) -> Response | Miss:
        began = time.monotonic()
        left_s = deadline - began
        share_s = left_s if call.patient else min(left_s / 2, LONGEST_ATTEMPT_S)
        timeout_s = max(share_s, SHORTEST_ATTEMPT_S)
        answer: Response | Miss
        try:
            answer = self._procedure(address, call)(
                request, timeout=timeout_s, metadata=self._metadata if call.changes else ()
            )
            self._answered.add(address)
            outcome = "ok"
        except grpc.RpcError as error:
            answer = self._missed(address, call, error, timeout_s)
            outcome = answer.said
        elapsed_ms = round((time.monotonic() - began) * 1000)
        self._trace(f"{address} {call.method.partition('/')[2]}: {outcome} ({elapsed_ms} ms)")
        return answer

    def _procedure(self, address: str, call: Call[Response]) -> Callable[..., Response]:
        return self._channel(address).unary_unary(
            f"/blixard.v1.{call.method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=call.answer.FromString,
        )

    def _channel(self, address: str) -> grpc.Channel:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = grpc.insecure_channel(address, options=_OPTIONS)
        return channel

    def _hang_up(self, address: str) -> None:
        self._answered.discard(address)
        channel = self._channels.pop(address, None)
        if channel is not None:
            channel.close()

    def _missed(
        self, address: str, call: Call[Any], error: grpc.RpcError, timeout_s: float
    ) -> Miss:
        """What an error means: ask again or elsewhere, or, as `CallFailed`, never."""
        refused = refusal_in(error)
        if refused is not None:
            self._answered.add(address)
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise CallFailed(refused.rejected, request_id=self.request_id)
            return Miss(
                said=f"answers: {refused.rejected.message}",
                rejected=refused.rejected,
                answered=True,
                leader=refused.leader_address,
                maybe_applied=refused.maybe_applied,
            )
        # A change is only ever sent to a node that has just answered something harmless.
        answered = address in self._answered
        match error.code():
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                self._hang_up(address)
                what = "answers, but not to this" if answered else "no answer"
                return Miss(
                    f"{what} in {timeout_s:.1f} s", answered=answered, maybe_applied=call.changes
                )
            case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED | grpc.StatusCode.UNKNOWN:
                self._hang_up(address)
                return Miss(_in_words(error.details() or ""), maybe_applied=call.changes)
            case _:
                self._hang_up(address)
                what = error.details() or error.code().name
                return Miss(f"no Blixard node, or of another release: {what}", hopeless=True)

    def _failure(self, misses: dict[str, Miss], maybe_applied: bool) -> CallFailed:
        """All attempts were in vain: say why, address by address."""
        width = max((len(address) for address in misses), default=0)
        facts = tuple(f"{address:{width}}  {miss.said}" for address, miss in misses.items())
        request_id = self.request_id if maybe_applied else ""
        rejected = self._why(misses, maybe_applied)
        return CallFailed(rejected, facts=facts, request_id=request_id)

    def _why(self, misses: dict[str, Miss], maybe_applied: bool) -> Rejected:
        answers = [miss.rejected for miss in misses.values() if miss.rejected is not None]
        if maybe_applied:
            return Rejected(
                Code.OUTCOME_UNKNOWN,
                "it is not known whether the change took effect",
                why="a node may have accepted it before its answer was lost",
            )
        if not answers and not self._members:
            return Rejected(
                Code.NO_ROUTE,
                "no node answers" if len(misses) > 1 else "the node does not answer",
                why="the daemon may be down, or the address wrong",
                fixes=(
                    Fix("on the node", "systemctl status blixard"),
                    Fix("ask another node", "blixard --address HOST:PORT cluster status"),
                ),
            )
        if answers and len(self._members) < 2:
            return answers[-1]
        # A node's socket is no member, but its port is, and was asked too.
        answering = sum(misses[member].answered for member in self._members if member in misses)
        needed = len(self._members) // 2 + 1
        nodes = f"{answering} of {len(self._members)} nodes"
        return Rejected(
            Code.NO_LEADER,
            f"no leader: {nodes} {'answers' if answering == 1 else 'answer'}, {needed} are needed",
            why="a change, and an answer that can be relied on, needs a majority",
            fixes=(Fix("the last known picture", "blixard vm list --stale"),),
        )


def _in_words(details: str) -> str:
    """The cause in gRPC's account of a failed connection."""
    lowered = details.lower()
    for cause in ("connection refused", "permission denied", "no such file", "no route to host"):
        if cause in lowered:
            return cause
    if "dns" in lowered or "name resolution" in lowered:
        return "the name is not known"
    return details.rpartition(": ")[2] or "the connection was lost"
