"""The daemon as a process: what it does when a part of it is broken."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from blixard import config, daemon
from blixard.drivers.nix import NixBuilder
from blixard.errors import Code
from blixard.raft.recovery import bootstrap
from blixard.raft.store import SqliteStore
from cluster.loopback import BLIXARD, LoopbackCluster, free_port
from nix.golden import units


def _config(directory: Path) -> config.NodeConfig:
    node = {
        "id": 1,
        "bind": f"127.0.0.1:{free_port()}",
        "data_dir": str(directory),
        "socket": str(directory / "api.sock"),
        "driver": "process",
    }
    return config.load(None, {"node": node})


def test_a_defect_in_a_driver_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_as_usual = NixBuilder.open

    async def broken(builder: NixBuilder) -> None:
        async def work() -> None:
            raise KeyError("web")

        await open_as_usual(builder)
        builder._tasks.begin("web", work)

    monkeypatch.setattr(NixBuilder, "open", broken)

    async def run() -> Any:
        async with asyncio.timeout(20):
            await daemon.Daemon(_config(tmp_path), lambda: _config(tmp_path)).run()

    with pytest.raises(KeyError, match="web"):
        asyncio.run(run())


def test_a_node_whose_journal_is_damaged_says_the_way_back(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "raft")
    bootstrap(store, "c1", 1, "127.0.0.1:7001")
    store.close()
    database = tmp_path / "raft" / "raft.db"
    database.write_bytes(database.read_bytes().replace(b"cluster_id", b"cluster_if"))
    node = [sys.executable, "-m", "blixard", "node", "--id", "1", "--driver", "process"]
    places = ["--data-dir", str(tmp_path), "--socket", str(tmp_path / "api.sock")]
    ran = subprocess.run(
        [*node, *places, "--bind", f"127.0.0.1:{free_port()}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == Code.DATA_CORRUPT.exit_status
    assert "the journal is damaged: the checksum of its head is wrong" in ran.stderr
    assert "fix: remove this node from the cluster, empty its data directory, and add" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_second_node_on_the_same_data_directory_is_refused(tmp_path: Path) -> None:
    """Also with another number and address. It changes nothing for the first."""

    def beside_the_log() -> dict[Path, tuple[int, bytes]]:
        files = [path for path in node.directory.rglob("*") if path.parent.name != "raft"]
        return {
            path: (path.stat().st_ino, path.read_bytes() if path.is_file() else b"")
            for path in files
            if path.name != "log"
        }

    with LoopbackCluster(tmp_path) as cluster:
        cluster.start(1)
        cluster.settled(1)
        node = cluster.nodes[1]
        before = beside_the_log()
        for number in ("1", "2"):
            second = subprocess.run(
                [
                    *(*BLIXARD, "node", "--config", str(node.directory / "blixard.toml")),
                    *("--id", number, "--bind", f"127.0.0.1:{free_port()}"),
                ],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert second.returncode == Code.DATA_UNUSABLE.exit_status
            data = node.directory / "data"
            assert f"error[BLX-1032]: another process uses {data}" in second.stderr
            assert "fix: stop it first, or give this node a data directory of" in second.stderr
            assert "Traceback" not in second.stderr
        assert beside_the_log() == before
        cluster.cli("cluster", "status", via=1)


def test_its_unit_does_not_start_a_damaged_node_again_and_again() -> None:
    (listed,) = re.findall(
        r"^RestartPreventExitStatus=(.*)$", units("minimal")["blixard.service"], re.MULTILINE
    )
    assert str(Code.DATA_CORRUPT.exit_status) in listed.split()
    assert str(Code.DATA_UNUSABLE.exit_status) not in listed.split()


def test_guaranteed_without_a_watchdog_is_refused(tmp_path: Path) -> None:
    node = [sys.executable, "-m", "blixard", "node", "--id", "1", "--driver", "process"]
    places = ["--data-dir", str(tmp_path), "--socket", str(tmp_path / "api.sock")]
    ran = subprocess.run(
        [*node, *places, "--bind", f"127.0.0.1:{free_port()}", "--watchdog-mode", "guaranteed"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == Code.NO_WATCHDOG.exit_status
    assert "mode guaranteed is asked for, but the process driver has no watchdog" in ran.stderr
    assert 'driver = "systemd"' in ran.stderr
