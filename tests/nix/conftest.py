"""What the Nix checks share.

Parsing needs only Nix. Evaluation needs `$BLIXARD_NIX_INPUTS`, by default
`~/.cache/blixard/nix-inputs`, a directory with these checkouts (the revisions are those the checks
were written against):

    lib      github.com/nix-community/nixpkgs.lib            de42d44: the functions of nixpkgs
    microvm  github.com/microvm-nix/microvm.nix              71beea0: the VMs' units and runners
    nixos    github.com/RossComputerGuy/nixpkgs-llvm-ws      ac550b7: the modules of NixOS
    pkgs     github.com/nixcon/nixcon-video-infra, nixpkgs/  13b5fc1: a whole package set, of 2020

They stand in for nixpkgs, whose size keeps it off small machines. What is missing between them is
in `nixpkgs/default.nix`. No part of it is ever built.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent

NIX_CONFIG = """
experimental-features = nix-command flakes
build-users-group =
flake-registry =
substituters =
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--render", action="store_true", help="write the golden files anew")


Evaluate = Callable[[str], Any]


def nix(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of Nix's commands."""
    return subprocess.run(
        arguments,
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        env={**os.environ, "NIX_CONFIG": NIX_CONFIG, **environment},
    )


def run(directory: Path, command: str, *arguments: str, inputs: Path | None = None) -> str:
    """Run `nix COMMAND` on the flake in `directory`, offline."""
    environment = {} if inputs is None else {"BLIXARD_NIX_INPUTS": str(inputs)}
    finished = nix(
        *("nix", *command.split(), "--offline"), *arguments, cwd=directory, **environment
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture(scope="session")
def inputs() -> Path:
    """The directory of the checkouts; without them the test is skipped."""
    default = Path.home() / ".cache/blixard/nix-inputs"
    directory = Path(os.environ.get("BLIXARD_NIX_INPUTS", default))
    missing = [
        name for name in ("lib", "microvm", "nixos", "pkgs") if not (directory / name).is_dir()
    ]
    if missing:
        pytest.skip(
            f"{directory} lacks {', '.join(missing)}: tests/nix/conftest.py says what to put"
        )
    return directory


@pytest.fixture(scope="session")
def evaluate_failing(inputs: Path) -> Callable[[str], str]:
    """What Nix says about an attribute of hosts.nix that must not evaluate."""

    def evaluate(attribute: str) -> str:
        finished = _evaluate(inputs, attribute)
        assert finished.returncode != 0, finished.stdout
        return finished.stderr

    return evaluate


@pytest.fixture(scope="session")
def evaluate(inputs: Path) -> Evaluate:
    """The value of an attribute of hosts.nix."""
    known: dict[str, Any] = {}

    def evaluate(attribute: str) -> Any:
        if attribute not in known:
            finished = _evaluate(inputs, attribute)
            assert finished.returncode == 0, finished.stderr
            known[attribute] = json.loads(finished.stdout)
        return known[attribute]

    return evaluate


def _evaluate(inputs: Path, attribute: str) -> subprocess.CompletedProcess[str]:
    return nix(
        *("nix-instantiate", "--eval", "--strict", "--json", "--readonly-mode"),
        *("--arg", "inputs", str(inputs)),
        *("--attr", attribute, str(HERE / "hosts.nix")),
    )


@pytest.fixture(scope="session")
def instead(inputs: Path) -> list[str]:
    """Arguments that put local parts in place of the locked inputs."""
    places = {
        "nixpkgs": HERE / "nixpkgs",
        "microvm": inputs / "microvm",
        "microvm/spectrum": inputs / "microvm/doc",  # only has to exist
    }
    overrides = [
        word
        for name, place in places.items()
        for word in ("--override-input", name, f"path:{place}")
    ]
    return ["--impure", "--no-write-lock-file", *overrides]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the flake is made of, without what lies around in a working tree."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("flake.nix", "flake.lock", "python/pyproject.toml"):
        (copy / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    folders = ("nix", "nixos-modules", "proto", "python/blixard", "templates", "vm-templates")
    for name in (*folders, "tests/nixos"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy
