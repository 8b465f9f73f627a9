"""The guard's death is the VM's death: in each of the ways in which it is brought about."""

import asyncio
import os
import signal

import pytest

from blixard.ports import UnitState
from drivers.place import FOREVER, Place, start_daemon, started
from drivers.processes import alive_with, wait_until

GRANDCHILD = "(setsid sh -c 'setsid tail -f {mark} >/dev/null 2>&1 & ' & ) ; " + FOREVER


async def test_a_killed_guard_takes_every_process_along(place: Place) -> None:
    units = await started(place, GRANDCHILD)
    await wait_until(lambda: len(alive_with(place.mark)) == 2)
    assert place.record().confinement == "pid-namespace"
    os.kill(place.guard_pid(), signal.SIGKILL)
    seen = await place.reaches(units, UnitState.EXITED)
    assert alive_with(place.mark) == [], "exited means that nothing is left"
    assert seen.detail == "its guard was killed\nup"
    await units.close()


async def test_a_killed_anchor_ends_the_vm(place: Place) -> None:
    units = await started(place, GRANDCHILD)
    os.kill(place.record().anchor_pid, signal.SIGKILL)
    seen = await place.reaches(units, UnitState.EXITED)
    assert seen.detail == "killed by signal 9 (SIGKILL)\nup"
    assert alive_with(place.mark) == []
    await units.close()


@pytest.mark.parametrize("confinement", ["chain", "user-namespace"])
@pytest.mark.parametrize("victim", ["guard", "anchor", "guard of a stopped anchor"])
async def test_the_same_without_privileges(place: Place, confinement: str, victim: str) -> None:
    """The daemon runs with less; everything that it does is seen from here."""
    daemon = start_daemon(place, place.less(confinement), GRANDCHILD)
    await wait_until(lambda: len(alive_with(place.mark)) == 2)
    assert place.record().confinement == confinement
    anchor_pid = place.record().anchor_pid
    if victim == "guard of a stopped anchor":
        os.kill(anchor_pid, signal.SIGSTOP)
    os.kill(anchor_pid if victim == "anchor" else place.guard_pid(), signal.SIGKILL)
    ended = await asyncio.to_thread(daemon.communicate, timeout=15)
    assert "EXITED" in ended[0]
    assert alive_with(place.mark) == []
