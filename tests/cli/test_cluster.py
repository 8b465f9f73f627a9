"""`blixard cluster`."""

import json

import pytest

from blixard.errors import Code
from blixard.model import Fix, Rejected
from cli.conftest import Run
from cli.fake_node import Context, FakeNode, a_node, a_vm, refuse

PAGE = """\
cluster c1: degraded; 2 of 3 nodes up, 2 needed; can lose none
  Leader   node-1, term 3
  Log      index 41
  VMs      3: 1 pending, 2 running
  Room     29.5 of 32 GiB and 12 of 16 vCPUs free on nodes that are up
  Version  0.1.0 on all nodes
NAME    STATE  ROLE      VMS  CPU      MEMORY  MODE         LEASE  ADDRESS      VERSION  NOTE
node-1  up     leader      2  4/8  2.5/16 GiB  best-effort   7.6s  127.0.0.1:1  0.1.0
node-2  up     follower    0  0/8    0/16 GiB  best-effort   7.6s  127.0.0.1:2  0.1.0
node-3  down   follower    0  0/8    0/16 GiB  best-effort      -  127.0.0.1:3  0.1.0    not heard
"""


@pytest.fixture
def three_nodes(node: FakeNode) -> None:
    node.vms = {"a": a_vm("a"), "b": a_vm("b"), "c": a_vm("c", "pending")}
    node.nodes = [
        a_node(1, role="leader", heard_ms=0, vms=2, vcpus_reserved=4, memory_reserved_mib=2560),
        a_node(2),
        a_node(3, state="down", silent=True, heard_ms=-1, renewed_ms_ago=None),
    ]


@pytest.mark.usefixtures("three_nodes")
def test_status_is_a_page_and_a_table(ask: Run) -> None:
    assert ask("cluster", "status").out == PAGE


@pytest.mark.usefixtures("three_nodes")
def test_status_for_programs(ask: Run) -> None:
    told = json.loads(ask("cluster", "status", "-o", "json").out)
    nodes = told.pop("nodes")
    assert told == {
        "schema": "blixard.v1/cluster",
        "cluster_id": "c1",
        "health": "degraded",
        "leader_id": 1,
        "term": 3,
        "commit_index": 41,
        "quorum": 2,
        "vms": [{"state": "pending", "count": 1}, {"state": "running", "count": 2}],
        "exposed": [],
        "as_of": {"index": 41, "term": 3, "node": "node-1", "linearizable": True},
    }
    assert [node["state"] for node in nodes] == ["up", "up", "down"]
    assert [node["heard_ms"] for node in nodes] == [0, 120, None]
    assert nodes[0]["memory_reserved_mib"] == 2560


@pytest.mark.usefixtures("three_nodes")
def test_names_of_the_nodes(ask: Run) -> None:
    assert ask("cluster", "status", "-o", "name").out == "node-1\nnode-2\nnode-3\n"


def test_a_node_is_told_to_join(ask: Run, node: FakeNode) -> None:
    ran = ask("cluster", "join", "10.0.0.1:7001")
    assert ran.out == "joined cluster c2 through 10.0.0.1:7001\n"
    assert node.called("JoinThrough")[0].address == "10.0.0.1:7001"
    told = json.loads(ask("cluster", "join", "10.0.0.1:7001", "-o", "json").out)
    assert told["cluster_id"] == "c2"


def test_a_node_that_belongs_to_a_cluster_does_not_join(ask: Run, node: FakeNode) -> None:
    def refused(_: object, context: Context) -> None:
        fix = Fix("look at it", "blixard cluster status")
        refuse(context, Rejected(Code.EXISTS, "node-1 already belongs to a cluster", fixes=(fix,)))

    node.script["JoinThrough"] = [refused]
    ran = ask("cluster", "join", "10.0.0.1:7001")
    assert (ran.code, ran.out) == (3, "")
    assert "node-1 already belongs to a cluster" in ran.err


def test_joining_is_asked_for_once(ask: Run, node: FakeNode) -> None:
    """Whoever does not answer may have joined, and would refuse to join again."""

    def unreachable(_: object, context: Context) -> None:
        refuse(context, Rejected(Code.NO_ROUTE, "nobody answers at 10.0.0.1:7001"))

    node.script["JoinThrough"] = [unreachable]
    ran = ask("cluster", "join", "10.0.0.1:7001")
    assert ran.code == 5
    assert ran.err.startswith("error[BLX-5003]: nobody answers at 10.0.0.1:7001\n")
    assert len(node.called("JoinThrough")) == 1


def test_this_hosts_node_leaves(ask: Run, node: FakeNode) -> None:
    assert ask("cluster", "leave").code == 2
    assert node.called("LeaveCluster") == []
    assert ask("cluster", "leave", "--yes").out == "node-1 has left the cluster\n"
    assert node.called("LeaveCluster")[0].node_id == 1


def test_over_the_network_the_leaving_node_is_named(
    ask: Run, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLIXARD_ADDRESS", node.address)
    ran = ask("cluster", "leave", "--yes")
    assert (ran.code, node.called("LeaveCluster")) == (2, [])
    assert "which node shall leave?" in ran.err
    assert ask("cluster", "leave", "--yes", "--node", "3").out == "node-3 has left the cluster\n"
    assert node.called("LeaveCluster")[0].node_id == 3


def test_leaving_follows_the_leader(ask: Run, node: FakeNode, other: FakeNode) -> None:
    node.leader = other.address
    assert ask("cluster", "leave", "--yes", "--node", "3").code == 0
    assert other.called("LeaveCluster")[0].request_id.number == 1
