"""The audited release, and no other."""

import shutil
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
