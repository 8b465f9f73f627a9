"""The demo, as its spectator sees it."""

import subprocess
from pathlib import Path

import pytest

from cluster.loopback import BLIXARD


@pytest.mark.qemu
def test_the_demo_tells_its_story_and_leaves_nothing(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # A short name: sockets are below it.
    folder = tmp_path_factory.mktemp("demo")
    completed = subprocess.run(
        [*BLIXARD, "demo"],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    story = completed.stdout
    assert completed.returncode == 0, story + completed.stderr
    for told in (
        "3 of 3 nodes up",
        "hello is running on node-",
        "hello: a tiny guest of Blixard",
        "finds what it left",
        "Power failure: all of node-",
        "took hello over",
        "hello: powers off",
        "Nothing was left behind.",
    ):
        assert told in story
    assert list(folder.iterdir()) == []
    assert str(folder) not in _command_lines()


def _command_lines() -> str:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(lines)
