"""A campaign of faults against whole hosts, watched from outside.

    PYTHONPATH=tests python -m hosts.campaign --rounds 60 --record soak-hosts.jsonl

Each round strikes one host, or all, waits until the cluster is well again, and says what became of
every guest. The round's number decides the fault and the host, so a record can be continued; of
so many rounds as there are faults, each fault has one.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

from hosts.campaign_record import Record, Round, table
from hosts.campaign_site import GUESTS, Cluster, open_site
from hosts.faults import FAULTS, Fault, Site
from hosts.faults_watchdog import Watchdogs
from hosts.layers import CACHE, hosts_layers
from hosts.machine import Machine
from hosts.oracle import Life, Oracle, boot_ms

SPARED_S: Final = 12.0
"""How long a fault lasts that no guest may die of: longer than a lease."""
FENCED_S: Final = 25.0
"""How long a fault lasts at most; it ends once its VMs run elsewhere."""
WELL_AGAIN_S: Final = 120.0
KILL_BUDGET_MS: Final = 1_000
"""Between the keeper's deadline and the end of the lease (design, section 4)."""
JOURNAL: Final = "journalctl --output=short-precise --boot=all --lines=4000"


class Campaign:
    """A cluster under attack."""

    def __init__(self, site: Site, watchdogs: Watchdogs, oracle: Oracle, sources: str) -> None:
        self.site = site
        self.watchdogs = watchdogs
        self.oracle = oracle
        self.cluster = Cluster(site.machines)
        self._sources = sources

    def begin(self) -> None:
        """Switch on every host, create the VMs, and wait until they run."""
        for host in self.site.machines:
            self.site.switch_on(host)
        self.cluster.begin()
        if trouble := self.settle():
            raise RuntimeError(f"the cluster does not begin: {trouble}")

    def settle(self) -> str:
        """Wait until every VM runs exactly once, on its host and nowhere else. Returns what is
        still wrong when patience ends."""
        deadline_ms = boot_ms() + round(WELL_AGAIN_S * 1000)
        trouble = ""
        while boot_ms() < deadline_ms:
            for host in self.site.machines:
                if not host.is_on:
                    self.site.switch_on(host)
            once = self.oracle.wait(
                lambda: (
                    {vm: len(hosts) for vm, hosts in self.oracle.where().items()}
                    == dict.fromkeys(GUESTS, 1)
                ),
                timeout_s=2,
            )
            trouble = self.cluster.trouble(self.oracle.where())
            if once and not trouble:
                for host in self.site.machines:
                    host.succeed("true")  # of one that never answered, the oracle sees no deadline
                return ""
        return trouble or f"running: {self.oracle.where()}"

    def round(self, number: int, name: str) -> Round:
        """Strike once, and tell what came of it."""
        fault = FAULTS[name]
        before = {vm: hosts[0] for vm, hosts in self.oracle.where().items()}
        leader = self.cluster.leader()
        used = [one for one in self.site.machines if one.name in before.values()]
        host = leader if fault.leader and leader else random.Random(number).choice(used)
        struck = [one.name for one in self.site.machines if fault.everyone or one is host]
        boots = {one.name: one.boots for one in self.site.machines}
        self.oracle.pause_ms = 0
        with fault.strike(self.site, host) as at_ms:
            unmoved = self._hold(fault, struck, before)
        ended_ms = boot_ms()
        stuck = self.settle()
        lives = self.oracle.since(at_ms)
        return Round(
            number,
            name,
            "all" if fault.everyone else host.name,
            was_leader=leader is host or fault.everyone,
            guaranteed=self.watchdogs.all_fed(),
            sources=self._sources,
            moved=list(_moved(lives, at_ms, {vm: on for vm, on in before.items() if on in struck})),
            registered_s=self._registered_s(host, at_ms) if name == "reboot" else None,
            unmoved=unmoved,
            overlaps=[asdict(one) for one in self.oracle.overlaps(at_ms)],
            needless=list(_needless(lives, at_ms, [] if fault.spares else struck)),
            last_ticks=list(_last_ticks(lives, struck)),
            resets=self._resets(fault, struck, boots),
            well_again_s=(boot_ms() - ended_ms) / 1000,
            stuck=stuck,
            pause_ms=self.oracle.pause_ms,
        )

    def _hold(self, fault: Fault, struck: Sequence[str], before: dict[str, str]) -> list[str]:
        """Let the fault last until it has shown what it does. Returns the VMs that should have
        moved and have not."""
        hit = [vm for vm, host in before.items() if host in struck]

        def unmoved() -> list[str]:
            where = self.oracle.where()
            return [vm for vm in hit if set(where.get(vm, struck)) & set(struck)]

        if fault.everyone:
            return []
        if fault.spares or not hit:
            self.oracle.wait(lambda: False, SPARED_S)
            return []
        self.oracle.wait(lambda: not unmoved(), FENCED_S)
        return unmoved() if fault.moves else []

    def _registered_s(self, host: Machine, at_ms: int) -> float | None:
        struck_s = time.time() - (boot_ms() - at_ms) / 1000
        registered_s = self.cluster.registered_s(host, struck_s)
        return None if registered_s is None else registered_s - struck_s

    def _resets(self, fault: Fault, struck: Sequence[str], boots: dict[str, int]) -> list[str]:
        """The hosts that were switched on more often than the fault explains."""
        return [
            host.name
            for host in self.site.machines
            if host.boots - boots[host.name] > (fault.power and host.name in struck)
        ]

    def keep_evidence(self, folder: Path) -> None:
        """Write the journals of all hosts into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for host in self.site.machines:
            (folder / f"{host.name}.log").write_text(host.execute(JOURNAL, timeout=30)[1])
        lives = "\n".join(str(life) for life in self.oracle.lives)
        (folder / "lives.txt").write_text(f"{lives}\n")


@contextmanager
def open_campaign(layers: Sequence[Path], runs: Path, seed: int) -> Iterator[Campaign]:
    """A campaign that has begun; nothing of it is left in the end."""
    with (
        open_site(layers, runs, seed) as site,
        Watchdogs(site.machines, site.folder) as watchdogs,
        Oracle(site.machines) as oracle,
    ):
        campaign = Campaign(site, watchdogs, oracle, layers[0].name)
        campaign.begin()
        yield campaign


def _moved(lives: Sequence[Life], at_ms: int, hit: dict[str, str]) -> list[dict[str, object]]:
    """The first new life of each VM that was hit."""
    moved = []
    for vm, source in sorted(hit.items()):
        new = [life for life in lives if life.vm == vm and life.began_ms >= at_ms]
        if new:
            seconds = (new[0].began_ms - at_ms) / 1000
            moved.append({"vm": vm, "source": source, "target": new[0].host, "seconds": seconds})
    return moved


def _needless(lives: Sequence[Life], at_ms: int, guilty: Sequence[str]) -> list[dict[str, object]]:
    """The guests that ended on hosts where none had to."""
    return [
        {"vm": life.vm, "host": life.host, "after_ms": life.ended_ms - at_ms}
        for life in lives
        if life.ended_ms is not None and life.host not in guilty
    ]


def _last_ticks(lives: Sequence[Life], struck: Sequence[str]) -> list[dict[str, object]]:
    """How long after the end of their host's lease guests were last able to execute."""
    return [
        {"vm": life.vm, "host": life.host, "ms": last_ms - life.deadline_ms - KILL_BUDGET_MS}
        for life in lives
        if life.ended_ms is not None and life.deadline_ms is not None and life.host in struck
        for last_ms in [max(until for _, until in life.executing(life.ended_ms))]
    ]


