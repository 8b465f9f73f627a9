"""The hosts that a campaign strikes: a cluster with VMs, and what it says of itself."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from hosts.configuration import configuration
from hosts.faults import Site, busy_files
from hosts.faults_watchdog import DEVICE, WATCHDOG_MS
from hosts.lab import open_lab
from hosts.layers import ROOT
from hosts.machine import Machine, retry

NAMES: Final = ("node1", "node2", "node3")
PATIENCE_S: Final = 90
STILL: Final = Path(__file__).with_name("campaign_guest")
TINY: Final = ROOT / "vm-templates/tiny"
GUESTS: Final = {
    "one": "/root/still#still --memory 64",
    "two": "/root/still#still --memory 64",
    "three": "/root/still#still --memory 64",
    "four": "/root/still#still --memory 64 --failover always",
    "real": "/root/tiny#tiny --memory 256",
}
"""The VMs, and what they are made of: processes that only exist, and a guest in QEMU."""


def watched(layers: Sequence[Path]) -> dict[str, str]:
    """What gives a host's keeper its watchdog: its own command, and the device."""
    unit = (layers[0] / "etc/systemd/system/blixard-keeper.service").read_text()
    [command] = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    settings = f"--watchdog {DEVICE} --watchdog-ms {WATCHDOG_MS}"
    dropin = "/etc/systemd/system/blixard-keeper.service.d/50-watchdog.conf"
    return {dropin: f"[Service]\nExecStart=\n{command} {settings}\n"}


@contextmanager
def open_site(layers: Sequence[Path], runs: Path, seed: int) -> Iterator[Site]:
    """Hosts that are ready to be switched on; nothing of them is left in the end."""
    files = {
        name: {
            "/etc/blixard/blixard.toml": configuration(number, vcpus=3),
            **busy_files(layers),
            **watched(layers),
        }
        for number, name in enumerate(NAMES, start=1)
    }
    with open_lab(layers, runs, NAMES, files) as lab:
        yield Site(lab, seed)


class Cluster:
    """The cluster as it describes itself, asked on whichever host answers."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self._machines = machines

    def begin(self) -> None:
        """Create the VMs, once all hosts are ready."""
        first = self._machines[0]
        for machine in self._machines:
            machine.copy_from_host(str(STILL), "/root/still")
            machine.copy_from_host(str(TINY), "/root/tiny")
        retry(lambda _: self.leader() is not None and not self._missing(), PATIENCE_S)
        for name, what in GUESTS.items():
            first.succeed(f"blixard vm create {name} --config {what}")

    def leader(self) -> Machine | None:
        """The host of the leader."""
        leader_id = self._ask("cluster status").get("leader_id")
        return self._machines[leader_id - 1] if leader_id else None

    def trouble(self, where: dict[str, list[str]]) -> str:
        """How the cluster differs from one that is well and runs its VMs there; "" if it does not.

        `where` names the hosts that run each VM, as seen from outside.
        """
        listed = self._ask("vm list").get("items")
        if listed is None:
            return "the cluster does not answer"
        for vm in listed:
            host = (vm["node"] or "").replace("-", "")
            if vm["state"] != "running":
                return f"{vm['name']} is {vm['state']}: {vm['reason']['text']}"
            if where.get(vm["name"]) != [host]:
                return f"{vm['name']} runs on {where.get(vm['name'])}, not on {host} as listed"
        return self._missing()

    def registered_s(self, host: Machine, since_s: float) -> float | None:
        """When a host was accepted as a node for the first time after a moment, both in seconds of
        the wall clock, as the others' journals have it."""
        journal = f"journalctl --unit=blixard --output=short-unix --since=@{since_s:.3f}"
        said = f"{host.name.replace('node', 'node-')} registered"
        found = [
            float(line.split()[0])
            for other in self._machines
            if other is not host and other.is_on
            for line in other.execute(f"{journal} | grep '{said}' || true")[1].splitlines()
        ]
        return min((at_s for at_s in found if at_s >= since_s), default=None)

    def _missing(self) -> str:
        nodes = self._ask("cluster status").get("nodes", [])
        states = {node["name"].replace("-", ""): node["state"] for node in nodes}
        missing = [name for name in NAMES if states.get(name) != "up"]
        return f"not up: {', '.join(missing)}" if missing else ""

    def _ask(self, question: str) -> dict[str, Any]:
        """An answer, or nothing if there is none."""
        for machine in self._machines:
            if machine.is_on:
                status, answer = machine.execute(
                    f"blixard {question} -o json --timeout 3s 2>&1", timeout=20
                )
                if status == 0:
                    said: dict[str, Any] = json.loads(answer)
                    return said
        return {}
