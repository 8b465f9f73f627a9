"""The flakes: they parse, their locks are whole, and they evaluate to what they promise."""

import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from nix.conftest import ROOT, Evaluate, nix, run

TEMPLATES = ("minimal", "stateful", "web")
NIXOS_TESTS = {path.stem for path in (ROOT / "tests/nixos").glob("*.py")} - {"words"}
LOCKED = [
    ROOT,
    *(ROOT / "vm-templates" / name for name in TEMPLATES),
    ROOT / "python/blixard/drivers/wrapper",
]
SOURCES = [
    source
    for place in (
        *("flake.nix", "nix", "nixos-modules", "python/blixard"),
        *("templates", "tests", "vm-templates"),
    )
    for source in [ROOT / place, *sorted((ROOT / place).rglob("*.nix"))]
    if source.suffix == ".nix"
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_parses(source: Path) -> None:
    finished = nix("nix-instantiate", "--parse", str(source))
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("directory", LOCKED, ids=lambda path: path.name)
def test_lock_is_whole(directory: Path, tmp_path: Path) -> None:
    """Nothing is left to resolve, so no two hosts can resolve it differently."""
    for name in ("flake.nix", "flake.lock"):
        shutil.copy(directory / name, tmp_path)
    metadata = json.loads(run(tmp_path, "flake metadata", "--json", "--no-update-lock-file"))
    nodes = metadata["locks"]["nodes"]
    assert {"nixpkgs", "microvm"} <= nodes["root"]["inputs"].keys()
    assert all("narHash" in node["locked"] for name, node in nodes.items() if name != "root")


def test_flakes_lock_the_same_inputs() -> None:
    """A guest is evaluated with the NixOS that its host was tested with."""
    assert len({(directory / "flake.lock").read_text() for directory in LOCKED}) == 1


def test_microvm_nix_is_the_locked_one(inputs: Path) -> None:
    finished = nix("nix", "hash", "path", str(inputs / "microvm"))
    lock = json.loads((ROOT / "flake.lock").read_text())
    assert finished.stdout.strip() == lock["nodes"]["microvm"]["locked"]["narHash"]


def test_wrapper_travels_with_the_package() -> None:
    project = tomllib.loads((ROOT / "python/pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["blixard"]
    package = ROOT / "python/blixard"
    shipped = {path for pattern in patterns for path in package.glob(pattern)}
    assert shipped >= {package / f"drivers/wrapper/flake.{suffix}" for suffix in ("nix", "lock")}
    assert package / "drivers/wrapper/mk-vm.nix" in shipped


def test_flake_is_sound(checkout: Path, inputs: Path, instead: list[str]) -> None:
    run(checkout, "flake check", "--no-build", *instead, inputs=inputs)


def test_flake_offers_what_it_promises(checkout: Path, inputs: Path, instead: list[str]) -> None:
    shown: dict[str, Any] = json.loads(
        run(checkout, "flake show", "--json", *instead, inputs=inputs)
    )
    for system in ("aarch64-linux", "x86_64-linux"):
        assert shown["packages"][system].keys() == {"blixard", "default"}
        assert shown["apps"][system].keys() == {"default", "demo"}
        assert shown["checks"][system].keys() == {
            *("core", "formatting", "generated", "package", "unit"),
            *NIXOS_TESTS,
        }
        assert shown["devShells"][system].keys() == {"default"}
        assert system in shown["formatter"]
    assert shown["nixosModules"].keys() == {"blixard", "default"}
    assert shown["overlays"].keys() == {"default"}
    assert shown["templates"].keys() == {"cluster", "vm", *TEMPLATES}


@pytest.mark.parametrize("system", ["aarch64-linux", "x86_64-linux"])
def test_apps_are_programs(checkout: Path, inputs: Path, instead: list[str], system: str) -> None:
    programs = "builtins.mapAttrs (_: app: app.program)"
    arguments = ["--json", f"path:.#apps.{system}", "--apply", programs, *instead]
    apps = json.loads(run(checkout, "eval", *arguments, inputs=inputs))
    assert re.fullmatch(r"/nix/store/\w+-blixard-0\.1\.0/bin/blixard", apps["default"])
    # Evaluated with it: the runner of the guest that it shows.
    assert re.fullmatch(r"/nix/store/\w+-blixard-demo/bin/blixard-demo", apps["demo"])


def test_package_has_the_dependencies_of_the_project(evaluate: Evaluate) -> None:
    project = tomllib.loads((ROOT / "python/pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["systemd"]
    names = {re.split("[<>=]", requirement)[0].lower() for requirement in wanted}
    # Old packages of the stand-in carry their interpreter in front of the name.
    packaged = evaluate("package")["dependencies"]
    assert {re.sub(r"^python3\.\d+-", "", name).lower() for name in packaged} == names


def test_package_is_of_this_release_with_the_audited_pysyncobj(evaluate: Evaluate) -> None:
    package = evaluate("package")
    source = (ROOT / "python/blixard/__init__.py").read_text()
    assert f'__version__ = "{package["version"]}"' in source
    assert package["mainProgram"] == "blixard"
    assert package["pysyncobj"] == {
        "version": "0.3.17",
        "hash": "sha256-iq72gUFxTVVhc3eKUbzE4iG2/UyXHcEkDzq0wNLf52U=",
    }


def test_minimal_template_is_a_runner(tmp_path: Path, inputs: Path, instead: list[str]) -> None:
    shutil.copytree(ROOT / "vm-templates/minimal", tmp_path, dirs_exist_ok=True)
    runner = _runner(tmp_path, "minimal", inputs, instead)
    assert runner["drvPath"].endswith("-microvm-qemu-minimal.drv")
    assert runner["canShutdown"] is True
    assert runner["storeOnDisk"] is False
    assert runner["volumes"] == []


def test_web_template_has_its_port(tmp_path: Path, inputs: Path, instead: list[str]) -> None:
    shutil.copytree(ROOT / "vm-templates/web", tmp_path, dirs_exist_ok=True)
    runner = _runner(tmp_path, "web", inputs, instead)
    assert runner["drvPath"].endswith("-microvm-qemu-web.drv")
    assert [port["guest"]["port"] for port in runner["forwardPorts"]] == [80]


def test_stateful_template_has_its_volume(tmp_path: Path, inputs: Path, instead: list[str]) -> None:
    shutil.copytree(ROOT / "vm-templates/stateful", tmp_path, dirs_exist_ok=True)
    runner = _runner(tmp_path, "stateful", inputs, instead)
    assert runner["drvPath"].endswith("-microvm-qemu-stateful.drv")
    assert [volume["image"] for volume in runner["volumes"]] == ["state.img"]


def test_lone_module_becomes_a_runner(tmp_path: Path, inputs: Path, instead: list[str]) -> None:
    shutil.copytree(ROOT / "python/blixard/drivers/wrapper", tmp_path, dirs_exist_ok=True)
    module = '{ microvm.mem = 300; networking.hostName = "web"; }'
    (tmp_path / "microvm.nix").write_text(module)
    runner = _runner(tmp_path, "vm", inputs, instead)
    assert runner["drvPath"].endswith("-microvm-qemu-web.drv")
    assert runner["mem"] == 300


def test_lone_module_may_be_empty(tmp_path: Path, inputs: Path, instead: list[str]) -> None:
    shutil.copytree(ROOT / "python/blixard/drivers/wrapper", tmp_path, dirs_exist_ok=True)
    (tmp_path / "microvm.nix").write_text("{ }")
    runner = _runner(tmp_path, "vm", inputs, instead)
    assert runner["drvPath"].endswith("-microvm-qemu-vm.drv")
    assert runner["canShutdown"] is True


def test_lone_module_with_a_mistake_is_named(
    tmp_path: Path, inputs: Path, instead: list[str]
) -> None:
    shutil.copytree(ROOT / "python/blixard/drivers/wrapper", tmp_path, dirs_exist_ok=True)
    (tmp_path / "microvm.nix").write_text('{ microvm.mem = "much"; }')
    with pytest.raises(AssertionError, match=r"`microvm\.mem' is not of type `positive integer"):
        _runner(tmp_path, "vm", inputs, instead)


def _runner(directory: Path, name: str, inputs: Path, instead: list[str]) -> dict[str, Any]:
    """What the driver would build, evaluated, with some of its configuration."""
    facts = (
        "m: { inherit (m) forwardPorts mem storeOnDisk volumes;"
        " inherit (m.declaredRunner) canShutdown drvPath; }"
    )
    installable = f'path:.#nixosConfigurations."{name}".config.microvm'
    arguments = ["--json", installable, "--apply", facts, *instead]
    runner: dict[str, Any] = json.loads(run(directory, "eval", *arguments, inputs=inputs))
    return runner
