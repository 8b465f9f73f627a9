"""The will: one step after another, observe, decide, act.

A step never waits. It reads the state as applied here and what the drivers see, lets `decide` name
the difference, and begins the work. Whatever does not come back is tried again by a later step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from blixard.commands import (
    CheckIn,
    RegisterNode,
    Renewal,
    RenewLeases,
    ReportHealth,
    ReportStandby,
    ReportVm,
)
from blixard.decide import node
from blixard.errands import Errands
from blixard.errors import Code
from blixard.leadership import Leadership
from blixard.lease import LeaseTimes
from blixard.model import LEVEL, Accepted, Capacity, Cluster, Outcome, Rejected, State
from blixard.ports import (
    UNMEASURED,
    Builder,
    Checks,
    Clock,
    Lives,
    Log,
    Meters,
    SeenUnit,
    Timed,
    Unavailable,
    Unchecked,
    Units,
    UnitState,
)

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
    labels: Mapping[str, str] = field(default_factory=dict)
    level: int = LEVEL
    """The highest cluster level that it supports."""
    times: LeaseTimes = field(default_factory=LeaseTimes)


class Agent:
    """The doer of one node and, while that node leads, the decider of the cluster."""

    def __init__(
        self,
        me: Self,
        log: Log,
        units: Units,
        builder: Builder,
        lives: Lives,
        clock: Clock,
        meters: Meters = UNMEASURED,
        checks: Checks | None = None,
    ) -> None:
        self._me = me
        self._log = log
        self._units = units
        self._builder = builder
        self._lives = lives
        self._clock = clock
        self._checks: Checks = checks if checks is not None else Unchecked()
        self._meters = meters
        self._incarnation = lives.load()
        self._fresh_index: int | None = None
        self._deadline_ms: int | None = None
        """Until then VMs may run here, by the last renewal of this life that was accepted."""
        self._renewed_index = 0
        """No VM is started before the log is applied here up to this."""
        self._past: dict[str, node.Past] = {}
        self._progress_ms: dict[str, int] = {}
        self._errands = Errands(log, meters)
        self._leadership = Leadership(log, clock, self._errands)
        self._refused_ms = -REFUSED_FOR_MS
        self.refusal: Rejected | None = None
        """Why the cluster does not accept this node, if it does not."""
        self.host_ends = False
        """Whether the host shuts down, and what ends here ends with it."""

    @property
    def incarnation(self) -> int | None:
        """The life under which this node may hold VMs; None while it has none."""
        return self._incarnation if self._fresh_index is not None else None

    @property
    def lease_left_ms(self) -> int:
        """For how long this node may still run its VMs, before the fence ends them."""
        return max(0, (self._deadline_ms or 0) - self._clock.boot_ms())

    def step(self) -> int | None:
        """Begin whatever is missing between what is wanted and what is seen. Return in how many
        milliseconds another step is due, whatever happens until then; None if that is not known."""
        ended = self._meters.timed(Timed.STEP)
        due_ms = self._step()
        ended()
        return due_ms

    def _step(self) -> int | None:
        # In this order: what is applied by then is in the state that is read afterwards.
        status = self._log.status()
        cluster = self._log.cluster()
        seen = self._units.seen()
        self._meters.saw(seen)
        if seen is not None:
            units = dict(seen)
            self._remember(units)
            if self._fresh_index is None:
                self._sign_in(cluster, units)
            elif status.applied_index >= self._fresh_index:
                self._tend(cluster, units, status.applied_index)
        if not status.is_leader:
            return None
        ended = self._meters.timed(Timed.LEADER_STEP)
        due_ms = self._leadership.step(cluster, status)
        ended()
        return due_ms

    def leads_in(self, term: int) -> bool:
        """Whether this node had applied all that was decided before, when it led in this term."""
        return self._leadership.term == term

    def become(self, me: Self) -> None:
        """Say something else of this node: the cluster hears it with the next step."""
        self._me = me
        self._fresh_index = None

    # --- the lease ------------------------------------------------------------------------------

    def renew(self) -> None:
        """Ask once to go on. Each attempt stands for itself: none waits for another, none is
        repeated, and what counts is when it was sent."""
        if self._incarnation is None:
            return
        renewal = Renewal(self._me.node_id, self._incarnation, self._clock.boot_ms())
        self._log.submit(RenewLeases((renewal,)), lambda outcome: self._renewed(renewal, outcome))

    def _renewed(self, renewal: Renewal, outcome: Outcome | Unavailable) -> None:
        if renewal.incarnation != self._incarnation:
            return
        left_ms = self.lease_left_ms if self._deadline_ms is not None else None
        self._meters.renewed(outcome, left_ms)
        match outcome:
            case Accepted(index):
                self._note_lapse()
                deadline_ms = renewal.seq + self._me.times.fence_after_ms
                self._deadline_ms = max(self._deadline_ms or 0, deadline_ms)
                self._renewed_index = max(self._renewed_index, index)
                self._units.renew(self._deadline_ms)
            case Rejected(code=Code.STALE):
                self._incarnation = self._fresh_index = None

    def _note_lapse(self) -> None:
        """The fence ends whatever is there when the lease ends: that is no failure of a VM."""
        if self._deadline_ms is not None and self.lease_left_ms == 0:
            self._meters.lapsed(self._deadline_ms)
            self._past = {name: replace(past, is_fenced=True) for name, past in self._past.items()}

    def _remember(self, units: dict[str, SeenUnit]) -> None:
        """Keep what a unit that has ended no longer tells."""
        past = {}
        for name, unit in units.items():
            known = self._past.get(name)
            if known is None or known.epoch != unit.epoch:
                known = node.Past(unit.epoch)
            if unit.state is UnitState.ACTIVE:
                known = replace(known, ran_ms=unit.active_ms)
            past[name] = known
        self._past = past
        self._note_lapse()

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
                node_id=me.node_id,
                incarnation=self._incarnation,
                address=me.address,
                capacity=me.capacity,
                version=me.version,
                level=me.level,
                lease_ms=me.times.lease_ms,
                guaranteed=self._units.guaranteed,
                labels=me.labels,
            )
            self._errands.submit("sign-in", check_in, self._checked_in)
            return
        leftovers = list(node.empty(units))
        for action in leftovers:
            self._act(action, 0)
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
            lease_ms=me.times.lease_ms,
            guaranteed=self._units.guaranteed,
            labels=me.labels,
            kept=node.kept(units),
        )
        self._errands.submit("sign-in", register, self._registered)

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
                self.refusal = self._deadline_ms = None
                self.renew()
            case Rejected() if outcome.code is not Code.STALE:
                self._refused(outcome)

    def _refused(self, rejected: Rejected) -> None:
        self.refusal = rejected
        self._refused_ms = self._clock.boot_ms()

    def _tend(self, cluster: Cluster, units: dict[str, SeenUnit], applied_index: int) -> None:
        known = cluster.nodes.get(self._me.node_id)
        if known is None or known.incarnation != self._incarnation or known.is_down:
            self._incarnation = self._fresh_index = None
            return
        if (known.session, known.guaranteed) != (self._fresh_index, self._units.guaranteed):
            # An older sign-in of this node landed after this daemon's: its reports count no more.
            # Or the watchdog has come or gone.
            self._fresh_index = None
            return
        assert self._fresh_index is not None
        me = node.Me(known.node_id, known.incarnation, self._fresh_index, self.host_ends)
        self._checks.keep(dict(node.to_check(cluster, me, units)))
        builds, tallies = self._builder.seen(), self._checks.seen()
        for name, (epoch, tally) in tallies.items():
            past = self._past.get(name)
            if past is not None and past.epoch == epoch:
                self._past[name] = replace(past, well_ms=tally.well_ms)
        for action in node.actions(cluster, me, units, builds, self._past, tallies):
            self._act(action, applied_index)

    def _act(self, action: node.Action, applied_index: int) -> None:
        match action:
            case ReportVm():
                self._report(action)
            case ReportHealth():
                self._errands.submit(f"health {action.name}", action, lambda _outcome: None)
            case ReportStandby():
                self._errands.submit(f"standby {action.name}", action, lambda _outcome: None)
            case node.Build():
                self._builder.begin(action.name, action.epoch, action.source, action.content)
            case node.CancelBuild():
                self._builder.cancel(action.name)
            case node.ReleaseBuild():
                self._builder.release(action.name)
            case node.Start():
                if self.lease_left_ms > 0 and applied_index >= self._renewed_index:
                    self._meters.starts_vm(action.name)
                    self._units.start(action.name, action.run)
            case node.Stop():
                self._units.stop(action.name, action.grace_ms, action.kill)
            case node.Discard():
                self._units.discard(action.name)

    def _report(self, report: ReportVm) -> None:
        """Submit a report; of a build's progress only now and then, for the log is no terminal."""
        if report.state is State.BUILDING:
            now_ms = self._clock.boot_ms()
            if now_ms - self._progress_ms.get(report.name, -PROGRESS_EVERY_MS) < PROGRESS_EVERY_MS:
                return
            self._progress_ms[report.name] = now_ms
        self._errands.submit(f"report {report.name}", report, lambda _outcome: None)
