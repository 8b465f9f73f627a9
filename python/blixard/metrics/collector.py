"""What is now, read when somebody asks."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from blixard.machine.rules import free_capacity
from blixard.metrics.catalog import METRICS
from blixard.metrics.meters import PrometheusMeters
from blixard.model import Cluster, HealthState, Membership, Node, State, Vm, Wanted
from blixard.ports import Clock, LogStatus, UnitState

MIB: Final = 1024 * 1024
NODE_STATES: Final = ("joining", "up", "drained", "down", "leaving")
RUNS: Final = (UnitState.ACTIVE, UnitState.STOPPING)
"""While a guest stops, it is still there."""

Labelled = Iterable[tuple[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the daemon saw with its last step. Nothing in it ever changes."""

    status: LogStatus
    cluster: Cluster
    lag: Mapping[int, int]
    """Entries that each other member is not known to have; only a leader knows."""
    leads: bool
    """This node leads, and has applied all that was decided before."""
    fence_ms: int
    """When the fence ends the VMs here, by CLOCK_BOOTTIME."""
    at_ms: int
    """When the step ended, by the wall clock."""


class NodeCollector:
    """Makes metrics of what was seen last. `collect` runs in the threads of those who ask."""

    def __init__(
        self, node_id: int, version: str, journal: Path, clock: Clock, meters: PrometheusMeters
    ) -> None:
        self._node_id = node_id
        self._version = version
        self._journal = journal
        self._clock = clock
        self._meters = meters
        self.seen: Seen | None = None
        """None until the first step."""

    def describe(self) -> Iterable[Metric]:
        """What `collect` may yield; the registry takes it for the names, and asks for no values."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All that can be told now; before this node is in a cluster, that is little."""
        yield _of("build_info", [((self._version,), 1)])
        yield _of("journal_size_bytes", [((), _size(self._journal))])
        seen = self.seen
        if seen is None:
            return
        yield from self._raft(seen)
        yield from self._steps(seen)
        yield from self._host(seen.cluster)
        yield from self._vms(seen.cluster)
        if seen.leads:
            yield from _cluster(seen.cluster)

    def _raft(self, seen: Seen) -> Iterator[Metric]:
        status = seen.status
        plain = {
            "raft_term": status.term,
            "raft_is_leader": status.is_leader,
            "raft_has_leader": status.leader_id is not None,
            "raft_members": len(status.members),
            "raft_commit_index": status.commit_index,
            "raft_applied_index": status.applied_index,
        }
        for name, value in plain.items():
            yield _of(name, [((), value)])
        if status.is_leader:
            heard = sum(status.hears(member) for member in status.members)
            yield _of("raft_quorum_margin", [((), heard - len(status.members) // 2 - 1)])
            lag = [((f"node-{peer}",), entries) for peer, entries in sorted(seen.lag.items())]
            yield _of("raft_peer_lag_entries", lag)

    def _steps(self, seen: Seen) -> Iterator[Metric]:
        left_ms = max(0, seen.fence_ms - self._clock.boot_ms())
        yield _of("lease_remaining_seconds", [((), left_ms / 1000)])
        yield _of("agent_last_step_timestamp_seconds", [((), seen.at_ms / 1000)])

    def _host(self, cluster: Cluster) -> Iterator[Metric]:
        node = cluster.nodes.get(self._node_id)
        if node is None:
            return
        free, capacity = free_capacity(cluster, self._node_id), node.capacity
        plain = {
            "node_memory_capacity_bytes": capacity.memory_mib * MIB,
            "node_memory_reserved_bytes": (capacity.memory_mib - free.memory_mib) * MIB,
            "node_cpu_capacity": capacity.vcpus,
            "node_cpu_reserved": capacity.vcpus - free.vcpus,
        }
        for name, value in plain.items():
            yield _of(name, [((), value)])

    def _vms(self, cluster: Cluster) -> Iterator[Metric]:
        held = [vm for vm in cluster.vms.values() if _is_held(vm, self._node_id)]
        units = self._meters.units
        if units is not None:
            names = sorted({*units, *(vm.name for vm in held)})
            running = {name for name, unit in units.items() if unit.state in RUNS}
            yield _of("vm_up", [((name,), name in running) for name in names])
        since = [((vm.name,), vm.since_ms / 1000) for vm in held]
        yield _of("vm_state_since_timestamp_seconds", since)
        checked = [
            ((vm.name,), vm.health.state is HealthState.OK)
            for vm in held
            if vm.health is not None and vm.health.state is not HealthState.STARTING
        ]
        yield _of("vm_healthy", checked)
        yield _of("vm_starts_total", sorted(self._meters.starts.items()))


def _cluster(cluster: Cluster) -> Iterator[Metric]:
    vms, nodes = cluster.vms.values(), cluster.nodes.values()
    states = Counter(vm.state for vm in vms)
    yield _of("vms", [((state.value,), states[state]) for state in State])
    waiting = sum(vm.state is State.PENDING and vm.reason.code == "no-room" for vm in vms)
    yield _of("vms_unplaceable", [((), waiting)])
    amiss = [((vm.name, vm.state.value), vm.since_ms / 1000) for vm in vms if _is_amiss(vm)]
    yield _of("vm_not_as_wanted_since_timestamp_seconds", amiss)
    found = Counter(_state(node) for node in nodes)
    yield _of("nodes", [((state,), found[state]) for state in NODE_STATES])


def _is_held(vm: Vm, node_id: int) -> bool:
    return vm.holder is not None and vm.holder.node_id == node_id


def _is_amiss(vm: Vm) -> bool:
    wanted = State.RUNNING if vm.wanted is Wanted.RUNNING else State.STOPPED
    return vm.state is not wanted


def _state(node: Node) -> str:
    if node.membership is not Membership.MEMBER:
        return node.membership.value
    if node.incarnation == 0:
        return "joining"
    if node.is_down:
        return "down"
    return "up" if node.drain is None else "drained"


def _of(name: str, samples: Labelled) -> Metric:
    known = METRICS[f"blixard_{name}"]
    kind = CounterMetricFamily if known.kind == "counter" else GaugeMetricFamily
    family = kind(known.name, known.means, labels=known.labels)
    for labels, value in samples:
        family.add_metric(labels, float(value))
    return family


def _size(directory: Path) -> int:
    """Bytes of the files in a directory; one that goes meanwhile counts no more."""
    total = 0
    for path in directory.glob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total
