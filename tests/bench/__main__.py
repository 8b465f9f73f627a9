"""Measures the figures that the documentation states, on this machine, now: `make bench`."""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import beside_etcd, commit, leader_kill
from bench.figure import show_all
from cluster.loopback import BLIXARD, LoopbackCluster, three_nodes

VMS = 100
LISTS = 20


def main() -> None:
    """Measure everything; or, beside etcd, only commits."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--etcd", type=Path, help="its server's binary: compare commits with it")
    parser.add_argument("--demo", action="store_true", help="measure the demo too: a minute")
    options = parser.parse_args()
    if options.etcd is not None:
        beside_etcd.main(options.etcd)
        return
    _with_vms()
    commit.main()
    leader_kill.main()
    if options.demo:
        show_all("make demo, s", _timed(_demo, runs=1))


def _with_vms() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="blixard-bench-") as directory,
        three_nodes(Path(directory)) as cluster,
    ):
        source = f"/nix/store/{'a' * 32}-microvm-none"
        for number in range(VMS):
            cluster.cli("vm", "create", f"vm-{number}", "--config", source, "--stopped")
        show_all("resident memory of a node with 100 VMs, MiB", _resident_mib(cluster))
        show_all("blixard vm list, shell to shell, s", _timed(lambda: cluster.cli("vm", "list")))


def _resident_mib(cluster: LoopbackCluster) -> list[float]:
    sizes = []
    for node in cluster.nodes.values():
        status = Path(f"/proc/{node.pid}/status").read_text()
        kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
        sizes.append(int(kib) / 1024)
    return sizes


def _demo() -> None:
    subprocess.run([*BLIXARD, "demo"], check=True, stdout=subprocess.DEVNULL)


def _timed(run: Callable[[], object], runs: int = LISTS) -> list[float]:
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return times


if __name__ == "__main__":
    main()
