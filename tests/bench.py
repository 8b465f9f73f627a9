"""Measures the figures that the documentation states, on this machine, now: `make bench`."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cluster.loopback import BLIXARD, LoopbackCluster, three_nodes

VMS = 100
LISTS = 20


def main() -> None:
    """Measure everything; `--demo` adds the demo, which takes a minute."""
    with (
        tempfile.TemporaryDirectory(prefix="blixard-bench-") as directory,
        three_nodes(Path(directory)) as cluster,
    ):
        _fill(cluster)
        _print("resident memory of a node with 100 VMs, MiB", _resident_mib(cluster))
        _print("blixard vm list, shell to shell, s", _timed(lambda: cluster.cli("vm", "list")))
    script = Path(__file__).with_name("commit_latency.py")
    subprocess.run([sys.executable, script], check=True)
    if "--demo" in sys.argv:
        _print("make demo, s", _timed(_demo, runs=1))


def _fill(cluster: LoopbackCluster) -> None:
    source = f"/nix/store/{'a' * 32}-microvm-none"
    for number in range(VMS):
        cluster.cli("vm", "create", f"vm-{number}", "--config", source, "--stopped")


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


def _print(what: str, values: list[float]) -> None:
    middle, most = statistics.median(values), max(values)
    print(f"{what}: median {middle:.2f}, most {most:.2f}, of {len(values)}", flush=True)


if __name__ == "__main__":
    main()
