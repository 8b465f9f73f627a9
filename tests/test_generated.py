"""The generated code under blixard/v1 is what `make proto` makes of proto/."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMITTED = ROOT / "python" / "blixard" / "v1"


def test_the_generated_code_is_that_of_the_definitions(tmp_path: Path) -> None:
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    definitions = sorted((ROOT / "proto" / "blixard" / "v1").glob("*.proto"))
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I", ROOT / "proto", *outputs, *definitions],
        check=True,
    )
    generated = {path.name: path.read_text() for path in (tmp_path / "blixard" / "v1").iterdir()}
    committed = {path.name: path.read_text() for path in COMMITTED.glob("*_pb2*.py*")}
    assert generated == committed, "run `make proto` and commit what it makes"
