"""Guests that are checked, on real daemons."""

from pathlib import Path

from cluster.loopback import LoopbackCluster, wait_until


def test_a_guest_that_fails_its_check_is_restarted(
    cluster: LoopbackCluster, counting: str, tmp_path: Path
) -> None:
    serves = tmp_path / "serves"
    serves.touch()
    cluster.cli(
        *(
            "vm",
            "create",
            "web",
            "--config",
            counting,
            "--check",
            f"command:/usr/bin/test -e {serves}",
        ),
        *("--check-interval", "1s", "--check-failures", "2", "--check-on-failure", "restart"),
        "--wait",
    )

    def health() -> str:
        return str((cluster.vm("web")["health"] or {}).get("state"))

    wait_until(lambda: health() == "ok", "it passes")
    before = cluster.vm("web")
    assert " ok " in cluster.cli("vm", "list").stdout
    serves.unlink()
    wait_until(lambda: cluster.vm("web")["epoch"] != before["epoch"], "it is restarted", 60)
    serves.touch()
    wait_until(lambda: health() == "ok", "it passes again", 60)
    after = cluster.vm("web")
    assert after["restarts"] >= 1
    told = cluster.cli("events", "--vm", "web", "-n", "100").stdout
    assert "exited with status 1" in told

    cluster.cli("vm", "set", "web", "--check", "none")
    wait_until(lambda: cluster.vm("web")["health"] is None, "nobody asks any more")


def test_a_guest_that_says_what_is_waited_for(cluster: LoopbackCluster, counting: str) -> None:
    cluster.cli("vm", "create", "web", "--config", counting, "--check", "console:count 3", "--wait")
    wait_until(lambda: (cluster.vm("web")["health"] or {}).get("state") == "ok", "it is heard")
    assert "count 3" in cluster.vm("web")["health"]["text"]
