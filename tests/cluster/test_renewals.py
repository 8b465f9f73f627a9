"""Renewals come in time whatever hangs beside them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster import hung
from drivers.processes import stop_leftovers

NAMESPACES = ("unshare", "--user", "--map-root-user", "--mount", "--net")
HANGS_S = 15
EVERY_MS = 1_000
LATE_MS = 200
STOPPED_S = 4
"""With its start, a daemon that is restarted may be away for half a lease."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All daemons at the same time."""
    directory = tmp_path_factory.mktemp("hung")
    ran = subprocess.run(
        [*NAMESPACES, sys.executable, "-m", hung.__name__, str(directory), str(HANGS_S)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    stop_leftovers(str(directory))
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("daemon", ["nix-1", "bus-1", "names-1", "names-2"])
def test_what_hangs_delays_no_renewal(measured: Any, daemon: str) -> None:
    """Nix, which is to build a VM and to lock a reference; D-Bus, on which the daemon waits for
    systemd; the look-up of a member's name, and of one that is to join, by a leader on whom the
    renewals of a follower depend as well."""
    pauses_ms = measured["pauses_ms"][daemon]
    assert max(pauses_ms) <= EVERY_MS + LATE_MS, pauses_ms


def test_names_are_looked_up_meanwhile(measured: Any) -> None:
    assert measured["names"] == [hung.NAMED, hung.NEVER]


def test_a_daemon_whose_bus_hangs_stops_before_its_lease_ends(measured: Any) -> None:
    assert measured["stopped_s"] < STOPPED_S


def test_a_renewal_that_is_seen_late_makes_no_longer_pause() -> None:
    """Where the first answer comes after the first renewal, and where it comes before."""
    assert hung.between_ms(10.0, [10.4, 11.4, 12.4], 13.0) == [400, 1000, 1000, 600]
    assert hung.between_ms(10.0, [9.7, 10.7, 11.7], 12.0) == [0, 1000, 1000, 300]


def test_a_renewal_that_never_comes_is_a_pause_until_the_end() -> None:
    assert hung.between_ms(10.0, [], 13.0) == [3000]
    assert hung.between_ms(10.0, [9.5], 13.0) == [0, 3500]
