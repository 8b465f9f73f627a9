"""The watchdog that a node in mode `guaranteed` cannot do without."""

import asyncio
import time
from typing import Final

from blixard.errors import BlixardError, Code
from blixard.ports import Units

PATIENCE_S: Final = 3.0
"""How long the keeper may take to say that it has a watchdog."""
_NAME_A_DEVICE: Final = (
    "look at systemctl status blixard-keeper, and name a device, on NixOS with "
    'services.blixard.watchdog.device = "/dev/watchdog0" (modprobe softdog makes one of software, '
    "which dies with the kernel)"
)
_WHY_NONE: Final = {
    False: ("the process driver has no watchdog", 'set driver = "systemd" under [node]'),
    True: ("the keeper of this host has no watchdog", _NAME_A_DEVICE),
}
"""Why there is none, and what to do, by whether systemd runs the VMs."""
_ASK_EVERY_S: Final = 0.02


async def required(units: Units, by_systemd: bool) -> None:
    """Return once there is a watchdog. Raises `BlixardError` if none comes."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not units.guaranteed:
        if time.monotonic() > deadline_s:
            why, remedy = _WHY_NONE[by_systemd]
            raise BlixardError(
                f"mode guaranteed is asked for, but {why}",
                remedy=f'{remedy}; or set mode = "auto" under [watchdog]',
                code=Code.NO_WATCHDOG,
            )
        await asyncio.sleep(_ASK_EVERY_S)
