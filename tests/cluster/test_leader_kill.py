"""The leader is killed while a client writes; `make bench` does it a hundred times."""

import statistics

from bench.leader_kill import outages
from cluster.loopback import LoopbackCluster


def test_writes_go_on_soon_after_the_leader_is_killed(cluster: LoopbackCluster) -> None:
    outages_s = list(outages(cluster, 5))
    assert statistics.median(outages_s) < 1.5, outages_s
    assert max(outages_s) < 4, outages_s