def drawn(number: int, faults: Sequence[str]) -> str:
    """The fault of a round: each block of rounds has every fault once, in an order of its own."""
    block, place = divmod(number, len(faults))
    order = sorted(faults)
    random.Random(block).shuffle(order)
    return order[place]


def run(record_path: Path, rounds: int, faults: Sequence[str]) -> Record:
    """Go on until the record holds so many rounds of these sources."""
    with hosts_layers() as layers:
        record = Record(record_path, layers[0].name)
        while len(record.rounds) < rounds:
            with open_campaign(layers, CACHE / "runs", seed=len(record.rounds)) as campaign:
                while len(record.rounds) < rounds:
                    number = len(record.rounds)
                    one = campaign.round(number, drawn(number, faults))
                    record.add(one)
                    print(f"{number + 1} of {rounds}: {one}", flush=True)
                    if one.is_bad:
                        campaign.keep_evidence(record.evidence / f"{one.sources}-{number}")
                    if one.stuck:
                        break
    return record


def main() -> int:
    parser = argparse.ArgumentParser(description="strike hosts, and watch their guests")
    parser.add_argument("--rounds", type=int, default=len(FAULTS))
    parser.add_argument("--record", type=Path, default=Path("soak-hosts.jsonl"))
    parser.add_argument("--fault", action="append", choices=sorted(FAULTS), help="only these")
    options = parser.parse_args()
    record = run(options.record, options.rounds, options.fault or sorted(FAULTS))
    print(table(record.rounds))
    return int(any(one.is_bad for one in record.rounds))


if __name__ == "__main__":
    sys.exit(main())
