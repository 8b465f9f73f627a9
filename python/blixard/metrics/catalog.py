"""Every metric that a node exports: its name, its kind, what it means.

Names follow Prometheus' conventions: a prefix, base units, `_total` for counters, `_info` for facts
(prometheus.io/docs/practices/naming). A label has a closed set of values, or names VMs or members.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, under the name that queries use; a histogram's without `_bucket`."""

    name: str
    kind: str
    """`gauge`, `counter` or `histogram`."""
    means: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Of a histogram, in its unit."""
    leader_only: bool = False
    """Only the node that leads exports it: it speaks of the whole cluster."""


_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_BUILD: Final = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)
_MARGIN: Final = (0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 15.0, 30.0, 60.0)
_START: Final = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
_FAILOVER: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)


def _gauge(name: str, means: str, *labels: str) -> Metric:
    return Metric(f"blixard_{name}", "gauge", means, labels)


def _by_leader(name: str, means: str, *labels: str) -> Metric:
    return Metric(f"blixard_{name}", "gauge", means, labels, leader_only=True)


def _counter(name: str, means: str, *labels: str) -> Metric:
    return Metric(f"blixard_{name}_total", "counter", means, labels)


def _histogram(name: str, means: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(f"blixard_{name}_seconds", "histogram", means, labels, buckets)


GROUPS: Final[Mapping[str, tuple[Metric, ...]]] = {
    "The daemon": (
        _gauge("build_info", "1; the release that runs here is in its label", "version"),
    ),
    "Raft": (
        _gauge("raft_term", "the term of this node"),
        _gauge("raft_is_leader", "1 if this node believes that it leads"),
        _gauge("raft_has_leader", "1 if this node knows a leader"),
        _gauge("raft_members", "voters in the configuration, this node among them"),
        _gauge("raft_commit_index", "up to here this node knows the log to be decided"),
        _gauge("raft_applied_index", "up to here the log is applied on this node"),
        _by_leader("raft_quorum_margin", "so many members that answer may be lost; below 0: none"),
        _by_leader(
            "raft_peer_lag_entries", "entries that a member is not known to have yet", "peer"
        ),
        _counter("raft_elections_won", "how often this node began to lead"),
        _histogram(
            "raft_commit_duration",
            "from a command's arrival at this node, the leader, until it was applied here",
            _FAST,
        ),
        _histogram(
            "journal_sync_duration",
            "one write of the log made durable; a turn has two, the entries and their mark",
            _FAST,
        ),
        _gauge("journal_size_bytes", "the files of the log on this node's disk"),
    ),
    "Leases": (
        _gauge("lease_remaining_seconds", "until the fence of this node ends its VMs"),
        _counter(
            "lease_renewals",
            "renewals of this node: accepted, rejected (that life is over) or unavailable",
            "outcome",
        ),
        _histogram(
            "lease_renewal_margin",
            "what was left of the lease whenever a renewal was accepted",
            _MARGIN,
        ),
        _counter("lease_expirations", "leases that ended while this daemon ran"),
    ),
    "The agent": (
        _histogram(
            "agent_step_duration", "one step of this node, the leader's part included", _FAST
        ),
        _histogram(
            "leader_step_duration", "the leader's part: who is down, what goes where", _FAST
        ),
        _gauge("agent_last_step_timestamp_seconds", "when the last step ended, by the wall clock"),
        _counter(
            "agent_errors",
            "commands of this node that were refused or not decided; code as in error messages",
            "code",
        ),
    ),
    "The cluster": (
        _by_leader("vms", "VMs in each state", "state"),
        _by_leader("vms_unplaceable", "VMs that wait because no node can take them"),
        _by_leader(
            "vm_not_as_wanted_since_timestamp_seconds",
            "a VM that is not as it is wanted, and since when it is in that state",
            "vm",
            "state",
        ),
        _by_leader("nodes", "nodes in each state", "state"),
        _counter(
            "failovers",
            "VMs that lost their host, counted by the leader of that moment",
            "reason",
        ),
        _histogram(
            "failover_duration",
            "from the end of the host's lease as the log has it until the VM ran elsewhere",
            _FAILOVER,
        ),
    ),
    "This host": (
        _gauge("node_memory_capacity_bytes", "memory that this host offers to VMs"),
        _gauge("node_memory_reserved_bytes", "memory taken by the VMs placed here"),
        _gauge("node_cpu_capacity", "vCPUs that this host offers to VMs"),
        _gauge("node_cpu_reserved", "vCPUs taken by the VMs placed here"),
    ),
    "VMs of this host": (
        _gauge("vm_up", "1 if a VM that is placed or found here has a running guest", "vm"),
        _gauge("vm_healthy", "1 if a VM passes its check, 0 if it fails it", "vm"),
        _gauge("vm_state_since_timestamp_seconds", "when a VM came to its present state", "vm"),
        _counter(
            "vm_starts",
            "starts of a VM here by what came of them: active or exited",
            "vm",
            "outcome",
        ),
        _histogram(
            "vm_start_duration", "from the start of a VM's unit until it was active", _START
        ),
    ),
    "Builds": (
        _counter("nix_builds", "builds that ended, by how: built, or why not", "outcome"),
        _histogram("nix_build_duration", "builds that were not cancelled", _BUILD),
    ),
    "The API": (
        _counter("grpc_requests", "calls that ended, streams included", "method", "code"),
        _histogram(
            "grpc_request_duration", "calls that ended well, streams excluded", _FAST, "method"
        ),
    ),
}


def named(groups: Iterable[tuple[Metric, ...]]) -> dict[str, Metric]:
    """Metrics by their names."""
    return {metric.name: metric for group in groups for metric in group}


METRICS: Final = named(GROUPS.values())
