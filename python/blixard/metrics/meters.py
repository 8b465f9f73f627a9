"""What is counted and timed as it happens."""

import time
from collections import Counter as Tally
from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from blixard.errors import Code
from blixard.machine.placements import FENCED
from blixard.metrics.catalog import METRICS
from blixard.model import Accepted, Outcome, Rejected, State, Vm
from blixard.ports import Clock, Meters, SeenUnit, Timed, Unavailable, UnitState

FAILOVERS: Final = ("host-lost", "host-restarted", "host-confirmed-down", FENCED)
"""Reasons of a VM that waits for a host because it has lost its own."""

BUILDS: Final = ("built", "build-failed", "evaluation-failed", "source-unreadable")
"""The usual ends of a build; others exist."""

_HISTOGRAMS: Final = {
    Timed.COMMIT: "blixard_raft_commit_duration_seconds",
    Timed.JOURNAL_SYNC: "blixard_journal_sync_duration_seconds",
    Timed.STEP: "blixard_agent_step_duration_seconds",
    Timed.LEADER_STEP: "blixard_leader_step_duration_seconds",
    Timed.BUILD: "blixard_nix_build_duration_seconds",
}


class PrometheusMeters(Meters):
    """Counts for the registry. Called in the daemon's loop, and read in others' threads."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        self._timers = {what: _histogram(registry, name) for what, name in _HISTOGRAMS.items()}
        self._margin = _histogram(registry, "blixard_lease_renewal_margin_seconds")
        self._failover = _histogram(registry, "blixard_failover_duration_seconds")
        self._start = _histogram(registry, "blixard_vm_start_duration_seconds")
        self._call = _histogram(registry, "blixard_grpc_request_duration_seconds")
        self._elections = _counter(registry, "blixard_raft_elections_won_total")
        self._renewals = _counter(registry, "blixard_lease_renewals_total")
        self._expirations = _counter(registry, "blixard_lease_expirations_total")
        self._errors = _counter(registry, "blixard_agent_errors_total")
        self._failovers = _counter(registry, "blixard_failovers_total")
        self._builds = _counter(registry, "blixard_nix_builds_total")
        self._calls = _counter(registry, "blixard_grpc_requests_total")
        for outcome in ("accepted", "rejected", "unavailable"):
            self._renewals.labels(outcome)
        # What is not there before its first time has no increase then.
        for outcome in BUILDS:
            self._builds.labels(outcome)
        for reason in FAILOVERS:
            self._failovers.labels(reason)
        self._led_term = 0
        self._ended_lease: int | None = None
        self._starting: dict[str, Callable[[], None]] = {}
        self._homeless_ms: dict[tuple[str, int], int] = {}
        self.units: Mapping[str, SeenUnit] | None = None
        """What runs on this host, as last seen; None while not known."""
        self.starts: Mapping[tuple[str, str], int] = {}
        """How often each VM was started here, by its name and what came of it."""

    def timed(self, what: Timed) -> Callable[[], None]:
        return _stopwatch(self._timers[what])

    def renewed(self, outcome: Outcome | Unavailable, left_ms: int | None) -> None:
        self._renewals.labels(_word(outcome)).inc()
        if isinstance(outcome, Accepted) and left_ms is not None:
            self._margin.observe(left_ms / 1000)

    def lapsed(self, deadline_ms: int) -> None:
        if deadline_ms != self._ended_lease:
            self._ended_lease = deadline_ms
            self._expirations.inc()

    def landed(self, outcome: Outcome | Unavailable) -> None:
        match outcome:
            case Rejected(code):
                self._errors.labels(code.label).inc()
            case Unavailable(maybe_applied=unknown):
                code = Code.OUTCOME_UNKNOWN if unknown else Code.NO_LEADER
                self._errors.labels(code.label).inc()

    def starts_vm(self, name: str) -> None:
        self._starting[name] = _stopwatch(self._start)

    def saw(self, units: Mapping[str, SeenUnit] | None) -> None:
        self.units = units
        for name in list(self._starting) if units is not None else ():
            unit = (units or {}).get(name)
            if unit is not None and unit.state is UnitState.STARTING:
                continue
            active = self._starting.pop(name)
            if unit is None:
                continue
            outcome = "exited" if unit.state is UnitState.EXITED else "active"
            if outcome == "active":
                active()
            # Replaced, never changed: other threads read it.
            self.starts = Tally(self.starts) + Tally({(name, outcome): 1})

    def built(self, outcome: str) -> None:
        self._builds.labels(outcome).inc()

    def called(self, method: str, code: str) -> None:
        self._calls.labels(method, code).inc()

    def answered(self, method: str, seconds: float) -> None:
        self._call.labels(method).observe(seconds)

    def changed(self, vm: Vm, *, leads: bool) -> None:
        """A VM is other than before. `leads`: this node leads, and saw it happen."""
        key, now_ms = (vm.name, vm.uid), self._clock.boot_ms()
        if vm.state is State.PENDING and vm.reason.code in FAILOVERS:
            if leads and key not in self._homeless_ms:
                self._failovers.labels(vm.reason.code).inc()
                self._homeless_ms[key] = now_ms
        elif vm.state is State.RUNNING:
            since_ms = self._homeless_ms.pop(key, None)
            if since_ms is not None:
                self._failover.observe((now_ms - since_ms) / 1000)
        elif vm.holder is None and vm.state is not State.PENDING:
            # Stopped, deleted or failed: it comes back as something else.
            self._homeless_ms.pop(key, None)

    def leads(self, term: int) -> None:
        """This node leads in a term. May be told more than once."""
        if term != self._led_term:
            self._led_term = term
            self._elections.inc()

    def forget(self, known: Mapping[str, Vm]) -> None:
        """Drop what is kept of VMs that the cluster no longer has."""
        if any(name not in known for name, _ in self.starts):
            self.starts = {key: count for key, count in self.starts.items() if key[0] in known}
        for name, uid in list(self._homeless_ms):
            if name not in known or known[name].uid != uid:
                del self._homeless_ms[name, uid]


def _word(outcome: Outcome | Unavailable) -> str:
    match outcome:
        case Accepted():
            return "accepted"
        case Rejected():
            return "rejected"
        case Unavailable():
            return "unavailable"


def _stopwatch(histogram: Histogram) -> Callable[[], None]:
    began_s = time.perf_counter()
    return lambda: histogram.observe(time.perf_counter() - began_s)


def _histogram(registry: CollectorRegistry, name: str) -> Histogram:
    known = METRICS[name]
    return Histogram(name, known.means, known.labels, buckets=known.buckets, registry=registry)


def _counter(registry: CollectorRegistry, name: str) -> Counter:
    known = METRICS[name]
    return Counter(name, known.means, known.labels, registry=registry)
