"""The options of `services.blixard`: documented, and listed in docs/options.md."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from nix.conftest import ROOT, Evaluate, nix


def test_a_host_is_evaluated_in_a_moment(inputs: Path) -> None:
    """The whole of NixOS with the module: under 5 s on an idle machine, which CI's is not."""
    began_s = time.monotonic()
    finished = nix(
        *("nix-instantiate", "--eval", "--strict", "--json", "--readonly-mode"),
        *("--arg", "inputs", str(inputs), "--attr", "golden.minimal.units"),
        str(ROOT / "tests/nix/hosts.nix"),
    )
    took_s = time.monotonic() - began_s
    print(f"evaluated in {took_s:.1f} s")
    assert finished.returncode == 0, finished.stderr
    assert took_s < 15


def test_every_option_is_documented(evaluate: Evaluate) -> None:
    options: dict[str, Any] = {
        option["name"].removeprefix("services.blixard."): option for option in evaluate("options")
    }
    assert len(options) >= 10
    for name, option in options.items():
        assert option["description"].strip(), name
        assert option["type"] != "unspecified value", name
        # The package has an example in nixpkgs itself: its default.
        assert option["example"] or name == "package", name
        # Nobody but the operator knows the node's id, and what a VM is.
        assert (option["default"] is not None) == (name not in ("nodeId", "vms.<name>.source")), (
            name
        )


def test_the_reference_of_options_is_this(
    evaluate: Evaluate, request: pytest.FixtureRequest
) -> None:
    """If a change is meant: `pytest tests/nix --render` writes it anew."""
    page = ROOT / "docs/options.md"
    text = reference(evaluate("options"))
    if request.config.getoption("--render", default=False):
        page.write_text(text)
    assert text == page.read_text()


def reference(options: list[dict[str, Any]]) -> str:
    """The page of all options."""
    parts = ["# Options of `services.blixard`\n\nWritten from the module, for NixOS."]
    for option in options:
        lines = [f"## `{option['name']}`", "", prose(option["description"]), ""]
        lines += [f"- Type: {option['type']}"]
        for what in ("default", "example"):
            if option[what] is not None:
                shown = option[what].strip()
                block = f"\n  ```nix\n  {shown.replace(chr(10), chr(10) + '  ')}\n  ```"
                lines.append(f"- {what.title()}:" + (block if "\n" in shown else f" `{shown}`"))
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def prose(description: str) -> str:
    """A description without the roles that only the manual of NixOS knows."""
    return re.sub(r"\{(option|file|command)\}`", "`", description.strip())
