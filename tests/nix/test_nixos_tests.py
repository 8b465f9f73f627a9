"""The NixOS tests, as far as they can be looked at without building one: nodes and scripts.

The test driver is not given a script before mypy and pyflakes have passed it. Here mypy does so,
with the driver's own types, and pyflakes as ruff has it; tests/hosts runs the scripts.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hosts.test_nixos_scripts import MACHINES
from nix.conftest import ROOT, Evaluate

TYPES = "nixos/nixos/lib/test-script-prepend.py"
DRIVER = "nixos/nixos/lib/test-driver"


def test_every_test_has_a_module_a_script_and_a_place_on_the_systemd_hosts(
    evaluate: Evaluate,
) -> None:
    tests = {name: len(test["nodes"]) for name, test in evaluate("nixosTests").items()}
    assert tests == MACHINES
    scripts = {path.stem for path in (ROOT / "tests/nixos").glob("*.py")}
    assert scripts == {*MACHINES, "words"}


def test_their_nodes_are_whole_hosts_that_form_one_cluster(evaluate: Evaluate) -> None:
    nodes = evaluate("nodes")
    addresses = {f"node{id_}": f"192.168.1.{id_}" for id_ in (1, 2, 3)}
    assert {name: node["address"] for name, node in nodes.items()} == addresses
    for name, node in nodes.items():
        assert node["complaints"] == []
        assert node["ports"] == [7001]
        told = node["settings"]["node"]
        assert f"node{told['id']}" == name
        assert told["bind"] == f"{addresses[name]}:7001"
        assert told["bootstrap"] == (name == "node1")
        others = {f"{other[-1]}:{at}:7001" for other, at in addresses.items() if other != name}
        assert set(told["peers"]) == others


def test_their_guest_lies_in_the_store_of_every_node(evaluate: Evaluate) -> None:
    guests = {
        line
        for test in evaluate("nixosTests").values()
        for line in test["script"].splitlines()
        if line.startswith("GUEST = ")
    }
    (guest,) = (line.split('"')[1] for line in guests)
    assert guest.endswith("-microvm-qemu-minimal")
    for node in evaluate("nodes").values():
        assert guest in node["paths"]


@pytest.mark.parametrize("name", MACHINES)
def test_script_passes_what_the_driver_asks(
    evaluate: Evaluate, inputs: Path, tmp_path: Path, name: str
) -> None:
    test = evaluate("nixosTests")[name]
    script = tmp_path / "script.py"
    script.write_text(test["script"])
    given = ["retry", "start_all", "subtest", *test["nodes"]]
    flakes = ["--isolated", "--select=F", f"--config=builtins={given}"]
    run("ruff", "check", *flakes, str(script))

    machines = "\n".join(f"{node}: Machine" for node in test["nodes"])
    script.write_text(f"{(inputs / TYPES).read_text()}\n{machines}\n{test['script']}")
    # What the driver itself imports may be missing here.
    quiet = ["--follow-imports=silent", "--ignore-missing-imports"]
    own = ["--config-file=", f"--cache-dir={os.devnull}"]
    run("mypy", "--no-implicit-optional", *quiet, *own, str(script), path=inputs / DRIVER)


def run(tool: str, *arguments: str, path: Path | None = None) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", tool, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={"MYPYPATH": str(path or "")},
        cwd=ROOT / "tests",
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
