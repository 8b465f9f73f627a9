"""Real daemons, asked as Prometheus asks them."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from blixard.metrics.catalog import METRICS
from cluster.loopback import LoopbackCluster, three_nodes, wait_until

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def measured(tmp_path: Path) -> Iterator[LoopbackCluster]:
    with three_nodes(tmp_path, metrics=True) as cluster:
        yield cluster


def scrape(cluster: LoopbackCluster, node_id: int) -> Samples:
    with urllib.request.urlopen(f"http://{cluster.nodes[node_id].metrics}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }


def total(samples: Samples, name: str) -> float:
    return sum(value for (found, _), value in samples.items() if found == name)


def test_a_cluster_tells_of_a_vm_and_of_its_failover(
    measured: LoopbackCluster, counting: str
) -> None:
    measured.cli("vm", "create", "web", "--config", counting, "--wait")
    host, leader = measured.host_of("web"), measured.leader_id()
    up = ("blixard_vm_up", (("vm", "web"),))
    wait_until(lambda: scrape(measured, host).get(up) == 1, "it is up there")
    there = scrape(measured, host)
    assert total(there, "blixard_vm_starts_total") == 1
    assert there["blixard_nix_builds_total", (("outcome", "built"),)] >= 1
    assert total(there, "blixard_node_memory_reserved_bytes") > 0
    led = scrape(measured, leader)
    assert led["blixard_vms", (("state", "running"),)] == 1
    assert total(led, "blixard_raft_commit_duration_seconds_count") > 0
    known = {name for name, _ in led} | {name for name, _ in there}
    for name, metric in METRICS.items():
        sample = f"{name}_count" if metric.kind == "histogram" else name
        rare = ("blixard_vm_healthy", "blixard_vm_not_as_wanted_since_timestamp_seconds")
        assert sample in known or name in (*rare, "blixard_agent_errors_total"), name
    everywhere = [scrape(measured, node_id) for node_id in measured.nodes]
    assert sum(each.get(up, 0) for each in everywhere) == 1
    assert sum(total(each, "blixard_raft_is_leader") for each in everywhere) == 1

    measured.lose(host)
    left = [node_id for node_id in measured.nodes if node_id != host]

    def failed_over() -> bool:
        found = [scrape(measured, node_id) for node_id in left]
        lasted = sum(total(each, "blixard_failover_duration_seconds_count") for each in found)
        return lasted == 1 and sum(each.get(up, 0) for each in found) == 1

    wait_until(failed_over, "it runs elsewhere, and that is counted", 60)
    found = [scrape(measured, node_id) for node_id in left]
    lost = ("blixard_failovers_total", (("reason", "host-lost"),))
    assert sum(each[lost] for each in found) == 1
    assert {
        each[("blixard_nodes", (("state", "down"),))]
        for each in found
        if lost in each and ("blixard_nodes", (("state", "down"),)) in each
    } == {1}
