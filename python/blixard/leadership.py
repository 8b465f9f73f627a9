"""The leader's duty: decide for the whole cluster, for as long as this node leads it."""

from collections.abc import Mapping
from typing import TypeVar

from blixard.commands import (
    AbandonMove,
    AssignStandby,
    AttestState,
    DeclareNodeDown,
    DeferVm,
    HandOverVm,
    MoveVm,
    PlaceVm,
    RaiseLevel,
)
from blixard.decide import leader
from blixard.errands import Errands
from blixard.model import Cluster, Outcome, State
from blixard.ports import Clock, Done, Log, LogStatus

Key = TypeVar("Key", int, str)


class Stopwatch:
    """For how long each of some facts has been seen without a change."""

    def __init__(self) -> None:
        self._since_ms: dict[tuple[object, object], int] = {}

    def elapsed_ms(self, facts: Mapping[Key, object], now_ms: int) -> dict[Key, int]:
        """For each key, the milliseconds since it was first seen with its present value."""
        known = self._since_ms
        self._since_ms = {fact: known.get(fact, now_ms) for fact in facts.items()}
        return {key: now_ms - self._since_ms[key, value] for key, value in facts.items()}


class Leadership:
    """Sees what a leader must see, lets `decide.leader` name the duties, and begins them."""

    def __init__(self, log: Log, clock: Clock, errands: Errands) -> None:
        self._log = log
        self._clock = clock
        self._errands = errands
        self.term = 0
        """The term in which this node has begun to lead, and was caught up then."""
        self._leases = Stopwatch()
        self._waits = Stopwatch()

    def step(self, cluster: Cluster, status: LogStatus) -> int | None:
        """Begin whatever is missing between what is wanted of the cluster and what it does. Return
        in how many milliseconds a lease may be over, if that is known."""
        if self.term != status.term:
            self._begin(status.term)
            return None
        sight = self._look(cluster, status)
        for duty in leader.duties(cluster, sight):
            match duty:
                case leader.ChangeMembership():
                    self._change_membership(duty)
                case leader.HandOver():
                    self._log.transfer_leadership()
                case PlaceVm() | DeferVm():
                    self._errands.propose(f"place {duty.name}", duty)
                case MoveVm() | HandOverVm() | AbandonMove():
                    self._errands.propose(f"move {duty.name}", duty)
                case AssignStandby():
                    self._errands.propose(f"standby {duty.name}", duty)
                case DeclareNodeDown():
                    self._errands.propose(f"down {duty.node_id}", duty)
                case RaiseLevel() | AttestState():
                    self._errands.propose("agreement", duty)
                case _:
                    self._errands.propose("membership", duty)
        return leader.next_loss_ms(cluster, sight)

    def _begin(self, term: int) -> None:
        """A new leader may have much to apply yet; consensus membership is changed outside the
        law, so it must not follow an old state. And what earlier leaders saw of leases is not
        known here: every count begins anew with the first entry of this term."""

        def caught_up(_outcome: Outcome) -> None:
            self.term = term
            self._leases, self._waits = Stopwatch(), Stopwatch()
            self._look(self._log.cluster(), self._log.status())  # Counting begins here.

        self._errands.run("barrier", self._log.barrier, caught_up)

    def _look(self, cluster: Cluster, status: LogStatus) -> leader.Sight:
        now_ms = self._clock.boot_ms()
        known = {*cluster.nodes, *status.members}
        renewals = {i: (node.incarnation, node.seq) for i, node in cluster.nodes.items()}
        waiting = {
            name: (vm.uid, vm.failures)
            for name, vm in cluster.vms.items()
            if vm.state is State.PENDING
        }
        return leader.Sight(
            me=status.node_id,
            members=set(status.members),
            silent=frozenset(i for i in sorted(known) if not status.hears(i)),
            unrenewed_ms=self._leases.elapsed_ms(renewals, now_ms),
            pending_ms=self._waits.elapsed_ms(waiting, now_ms),
            state_digest=status.state_digest,
        )

    def _change_membership(self, change: leader.ChangeMembership) -> None:
        def begin(done: Done) -> None:
            if change.add:
                self._log.add_member(change.node_id, change.address, done)
            else:
                self._log.remove_member(change.node_id, done)

        self._errands.run("membership", begin, lambda _outcome: None)
