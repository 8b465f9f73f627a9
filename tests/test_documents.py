"""Every command in a document is run, in the order in which a reader meets it."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.loopback import three_nodes

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
ELSEWHERE = {
    "blixard top": "tests/cluster/test_top.py",
    "make": "it has made the environment in which this test runs",
    "make demo": "tests/cluster/test_demo.py",
    "make test": "it runs this test",
    "nix flake init --template github:OWNER/blixard#cluster": "tests/nix/test_templates.py",
    "nix flake init --template github:OWNER/blixard#vm": "tests/nix/test_templates.py",
    "nixos-rebuild switch --flake .#host-a": "tests/nix/test_templates.py evaluates that host",
    "systemctl status blixard": "tests/hosts/test_node_control.py",
}
"""Commands that are run, but not here."""


def commands(document: Path) -> Iterator[str]:
    """What follows `$ ` in the blocks of a document that show a terminal."""
    for block in BLOCK.findall(document.read_text()):
        for line in block.splitlines():
            assert line.startswith("$ "), f"{document.name}: no command: {line}"
            yield line.removeprefix("$ ")


def script(document: Path) -> str:
    """The commands of a document as one script, which ends at the first that fails."""
    shown = [command for command in commands(document) if command not in ELSEWHERE]
    return "\n".join(["set -eu -o pipefail", *shown])


def test_documents_have_commands() -> None:
    assert sum(len(list(commands(document))) for document in DOCUMENTS) > 15


@pytest.mark.qemu
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.name))
def test_the_commands_of_a_document_run(document: Path, tmp_path: Path) -> None:
    for name in ("vm-templates", "docs", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    with three_nodes(tmp_path / "cluster") as cluster:
        completed = subprocess.run(
            ["bash", "-c", script(document)],
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}",
                "BLIXARD_ADDRESS": cluster.nodes[1].address,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
    assert completed.returncode == 0, completed.stdout + completed.stderr
