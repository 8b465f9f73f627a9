"""Cut off at any moment, a node loses nothing that it acknowledged: 100 times by SIGKILL, 100 times
by a file system that forgets what was not synced. See `cuts.py`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from random import SystemRandom
from typing import Any

import pytest

from raft.cuts import IMAGE, NO_MOUNTS

CUTS = 100
DEADLINE_S = 300
SEED = int(os.environ.get("BLIXARD_SEED") or SystemRandom().randrange(1_000_000))

# The mounts of a process in a namespace of its own are gone when it is, and the loop devices too.
NAMESPACE = ("unshare", "--mount", "--propagation", "private")

can_mount = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "mount", "umount", "mkfs.ext4"))),
    reason="needs root, and mount, umount, unshare and mkfs.ext4",
)


def cut(directory: Path, kind: str, sabotage: str = "") -> dict[str, Any]:
    """The report of `cuts.py`. Its seed is printed; `BLIXARD_SEED` sets it."""
    print(f"seed {SEED}")
    script = Path(__file__).with_name("cuts.py")
    arguments = [sys.executable, str(script), kind, str(directory), str(SEED), str(CUTS), sabotage]
    try:
        ran = subprocess.run(
            [*(NAMESPACE if kind == "power" else ()), *arguments],
            env={**os.environ, "PYTHONPATH": str(script.parents[1])},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    finally:
        (directory / IMAGE).unlink(missing_ok=True)
    if ran.returncode == NO_MOUNTS:
        pytest.skip(f"no image can be mounted here: {ran.stdout}")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    print(ran.stdout)
    report: dict[str, Any] = json.loads(ran.stdout)
    return report


def test_a_hundred_kills_lose_nothing_acknowledged(tmp_path: Path) -> None:
    kept = cut(tmp_path, "kill")
    assert kept["fault"] is None
    assert kept["cuts"] == CUTS
    assert kept["told"] > CUTS
    assert kept["in_snapshot"] > 0
    assert kept["in_opening"] > 0


def test_a_kill_finds_out_who_acknowledges_before_writing(tmp_path: Path) -> None:
    assert cut(tmp_path, "kill", "hasty")["fault"]


@can_mount
def test_a_hundred_power_cuts_lose_nothing_acknowledged(tmp_path: Path) -> None:
    kept = cut(tmp_path, "power")
    assert kept["fault"] is None
    assert kept["cuts"] == CUTS
    assert kept["told"] > CUTS
    assert kept["in_snapshot"] > 0
    assert kept["in_opening"] > 0


@can_mount
@pytest.mark.parametrize(
    ("unsynced", "fault"),
    [
        ("wal", "below its high-water mark"),
        ("mark", "its high-water mark is that of another journal"),
        ("wal+mark", "lost"),
    ],
)
def test_a_power_cut_finds_out_who_does_not_sync(tmp_path: Path, unsynced: str, fault: str) -> None:
    """With neither synced, the journal alone cannot know: only the list of what was told does."""
    assert fault in cut(tmp_path, "power", unsynced)["fault"]
