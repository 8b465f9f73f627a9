"""VMs that configurations declare: `blixard vm apply` against three real daemons."""

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.loopback import LoopbackCluster, wait_until


class Configuration:
    """A file of one node, and its application."""

    def __init__(self, cluster: LoopbackCluster, path: Path, owner: str) -> None:
        self._cluster = cluster
        self._path = path
        self._owner = owner

    def says(self, **vms: dict[str, Any]) -> "Configuration":
        tables = [
            f"[vms.{name}]\n"
            + "".join(f"{key} = {json.dumps(value)}\n" for key, value in vm.items())
            for name, vm in vms.items()
        ]
        self._path.write_text("\n".join(tables))
        return self

    def apply(self, *flags: str, code: int = 0) -> str:
        """What is printed; all that was said if it failed."""
        command = ("vm", "apply", str(self._path), "--owner", self._owner, *flags)
        ran = self._cluster.cli(*command, check=False)
        assert ran.returncode == code, ran
        return ran.stdout if code == 0 else ran.stdout + ran.stderr


@pytest.fixture
def one(cluster: LoopbackCluster, tmp_path: Path) -> Configuration:
    return Configuration(cluster, tmp_path / "one.toml", "node-1")


@pytest.fixture
def two(cluster: LoopbackCluster, tmp_path: Path) -> Configuration:
    return Configuration(cluster, tmp_path / "two.toml", "2")


def test_a_cluster_follows_the_configurations_of_its_nodes(
    cluster: LoopbackCluster, counting: str, one: Configuration, two: Configuration
) -> None:
    web = {"source": counting, "memory_mib": 64, "restart_limit": 2}
    one.says(web=web)
    assert one.apply("--dry-run") == "web: is created\n"
    assert cluster.json("vm", "list")["items"] == []
    assert one.apply() == "web: is created\n"
    wait_until(lambda: cluster.vm("web")["state"] == "running", "web runs")
    assert one.apply() == "web: is as declared\n"
    seen = cluster.vm("web")
    assert (seen["restart_limit"], seen["memory_mib"]) == (2, 64)
    assert (seen["declared"]["node"], seen["declared"]["generation"]) == ("node-1", 1)

    # Node 2 has been rebuilt already, or not yet: it changes nothing, and says so.
    assert two.says(web=web).apply() == "web: is declared by node-1\n"
    told = two.says(web={**web, "vcpus": 2}).apply(code=3)
    assert "BLX-3040" in told
    assert "node-1" in told
    assert cluster.vm("web")["declared"]["generation"] == 1

    said = one.says(web={**web, "vcpus": 2}).apply()
    assert said == "web: is changed, once it is restarted: blixard vm restart web\n"
    assert (cluster.vm("web")["vcpus"], cluster.vm("web")["state"]) == (1, "running")
    assert "in force once it is restarted" in cluster.cli("vm", "status", "web").stdout
    cluster.cli("vm", "restart", "web", "--wait")
    assert cluster.vm("web")["vcpus"] == 2
    assert one.apply() == "web: is as declared\n"

    for forbidden in (("delete", "web", "--yes"), ("set", "web", "--failover", "never")):
        ran = cluster.cli("vm", *forbidden, check=False)
        assert ran.returncode == 3
        assert "BLX-3040" in ran.stderr

    gone = "web: is declared no more, and goes on; to end it: blixard vm delete web\n"
    assert one.says().apply() == gone
    assert cluster.vm("web")["state"] == "running"
    cluster.cli("vm", "delete", "web", "--yes", "--wait")
    assert one.apply() == ""


def test_one_vm_that_cannot_be_declared_hinders_no_other(
    cluster: LoopbackCluster, counting: str, one: Configuration
) -> None:
    cluster.cli("vm", "create", "db", "--config", counting, "--memory", "64", "--stopped")
    one.says(
        db={"source": counting, "memory_mib": 64},
        huge={"source": counting, "vcpus": 999},
        web={"source": counting, "memory_mib": 64},
    )
    told = one.apply(code=3)
    assert "db: belongs to node-1 from now on" in told
    assert "web: is created" in told
    assert "BLX-3010" in told
    assert {vm["name"] for vm in cluster.json("vm", "list")["items"]} == {"db", "web"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[vms.Web]\nsource = "github:me/infra"', '"Web" is no valid VM name'),
        ("[vms.web]\nvcpus = 2", "vms.web.source is missing"),
        ('[vms.web]\nsource = "a:b"\nmemory = 4', 'unknown key "memory"'),
        ('[vms.web]\nsource = "a:b"\nfailover = "maybe"', "write one of: auto, always, never"),
        ('[vms.web]\nsource = "/nowhere"', 'vms.web: --config: there is no "/nowhere" here'),
        ("[node]\nid = 1", 'unknown table or key "node"'),
        ("vms = 3", "write [vms.NAME]"),
        ("[vms.web", "is no valid TOML"),
    ],
)
def test_a_file_that_is_wrong_is_refused_whole(tmp_path: Path, text: str, told: str) -> None:
    cluster = LoopbackCluster(tmp_path)
    configuration = Configuration(cluster, tmp_path / "vms.toml", "node-1")
    (tmp_path / "vms.toml").write_text(text)
    assert told in configuration.apply("--address", "127.0.0.1:1", code=2)


def test_an_owner_is_a_node(tmp_path: Path) -> None:
    cluster = LoopbackCluster(tmp_path)
    (tmp_path / "vms.toml").write_text("")
    told = Configuration(cluster, tmp_path / "vms.toml", "web").apply(code=2)
    assert '"web" is no node' in told
