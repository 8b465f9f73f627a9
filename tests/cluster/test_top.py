"""The installed `blixard top` in real terminals, before a real cluster that loses nodes."""

import re
import signal
import sys
import time
from pathlib import Path

from cluster.loopback import LoopbackCluster, wait_until
from cluster.screen import Terminal

BLIXARD = str(Path(sys.executable).with_name("blixard"))
RESTORED = b"\x1b[?1049l\x1b[?25h"
"""The screen from before, with its cursor."""
SOFT_LIMIT_S = 5.0
"""The goal is one second; a busy machine may take longer."""


def top(cluster: LoopbackCluster, term: str) -> Terminal:
    """The view at one node's address only: it must find the others by itself."""
    address = cluster.nodes[cluster.leader_id()].address
    return Terminal([BLIXARD, "top", "--interval", "500ms", "--address", address], term)


def row(seen: str, name: str) -> list[str]:
    """The cells of a row."""
    lines = [line for line in seen.splitlines() if line.startswith(f"{name} ")]
    return lines[0].split() if lines else []


def test_a_cluster_is_watched_through_its_losses(cluster: LoopbackCluster, counting: str) -> None:
    cluster.cli("vm", "create", "web", "--config", counting, "--wait")
    leader = cluster.leader_id()
    with top(cluster, "xterm") as xterm, top(cluster, "screen") as screen:
        both = (xterm, screen)
        for terminal in both:
            terminal.until(lambda seen: "healthy  3 of 3 nodes up" in seen, "all is well")
            seen = terminal.until(lambda seen: row(seen, "web")[1:2] == ["running"], "web runs")
            assert row(seen, f"node-{leader}")[1:3] == ["up", "leader"]
            assert "q quit" in seen.split("\n")[23]
        assert "web" in xterm.until(lambda seen: "EVENTS\nnone" not in seen, "events")

        cluster.lose(leader)
        for terminal in both:
            terminal.until(lambda seen: row(seen, f"node-{leader}")[1:2] == ["silent"], "silence")
        for terminal in both:
            terminal.until(lambda seen: row(seen, f"node-{leader}")[1:2] == ["down"], "its end")
            terminal.until(lambda seen: f"{leader} is" in seen.split("EVENTS")[1], "the event")

        second = cluster.leader_id()
        cluster.kill(second)
        for terminal in both:
            seen = terminal.until(lambda seen: "last picture " in seen.split("\n")[0], "age")
            assert "of 3 nodes up" not in seen.split("\n")[0]
            terminal.until(lambda seen: "no leader: 1 of 3 nodes answers" in seen, "why")
        old = [xterm.screen.buffer[3][x] for x in range(8)]
        assert "".join(one.data for one in old).startswith("NODES")

        cluster.start(leader, second)
        for terminal in both:
            terminal.until(lambda seen: "healthy  3 of 3 nodes up" in seen, "all is well", 60)
        for terminal in both:
            assert not re.search(rb"\x1b\[[0-9;]*[34]8;[25]", terminal.written), (
                "more than 16 colors"
            )
            terminal.press("q")
            assert terminal.end() == 0


def test_size_keys_and_how_it_ends(cluster: LoopbackCluster, counting: str) -> None:
    cluster.cli("vm", "create", "web", "--config", counting, "--wait")
    with top(cluster, "xterm-256color") as terminal:
        terminal.until(lambda seen: "leader node-" in seen, "a picture")
        assert terminal.current_modes() != terminal.modes
        terminal.resize(120, 30)
        seen = terminal.until(lambda seen: "q quit" in seen.split("\n")[29], "the keys below")
        assert re.search(r"█░{9} 1/8", seen)
        terminal.resize(60, 12)
        terminal.until(lambda seen: "/ filter" in seen.split("\n")[11], "the keys below")
        terminal.resize(80, 24)
        terminal.press("w")
        terminal.until(lambda seen: "why web" in seen and "node-3" in seen, "why")
        terminal.press("\x1b")
        terminal.until(lambda seen: "NODES" in seen, "the tables")
        terminal.press("/zzz\r")
        terminal.until(lambda seen: "none matches the filter" in seen, "a filter")
        terminal.press("q")
        assert terminal.end() == 0
        wait_until(lambda: RESTORED in terminal.written, "the screen from before")
        assert terminal.current_modes() == terminal.modes

    with top(cluster, "xterm") as terminal:
        terminal.until(lambda seen: "leader node-" in seen, "a picture")
        assert terminal.end(signal.SIGTERM) == 0
        wait_until(lambda: RESTORED in terminal.written, "the screen from before")
        assert terminal.current_modes() == terminal.modes


def test_the_first_picture_is_there_in_a_second(cluster: LoopbackCluster) -> None:
    took_ms = []
    for _ in range(5):
        with top(cluster, "xterm") as terminal:
            terminal.until(lambda seen: "leader node-" in seen, "a picture")
            took_ms.append(round((time.monotonic() - terminal.began_s) * 1000))
    print(f"start to first picture: {sorted(took_ms)} ms")
    assert min(took_ms) < SOFT_LIMIT_S * 1000
