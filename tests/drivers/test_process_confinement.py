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


LESS = {
    # An ordinary user, who may make user namespaces.
    "user-namespace": ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
    # The same in a user namespace (its own limits, not the machine's) that allows no more of them.
    "chain": [
        *("unshare", "--user", "--map-root-user", "sh", "-c"),
        'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all "$@"',
        "sh",
    ],
}


@pytest.mark.parametrize("confinement", sorted(LESS))
@pytest.mark.parametrize("victim", ["guard", "anchor"])
async def test_the_same_without_privileges(place: Place, confinement: str, victim: str) -> None:
    """The daemon runs with less; everything that it does is seen from here."""
    for path in (place.path, *place.path.parents[:-2]):
        path.chmod(path.stat().st_mode | 0o755)
    place.directory.mkdir()
    os.chown(place.directory, 65534 if confinement == "user-namespace" else 0, -1)
    daemon = start_daemon(place, LESS[confinement], GRANDCHILD)
    await wait_until(lambda: len(alive_with(place.mark)) == 2)
    assert place.record().confinement == confinement
    os.kill(place.guard_pid() if victim == "guard" else place.record().anchor_pid, signal.SIGKILL)
    ended = await asyncio.to_thread(daemon.communicate, timeout=15)
    assert "EXITED" in ended[0]
    assert alive_with(place.mark) == []
