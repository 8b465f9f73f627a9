"""The audited release, and no other."""

import shutil
import subprocess
import sys
from pathlib import Path

import pysyncobj
import pytest
from pysyncobj import syncobj

from blixard.errors import BlixardError
from blixard.raft import library


def test_another_release_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "pysyncobj"
    shutil.copytree(Path(pysyncobj.__file__).parent, copy)
    library.verify(copy)
    for name in sorted(library.AUDITED):
        source = (copy / name).read_bytes()
        (copy / name).write_bytes(source + b"#")
        with pytest.raises(BlixardError, match=name):
            library.verify(copy)
        (copy / name).write_bytes(source)


def test_the_library_cannot_reach_pickle() -> None:
    assert syncobj.pickle is None


def test_it_does_not_run_without_assertions() -> None:
    """They are the last line of the safety layer."""
    ended = subprocess.run(
        [sys.executable, "-O", "-c", "import blixard.raft.library"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "Python runs without assertions" in ended.stderr
