"""Simulated operators: they ask for changes and look at VMs, again and again, until answered.

A request that is not answered is repeated under its id, at any node, as `wire.client` does. What
was asked and told becomes the history that is checked for linearizability.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

from blixard.commands import (
    Command,
    CreateVm,
    DeleteVm,
    RestartVm,
    SetPolicy,
    StartVm,
    StopVm,
)
from blixard.errors import Code
from blixard.model import (
    Accepted,
    Outcome,
    Rejected,
    RequestId,
    VmSpec,
    Wanted,
)
from blixard.policy import CheckKind, Failover, GuestCheck, OnQuorumLoss, Policy
from blixard.ports import Unavailable
from blixard.sim.network import OUTSIDE
from blixard.sim.operations import Absent, Answer, Call, Operation, Seen, Verb
from blixard.source import StoreSource

if TYPE_CHECKING:
    from blixard.sim.node import Node
    from blixard.sim.world import World

CALL_MS: Final = 4_000
PATIENCE_US: Final = 40_000_000
"""After this long without an answer a client gives up; what it asked may still take effect."""
VERBS: Final = (*Verb, *[Verb.CREATE, Verb.START, Verb.RESTART] * 2, Verb.READ)
"""As often as they are asked: most VMs are there, and are to run."""
KEEP: Final = Policy(OnQuorumLoss.KEEP)
CHECKED: Final = Policy(check=GuestCheck(CheckKind.TCP, "10.0.0.9:80", restarts=True))
POLICIES: Final = (
    *[Policy()] * 2,
    *[CHECKED] * 2,
    *[KEEP] * 2,
    Policy(failover=Failover.ALWAYS),
    Policy(OnQuorumLoss.KEEP, Failover.ALWAYS, restart_limit=1),
    Policy(failover=Failover.NEVER, restart_limit=0),
)
"""As often as they are asked for."""
PAUSE_US: Final = (20_000, 400_000)
SPEC: Final = VmSpec(StoreSource(f"/nix/store/{'0' * 32}-guest"), vcpus=1, memory_mib=512)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The asked node cannot tell; `leader_id` may."""

    leader_id: int | None


class Client:
    """One operator, who asks one thing at a time."""

    def __init__(self, world: "World", number: int, names: list[str]) -> None:
        self._world = world
        self._number = number
        self._names = names
        self._random = Random(f"client {world.plan.seed} {number}")
        self._requests = 0
        self._is_told_to_stop = False
        self.history: list[Operation] = []
        self.is_idle = True

    def begin(self) -> None:
        """Ask on and on."""
        self._world.later(self._random.expovariate(1 / self._world.plan.think_ms) * 1e3, self._next)

    def stop(self) -> None:
        """Ask nothing new."""
        self._is_told_to_stop = True

    def _next(self) -> None:
        if self._is_told_to_stop:
            return
        name = self._random.choice(self._names)
        verb = self._random.choice(VERBS)
        wanted = Wanted.STOPPED if self._random.random() < 0.2 else Wanted.RUNNING
        policy = self._random.choice(POLICIES)
        self.ask(name, Call(verb, wanted, policy), lambda _answer: self.begin())

    def ask(self, name: str, call: Call, then: Callable[[Answer | None], object]) -> None:
        """Ask one thing, until it is answered or the patience ends: then the answer is None."""
        self._requests += 1
        self.is_idle = False
        _Request(self._world, self._number, self._requests, name, call, self._ended(then)).begin()

    def _ended(self, then: Callable[[Answer | None], object]) -> Callable[[Operation], None]:
        def ended(operation: Operation) -> None:
            self.history.append(operation)
            self.is_idle = True
            then(operation.answer)

        return ended


class _Request:
    """One request, with all its repetitions."""

    def __init__(
        self,
        world: "World",
        client: int,
        number: int,
        name: str,
        call: Call,
        ended: Callable[[Operation], None],
    ) -> None:
        self._world = world
        self._client = client
        self._number = number
        self._name = name
        self._call = call
        self._ended = ended
        self._random = Random(f"request {world.plan.seed} {client} {number}")
        self._begun = world.checks.stamp()
        self._until_us = world.now_us + PATIENCE_US
        self._id: RequestId | None = None

    def begin(self) -> None:
        self._try(None)

    def _try(self, leader_id: int | None) -> None:
        if self._world.now_us > self._until_us:
            self._end(None)
            return
        target = leader_id or self._random.choice(sorted(self._world.hosts))
        self._world.network.call(OUTSIDE, target, self._serve, self._answered, CALL_MS)

    def _serve(self, node: "Node", reply: Callable[[Any], None]) -> None:
        """What the node's API does."""
        if not node.is_open:
            reply(Elsewhere(None))
            return
        if self._call.verb is Verb.READ:
            node.log.barrier(lambda outcome: reply(self._read(node, outcome)))
            return
        if self._id is None:
            session = f"client-{self._client}"
            self._id = RequestId(session, self._number, node.log.status().applied_index)
        node.log.propose(self._command(), lambda outcome: reply(_told(node, outcome)), self._id)

    def _read(self, node: "Node", outcome: Outcome | Unavailable) -> Answer | Elsewhere:
        if not isinstance(outcome, Accepted):
            return _elsewhere(node, outcome)
        vm = node.log.cluster().vms.get(self._name)
        if vm is None:
            return Absent()
        policy = Policy() if vm.wanted is Wanted.DELETED else vm.policy
        return Seen(vm.uid, vm.wanted, policy)

    def _command(self) -> Command:
        match self._call.verb:
            case Verb.CREATE:
                return CreateVm(self._name, SPEC, self._call.wanted, policy=self._call.policy)
            case Verb.SET:
                return SetPolicy(self._name, self._call.policy)
            case Verb.START:
                return StartVm(self._name)
            case Verb.STOP:
                return StopVm(self._name)
            case Verb.RESTART:
                return RestartVm(self._name)
            case _:
                return DeleteVm(self._name)

    def _answered(self, answer: Any) -> None:
        if isinstance(answer, Rejected) and answer.code is Code.REQUEST_FORGOTTEN:
            self._world.bit("request-forgotten")
        match answer:
            case None:
                if self._id is not None:
                    self._world.bit("retried")
                self._again(None)
            case Elsewhere(leader_id=leader_id):
                self._again(leader_id)
            case Rejected(code=Code.BUSY) if "wait already" in answer.message:
                self._again(None)
            case _:
                if isinstance(answer, Accepted) and self._id is not None:
                    self._world.checks.acknowledged(answer, self._id)
                self._end(answer)

    def _again(self, leader_id: int | None) -> None:
        pause_us = self._world.random.randint(*PAUSE_US)
        self._world.later(pause_us, lambda: self._try(leader_id))

    def _end(self, answer: Answer | None) -> None:
        ended = self._world.checks.stamp() if answer is not None else None
        operation = Operation(self._client, self._name, self._call, self._begun, ended, answer)
        self._world.trace.note(f"client-{self._client}", f"{self._name} {operation}")
        self._ended(operation)


def _told(node: "Node", outcome: Outcome | Unavailable) -> Outcome | Elsewhere:
    return outcome if isinstance(outcome, Accepted | Rejected) else _elsewhere(node, outcome)


def _elsewhere(node: "Node", outcome: Outcome | Unavailable) -> Elsewhere:
    leader_id = outcome.leader_id if isinstance(outcome, Unavailable) else None
    known = leader_id or node.log.status().leader_id
    return Elsewhere(known if known != node.node_id else None)
