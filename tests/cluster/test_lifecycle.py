"""The whole path on real parts: command line, gRPC, consensus, Nix, guards and processes."""

import time
from pathlib import Path

import pytest

from cluster.loopback import LoopbackCluster, wait_until
from cluster.runners import broken_flake, flake_of_runner


def _pids(cluster: LoopbackCluster, name: str) -> list[int]:
    """The processes that run in a VM's state directory, on any node."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                folder = (entry / "cwd").readlink()
            except OSError:
                continue
            if folder.name == name and cluster.directory in folder.parents:
                found.append(int(entry.name))
    return sorted(found)


def test_a_vm_lives_from_create_to_delete(cluster: LoopbackCluster, counting: str) -> None:
    cluster.cli("vm", "create", "web", "--config", counting, "--wait")
    vm = cluster.vm("web")
    assert (vm["state"], vm["wanted"]) == ("running", "running")
    assert vm["node"] in {"node-1", "node-2", "node-3"}
    wait_until(lambda: "count 3" in cluster.console("web"), "the guest counts")
    assert "already running" in cluster.cli("vm", "start", "web").stdout

    cluster.cli("vm", "stop", "web", "--wait")
    assert cluster.vm("web")["state"] == "stopped"
    assert not _pids(cluster, "web")
    cluster.cli("vm", "start", "web", "--wait")
    before = cluster.vm("web")
    cluster.cli("vm", "restart", "web", "--wait")
    after = cluster.vm("web")
    assert after["state"] == "running"
    assert after["epoch"] > before["epoch"]

    cluster.cli("vm", "delete", "web", "--yes", "--wait")
    assert cluster.cli("vm", "status", "web", check=False).returncode == 4
    assert not _pids(cluster, "web")


def test_a_daemon_that_is_killed_leaves_its_vm_running(
    cluster: LoopbackCluster, counting: str
) -> None:
    cluster.cli("vm", "create", "web", "--config", counting, "--wait")
    host = cluster.host_of("web")
    before = _pids(cluster, "web")
    assert before
    cluster.kill(host)
    wait_until(lambda: cluster.leader_id() != host, "another leader")
    assert _pids(cluster, "web")[0] == before[0]
    cluster.start(host)
    wait_until(lambda: cluster.vm("web")["state"] == "running", "it is found again")
    assert _pids(cluster, "web")[0] == before[0]


def test_a_host_that_is_lost_gives_its_vm_to_the_standby(
    cluster: LoopbackCluster, counting: str
) -> None:
    cluster.cli("vm", "create", "web", "--config", counting, "--wait")
    host = cluster.host_of("web")
    wait_until(lambda: (cluster.vm("web")["standby"] or {}).get("readiness") == "built", "standby")
    began_s = time.monotonic()
    cluster.lose(host)
    wait_until(
        lambda: (vm := cluster.vm("web"))["node"] != f"node-{host}" and vm["state"] == "running",
        "it runs elsewhere",
        60,
    )
    print(f"running elsewhere {time.monotonic() - began_s:.1f} s after its host was lost")
    states = {node["id"]: node["state"] for node in cluster.json("node", "list")["items"]}
    assert states.pop(host) == "down"
    assert set(states.values()) == {"up"}
    assert cluster.cli("node", "confirm-down", f"node-{host}", "--confirm", f"node-{host}").stdout


def test_whatever_was_acknowledged_survives_the_loss_of_all_daemons(
    cluster: LoopbackCluster, counting: str
) -> None:
    acknowledged = []
    for number in range(10):
        name = f"vm-{number}"
        cluster.cli("vm", "create", name, "--config", counting, "--stopped")
        acknowledged.append(name)
    cluster.cli("vm", "create", "web", "--config", counting, "--wait")
    before = _pids(cluster, "web")
    cluster.kill(1, 2, 3)
    cluster.start(1, 2, 3)
    cluster.settled(1, 2, 3)
    names = [vm["name"] for vm in cluster.json("vm", "list")["items"]]
    assert names == sorted([*acknowledged, "web"])
    wait_until(lambda: cluster.vm("web")["state"] == "running", "it is found again")
    assert _pids(cluster, "web")[0] == before[0]


def test_a_fourth_node_joins_and_an_old_one_leaves_while_vms_are_created(
    cluster: LoopbackCluster, counting: str
) -> None:
    created: list[str] = []

    def create() -> None:
        name = f"vm-{len(created)}"
        cluster.cli("vm", "create", name, "--config", counting, "--stopped")
        created.append(name)

    create()
    cluster.start(4)
    for _ in range(5):
        create()
    cluster.settled(1, 2, 3, 4)
    leaving = cluster.leader_id()
    cluster.cli("cluster", "leave", "--node", str(leaving), "--yes")
    for _ in range(3):
        create()
    cluster.stop(leaving)
    cluster.start(leaving)
    left = cluster.nodes.pop(leaving)
    assert left.process is not None
    assert left.process.wait(timeout=30) == 3, "it is not let in again with its old data"
    assert f"node-{leaving} was removed from this cluster" in left.log
    cluster.settled(*cluster.nodes)
    names = [vm["name"] for vm in cluster.json("vm", "list")["items"]]
    assert names == sorted(created)


def test_a_node_id_that_is_taken_is_refused(cluster: LoopbackCluster, tmp_path: Path) -> None:
    with LoopbackCluster(tmp_path / "intruder") as intruder:
        intruder.nodes = {1: cluster.nodes[1]}
        intruder.start(2)
        process = intruder.nodes.pop(1).process and intruder.nodes[2].process
        assert process is not None
        assert process.wait(timeout=30) == 3
        assert "node-2" in intruder.nodes[2].log
        intruder.nodes[2].process = None
    cluster.settled(1, 2, 3)


BROKEN = {
    "evaluate": ("{ outputs = { self }: { ", "syntax error"),
    "attribute": ("{ outputs = { self }: { }; }", "guest"),
}


@pytest.mark.parametrize("case", sorted(BROKEN))
def test_a_template_that_does_not_evaluate_says_why(
    cluster: LoopbackCluster, tmp_path: Path, case: str
) -> None:
    text, expected = BROKEN[case]
    config = broken_flake(tmp_path / "broken", text)
    failed = cluster.cli("vm", "create", "web", "--config", config, "--wait", check=False)
    assert failed.returncode == 1
    assert expected in failed.stderr
    assert cluster.vm("web")["state"] == "failed"


def test_a_build_that_fails_shows_its_log(cluster: LoopbackCluster, tmp_path: Path) -> None:
    config = flake_of_runner(tmp_path / "bad", "", build="echo 'error: no such file'; exit 3\n")
    failed = cluster.cli("vm", "create", "web", "--config", config, "--wait", check=False)
    assert failed.returncode == 1
    assert "no such file" in failed.stderr


def test_a_guest_that_dies_at_once_is_failed_with_its_last_words(
    cluster: LoopbackCluster, tmp_path: Path
) -> None:
    config = flake_of_runner(tmp_path / "dying", "echo 'panic: no root'; exit 7\n")
    create = ("vm", "create", "web", "--config", config, "--restart-limit", "0", "--wait")
    failed = cluster.cli(*create, check=False)
    assert failed.returncode == 1
    assert "status 7" in failed.stderr
    assert "panic: no root" in failed.stderr


def test_resources_beyond_every_host_are_refused(cluster: LoopbackCluster, counting: str) -> None:
    refused = cluster.cli("vm", "create", "web", "--config", counting, "--vcpus", "9", check=False)
    assert refused.returncode == 3
    assert "no node is that large" in refused.stderr
    assert cluster.json("vm", "list")["items"] == []


def test_a_duplicate_name_is_refused(cluster: LoopbackCluster, counting: str) -> None:
    cluster.cli("vm", "create", "web", "--config", counting, "--stopped")
    again = cluster.cli("vm", "create", "web", "--config", counting, check=False)
    assert again.returncode == 3
    assert "already exists" in again.stderr
