"""`nix flake init -t`: what a user begins with, evaluated as it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from nix.conftest import run

HOSTS = ("host-a", "host-b", "host-c")


WITHOUT_DISKS = ("fileSystems", "boot.loader.grub.devices")


def begun(folder: Path, template: str, checkout: Path, instead: list[str]) -> list[str]:
    """Begin with a template, and return the arguments with which its flake evaluates here."""
    run(folder, "flake init", "--template", f"path:{checkout}#{template}")
    theirs = [word if word != "nixpkgs" else "blixard/nixpkgs" for word in instead]
    theirs = [f"blixard/{word}" if word.startswith("microvm") else word for word in theirs]
    return [*theirs, "--override-input", "blixard", f"path:{checkout}"]


def test_a_vm_begins_with_a_runner(
    tmp_path: Path, checkout: Path, inputs: Path, instead: list[str]
) -> None:
    arguments = begun(tmp_path, "vm", checkout, instead)
    runner = "path:.#nixosConfigurations.web.config.microvm.declaredRunner.drvPath"
    answer = json.loads(run(tmp_path, "eval", "--json", runner, *arguments, inputs=inputs))
    assert answer.endswith("-microvm-qemu-web.drv")


@pytest.mark.parametrize("name", ["minimal", "stateful", "web"])
def test_a_guest_begins_as_in_vm_templates(tmp_path: Path, checkout: Path, name: str) -> None:
    run(tmp_path, "flake init", "--template", f"path:{checkout}#{name}")
    ours = checkout / "vm-templates" / name
    for file in ours.iterdir():
        assert (tmp_path / file.name).read_text() == file.read_text()


def test_a_cluster_begins_with_three_nodes_and_a_vm(
    tmp_path: Path, checkout: Path, inputs: Path, instead: list[str]
) -> None:
    """The disks and the boot loader of the hosts are the user's: NixOS alone misses them."""
    arguments = begun(tmp_path, "cluster", checkout, instead)
    facts = """hosts: builtins.mapAttrs (_: host: {
      inherit (host.config.services.blixard) declared settings;
      missed = map (each: each.message) (
        builtins.filter (each: !each.assertion) host.config.assertions);
    }) (removeAttrs hosts [ "web" ])"""
    hosts: dict[str, Any] = json.loads(
        run(
            tmp_path,
            "eval",
            *("--json", "path:.#nixosConfigurations", "--apply", facts),
            *arguments,
            inputs=inputs,
        )
    )
    assert tuple(hosts) == HOSTS
    for number, host in enumerate(hosts.values(), start=1):
        node = host["settings"]["node"]
        assert node["id"] == number
        assert node["bootstrap"] is (number == 1)
        assert node["peers"] == [f"{n}:10.0.0.{n}:7001" for n in (1, 2, 3) if n != number]
        assert host["declared"] == hosts["host-a"]["declared"]
        assert host["declared"]["web"]["source"].endswith("-microvm-qemu-web")
        assert [words for words in WITHOUT_DISKS if words in "".join(host["missed"])] == [
            *WITHOUT_DISKS
        ]
        assert len(host["missed"]) == len(WITHOUT_DISKS)
