"""Each rule of a guard is switched off once, and that is seen: beside a VM whose guard is whole,
another one, to whose guard the same is done, runs on."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import pytest

from blixard.drivers.host import boot_id
from blixard.drivers.process_lease import boot_ms
from blixard.drivers.process_record import Order
from drivers.broken_guard import RULES
from drivers.place import FOREVER, LEASE_MS, Place
from drivers.processes import wait_until

TESTS = Path(__file__).parents[1]
PATHS = f"{TESTS.parent / 'python'}:{TESTS}"
KILL_BUDGET_MS = 1_000


class Fault(NamedTuple):
    """What is done to a part of each guard, and what is wrong with a VM that goes on then."""

    victim: str
    number: signal.Signals
    lease_ms: int
    complaint: str


FAULTS = {
    "its death is its VM's death": Fault(
        "guard", signal.SIGKILL, LEASE_MS, "holder-last: its driver takes it for gone"
    ),
    "the anchor keeps the deadline": Fault(
        "guard", signal.SIGSTOP, 2_500, "fence-in-time: it runs after the lease of its host"
    ),
    "the guard keeps the deadline": Fault(
        "anchor", signal.SIGSTOP, 2_500, "fence-in-time: it runs after the lease of its host"
    ),
}
"""By the rule that lets it do no harm."""


async def start(place: Place, name: str, rule: str, deadline_ms: int) -> None:
    """Start a VM as its driver does, under a guard without one of its rules."""
    order = Order(
        directory=str(place.directory / name),
        uid=3,
        epoch=7,
        runner=place.runner(FOREVER),
        boot_id=boot_id(),
        kill_after_ms=1_000,
        deadline_ms=deadline_ms,
        keep=False,
    )
    lock = os.open(place.mark, os.O_RDONLY)
    guard = [sys.executable, "-m", "drivers.broken_guard", rule]
    subprocess.run(
        [*guard, json.dumps(asdict(order)), str(lock)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": PATHS},
        pass_fds=[lock],
        check=True,
    )
    os.close(lock)
    await wait_until(lambda: place.inside(name))


@pytest.mark.parametrize("rule", FAULTS)
async def test_a_rule_that_is_switched_off_is_missed(place: Place, rule: str) -> None:
    fault = FAULTS[rule]
    deadline_ms = boot_ms() + fault.lease_ms
    await start(place, "whole", "none", deadline_ms)
    await start(place, "broken", rule, deadline_ms)
    for name in ("whole", "broken"):
        anchor_pid = place.record(name).anchor_pid
        os.kill(anchor_pid if fault.victim == "anchor" else place.guard_pid(name), fault.number)
    struck_ms = boot_ms()
    assert struck_ms < deadline_ms
    due_ms = struck_ms if fault.number == signal.SIGKILL else deadline_ms
    await wait_until(lambda: boot_ms() >= due_ms + KILL_BUDGET_MS)
    assert not place.inside("whole"), fault.complaint
    assert place.inside("broken"), f"nobody says: {fault.complaint}"


def test_every_rule_has_a_fault() -> None:
    assert {"none", *FAULTS} == RULES.keys()
