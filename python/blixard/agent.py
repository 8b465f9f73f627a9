"""The will: one step after another, observe, decide, act.

A step never waits. It reads the state as applied here and what the drivers see, lets `decide` name
the difference, and begins the work. Whatever does not come back is tried again by a later step.
"""

from collections.abc import Callable
from dataclasses import dataclass

from blixard import decide
from blixard.commands import (
    AttestState,
    CheckIn,
    Command,
    DeferVm,
    PlaceVm,
    RaiseLevel,
    RegisterNode,
    ReportVm,
)
from blixard.errors import Code
from blixard.model import (
    LEVEL,
    Accepted,
    Capacity,
    Cluster,
    Outcome,
    Rejected,
    State,
)
from blixard.ports import Builder, Clock, Lives, Log, LogStatus, SeenUnit, Unavailable, Units

REFUSED_FOR_MS = 5_000
"""How long a node that was refused waits before it asks again."""

PROGRESS_EVERY_MS = 1_000
"""The least time between two reports of a build's progress."""


@dataclass(frozen=True, slots=True)
class Self:
    """What a node says of itself."""

    node_id: int
    address: str
    machine_id: str
    join_id: str
    capacity: Capacity
    version: str
    level: int = LEVEL
    """The highest cluster level that it supports."""


class Agent:
    """The doer of one node and, while that node leads, the decider of the cluster."""

    def __init__(
        self, me: Self, log: Log, units: Units, builder: Builder, lives: Lives, clock: Clock
    ) -> None:
        self._me = me
        self._log = log
        self._units = units
        self._builder = builder
        self._lives = lives
        self._clock = clock
        self._incarnation = lives.load()
        self._fresh_index: int | None = None
        self._in_flight: set[str] = set()
        self._progress_ms: dict[str, int] = {}
        self._leads_term = 0
        self._refused_ms = -REFUSED_FOR_MS
        self.refusal: Rejected | None = None
        """Why the cluster does not accept this node, if it does not."""

    @property
    def incarnation(self) -> int | None:
        """The life under which this node may hold VMs; None while it has none."""
        return self._incarnation if self._fresh_index is not None else None

    def step(self) -> None:
        """Begin whatever is missing between what is wanted and what is seen."""
        # In this order: what is applied by then is in the state that is read afterwards.
        status = self._log.status()
        cluster = self._log.cluster()
        units = self._units.seen()
        if units is not None:
            if self._fresh_index is None:
                self._sign_in(cluster, dict(units))
            elif status.applied_index >= self._fresh_index:
                self._tend(cluster, dict(units))
        if status.is_leader:
            self._lead(cluster, status)

    # --- a node's own duty ----------------------------------------------------------------------

    def _sign_in(self, cluster: Cluster, units: dict[str, SeenUnit]) -> None:
        """Continue the present life, or begin a new one with nothing running.

        Nothing seen in the log may be acted upon before this is answered: after a restart the state
        applied here can be older than the VMs that run here.
        """
        me = self._me
        if self._clock.boot_ms() - self._refused_ms < REFUSED_FOR_MS:
            return
        if self._incarnation is not None:
            check_in = CheckIn(
                me.node_id, self._incarnation, me.address, me.capacity, me.version, me.level
            )
            self._submit("sign-in", check_in, self._checked_in)
            return
        leftovers = list(decide.empty(units))
        for action in leftovers:
            self._act(action)
        if leftovers:
            return
        known = cluster.nodes.get(me.node_id)
        register = RegisterNode(
            node_id=me.node_id,
            machine_id=me.machine_id,
            join_id=me.join_id,
            address=me.address,
            previous_incarnation=known.incarnation if known is not None else 0,
            capacity=me.capacity,
            version=me.version,
            level=me.level,
        )
        self._submit("sign-in", register, self._registered)

    def _checked_in(self, outcome: Outcome) -> None:
        match outcome:
            case Accepted():
                self._fresh_index, self.refusal = outcome.index, None
            case Rejected(code=Code.STALE):
                self._incarnation = None
            case Rejected():
                self._refused(outcome)

    def _registered(self, outcome: Outcome) -> None:
        match outcome:
            case Accepted():
                self._lives.save(outcome.index)
                self._incarnation = self._fresh_index = outcome.index
                self.refusal = None
            case Rejected() if outcome.code is not Code.STALE:
                self._refused(outcome)

    def _refused(self, rejected: Rejected) -> None:
        self.refusal = rejected
        self._refused_ms = self._clock.boot_ms()

    def _tend(self, cluster: Cluster, units: dict[str, SeenUnit]) -> None:
        known = cluster.nodes.get(self._me.node_id)
        if known is None or known.incarnation != self._incarnation:
            self._incarnation = self._fresh_index = None
            return
        if known.session != self._fresh_index:
            # An older sign-in of this node landed after this daemon's: its reports count no more.
            self._fresh_index = None
            return
        builds = self._builder.seen()
        assert self._fresh_index is not None
        me = decide.Me(known.node_id, known.incarnation, self._fresh_index)
        for action in decide.node(cluster, me, units, builds):
            self._act(action)

    def _act(self, action: decide.Action) -> None:
        match action:
            case ReportVm():
                self._report(action)
            case decide.Build():
                self._builder.begin(action.name, action.epoch, action.source, action.content)
            case decide.CancelBuild():
                self._builder.cancel(action.name)
            case decide.ReleaseBuild():
                self._builder.release(action.name)
            case decide.Start():
                self._units.start(action.name, action.uid, action.epoch, action.runner)
            case decide.Stop():
                self._units.stop(action.name, action.grace_ms, action.kill)
            case decide.Discard():
                self._units.discard(action.name)

    def _report(self, report: ReportVm) -> None:
        """Submit a report; of a build's progress only now and then, for the log is no terminal."""
        if report.state is State.BUILDING:
            now_ms = self._clock.boot_ms()
            if now_ms - self._progress_ms.get(report.name, -PROGRESS_EVERY_MS) < PROGRESS_EVERY_MS:
                return
            self._progress_ms[report.name] = now_ms
        self._submit(f"report {report.name}", report, lambda _outcome: None)

    # --- the leader's duty ----------------------------------------------------------------------

    def _lead(self, cluster: Cluster, status: LogStatus) -> None:
        if self._leads_term != status.term:
            self._begin_to_lead(status.term)
            return
        known = {*cluster.nodes, *status.members}
        silent = frozenset(node_id for node_id in sorted(known) if not status.hears(node_id))
        members = set(status.members)
        for duty in decide.leader(cluster, status.node_id, members, silent, status.state_digest):
            match duty:
                case decide.ChangeMembership():
                    self._change_membership(duty)
                case decide.HandOver():
                    self._log.transfer_leadership()
                case PlaceVm() | DeferVm():
                    self._propose(f"place {duty.name}", duty)
                case RaiseLevel() | AttestState():
                    self._propose("agreement", duty)
                case _:
                    self._propose("membership", duty)

    def _begin_to_lead(self, term: int) -> None:
        """A new leader may have much to apply yet; consensus membership is changed outside the
        law, so it must not follow an old state."""
        if "barrier" in self._in_flight:
            return

        def caught_up(_outcome: Outcome) -> None:
            self._leads_term = term

        self._in_flight.add("barrier")
        self._log.barrier(self._landed("barrier", caught_up))

    def _change_membership(self, change: decide.ChangeMembership) -> None:
        if "membership" in self._in_flight:
            return
        self._in_flight.add("membership")
        done = self._landed("membership", lambda _outcome: None)
        if change.add:
            self._log.add_member(change.node_id, change.address, done)
        else:
            self._log.remove_member(change.node_id, done)

    # --- what is on its way ---------------------------------------------------------------------

    def _propose(self, key: str, command: Command) -> None:
        if key not in self._in_flight:
            self._in_flight.add(key)
            self._log.propose(command, self._landed(key, lambda _outcome: None))

    def _submit(self, key: str, command: Command, done: Callable[[Outcome], None]) -> None:
        if key not in self._in_flight:
            self._in_flight.add(key)
            self._log.submit(command, self._landed(key, done))

    def _landed(
        self, key: str, done: Callable[[Outcome], None]
    ) -> Callable[[Outcome | Unavailable], None]:
        def landed(outcome: Outcome | Unavailable) -> None:
            self._in_flight.discard(key)
            if not isinstance(outcome, Unavailable):
                done(outcome)

        return landed
