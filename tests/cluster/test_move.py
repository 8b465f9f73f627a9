"""Moves and drains on real daemons: a VM goes on elsewhere, and what stands in the way is named."""

import json

from cluster.loopback import LoopbackCluster, wait_until


def test_a_vm_moves_and_says_how_long_it_was_away(cluster: LoopbackCluster, counting: str) -> None:
    cluster.cli("vm", "create", "web", "--config", counting, "--wait")
    before = cluster.vm("web")
    told = cluster.cli("vm", "move", "web", "--wait")
    after = cluster.vm("web")
    assert after["state"] == "running"
    assert after["node"] != before["node"]
    assert after["epoch"] > before["epoch"]
    assert after["move"] is None
    print(told.stdout.strip())
    assert f"web runs on {after['node']}, moved there within" in told.stdout
    assert "count" in cluster.console("web")

    here, there = after["node"], before["node"]
    moved = cluster.cli("vm", "move", "web", "--to", there, "--wait", "-o", "json")
    assert json.loads(moved.stdout)["vm"]["node"] == there
    refused = cluster.cli("vm", "move", "web", "--to", there, check=False)
    assert refused.returncode == 3
    assert f"web is on {there} already" in refused.stderr
    refused = cluster.cli("vm", "move", "web", "--to", "node-9", check=False)
    assert refused.returncode == 4
    cluster.cli("node", "drain", here, "--detach")
    refused = cluster.cli("vm", "move", "web", "--to", here, check=False)
    assert refused.returncode == 3
    assert "is drained by" in refused.stderr
    cluster.cli("vm", "stop", "web", "--wait")
    refused = cluster.cli("vm", "move", "web", check=False)
    assert refused.returncode == 3
    assert "web runs nowhere: it is stopped" in refused.stderr


def test_a_node_is_drained_one_vm_after_the_other(cluster: LoopbackCluster, counting: str) -> None:
    names = ["a", "b", "c"]
    for name in names:
        cluster.cli("vm", "create", name, "--config", counting, "--require", "node=node-2")
    for name in names:
        cluster.cli("vm", "start", name, "--wait")
    planned = cluster.cli("node", "drain", "node-2", "--dry-run", check=False)
    assert planned.returncode == 3, "all of them are required to be there"
    assert "and node=node-2 is required" in planned.stderr
    for name in names[:2]:
        cluster.cli("vm", "set", name, "--require", "")
    drained = cluster.cli("node", "drain", "node-2", "--reason", "kernel update", check=False)
    print(drained.stderr)
    assert drained.returncode == 3
    assert "1 VM stays on node-2" in drained.stderr
    assert "c: node-1: has node=node-1, and node=node-2 is required" in drained.stderr
    assert [cluster.vm(name)["node"] == "node-2" for name in names] == [False, False, True]
    [node] = [n for n in cluster.json("node", "list")["items"] if n["name"] == "node-2"]
    assert node["state"] == "draining"
    assert node["drain"]["reason"] == "kernel update"
    cluster.cli("vm", "set", "c", "--require", "")
    drained = cluster.cli("node", "drain", "node-2")
    assert drained.stdout == "node-2 is drained\n"
    assert cluster.vm("c")["node"] != "node-2"
    refused = cluster.cli("vm", "create", "d", "--config", counting, "--require", "node=node-2")
    wait_until(lambda: "drained" in cluster.vm("d")["reason"]["text"], "d says why it waits")
    why = cluster.cli("vm", "why", "d")
    print(why.stdout, why.stderr)
    assert "d is pending: no node can run it" in why.stdout
    assert "blixard node resume node-2" in why.stderr
    cluster.cli("node", "resume", "node-2")
    wait_until(lambda: cluster.vm("d")["state"] == "running", "it is taken again")
    assert refused.returncode == 0
