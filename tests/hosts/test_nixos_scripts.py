"""The scripts of the NixOS tests, on hosts with systemd, Nix and QEMU.

What the NixOS test driver gives to a script by name, it gets here: the machines, `start_all`,
`subtest` and `retry`. Its guest is vm-templates/tiny.
"""

from pathlib import Path

import pytest

from hosts.configuration import configuration
from hosts.conftest import NAMES
from hosts.lab import GUEST, open_lab
from hosts.layers import CACHE, ROOT
from hosts.machine import retry

SCRIPTS = ROOT / "tests/nixos"
TINY = ROOT / "vm-templates/tiny"

MACHINES = {
    "cluster": 4,
    "drain": 3,
    "failover": 3,
    "rolling-restart": 3,
    "single-node": 1,
    "vm-lifecycle": 3,
}


@pytest.mark.xdist_group("hosts")
@pytest.mark.parametrize("name", MACHINES)
def test_script(name: str, layers: list[Path]) -> None:
    assert (GUEST / "vmlinuz").exists(), "the guest's kernel is missing: run `make guest`"
    template = {f"/root/tiny/{file.name}": file.read_text() for file in TINY.iterdir()}
    names = NAMES[: MACHINES[name]]
    files = {
        node: {"/etc/blixard/blixard.toml": configuration(id_, vcpus=4), **template}
        for id_, node in enumerate(names, start=1)
    }
    with open_lab(layers, CACHE / "runs", names, files) as lab:
        given = {
            **{machine.name: machine for machine in lab.machines},
            "GUEST": "/root/tiny#tiny",
            "retry": retry,
            "start_all": lab.start_all,
            "subtest": lab.subtest,
        }
        for file in (SCRIPTS / "words.py", SCRIPTS / f"{name}.py"):
            exec(compile(file.read_text(), file, "exec"), given)
