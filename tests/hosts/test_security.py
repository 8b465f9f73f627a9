"""How exposed the services of a host are, by systemd's own measure."""

import json
from typing import Any

import pytest

from hosts.conftest import OpenLab
from hosts.machine import Machine
from nix.golden import units

# systemd-analyze(1): from 0, nothing is granted, to 10.
LIMITS = {
    "blixard.service": 3.0,
    "blixard-declare.service": 3.0,
    "blixard-keeper.service": 3.0,
    "blixard-keeper-deputy.service": 3.0,
}


@pytest.fixture(scope="module")
def host(new_lab: OpenLab) -> Machine:
    lab = new_lab({})
    lab.machines[0].start()
    return lab.machines[0]


@pytest.mark.parametrize("unit", LIMITS)
def test_a_service_is_granted_little(host: Machine, unit: str) -> None:
    analyze = f"systemd-analyze security --json=short --no-pager {unit}"
    answer: list[dict[str, Any]] = json.loads(host.succeed(analyze))
    granted = {row["json_field"]: row["exposure"] for row in answer if row["exposure"]}
    _, said = host.execute(f"systemd-analyze security --no-pager {unit} | tail -n 1")
    score = float(said.split("for")[1].split(":")[1].split()[0])
    print(f"{unit}: {score}; {granted}")
    assert score <= LIMITS[unit], granted


def test_systemd_finds_no_fault_with_the_units(host: Machine) -> None:
    names = sorted(name for name in units("three-node") if not name.endswith("@.service"))
    instances = [name.replace("@.", "@web.") for name in units("three-node") if "@." in name]
    _, output = host.execute(f"systemd-analyze verify {' '.join([*names, *instances])} 2>&1")
    # There is no VM, so its programs are missing.
    assert [line for line in output.splitlines() if "/var/lib/microvms/web/" not in line] == []
