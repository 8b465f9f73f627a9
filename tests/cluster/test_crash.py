"""How soon the cluster knows that a guest has died."""

import os
import signal
import time
from datetime import datetime
from pathlib import Path

from cluster.loopback import LoopbackCluster, wait_until

DEATHS = int(os.environ.get("BLIXARD_DEATHS", "1"))
LONGEST_MS = 1_000
"""From the kill to the entry of the log that says so."""


def test_a_guest_that_is_killed_is_known_to_be_dead_at_once(
    cluster: LoopbackCluster, counting: str
) -> None:
    limit = str(DEATHS + 1)
    cluster.cli("vm", "create", "web", "--config", counting, "--restart-limit", limit, "--wait")
    took_ms = []
    for death in range(1, DEATHS + 1):
        killed_ms = time.time() * 1_000
        os.kill(_runner(cluster), signal.SIGKILL)
        wait_until(lambda: cluster.vm("web")["restarts"] == death, "it is restarted", 60)  # noqa: B023
        took_ms.append(round(_told_ms(cluster) - killed_ms))
        wait_until(lambda: cluster.vm("web")["state"] == "running", "it runs again", 90)
    print(f"from kill -9 to the log's word, ms: {sorted(took_ms)}")
    assert max(took_ms) <= LONGEST_MS


def _runner(cluster: LoopbackCluster) -> int:
    """The process of the guest."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            folder, command = (entry / "cwd").readlink(), (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"microvm-run" in command and cluster.directory in folder.parents:
            return int(entry.name)
    raise AssertionError("no guest runs")


def _told_ms(cluster: LoopbackCluster) -> float:
    """When the last death was written to the log."""
    events = cluster.json("events", "--vm", "web", "-n", "50")["items"]
    [*_, last] = [event for event in events if event["code"] == "vm-restarts"]
    return datetime.fromisoformat(last["at"]).timestamp() * 1_000
