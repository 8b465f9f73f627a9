"""The end of a host: its VMs go on elsewhere before its daemon ends.

systemd stops the units of the VMs and the daemon at the same time. The daemon goes on until they
have stopped, and tells the cluster so: each of them starts elsewhere at once, instead of when the
lease of this host is over, and none is ended by the fence for taking its time.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from blixard.commands import DrainNode
from blixard.model import Accepted, Outcome
from blixard.notify import ServiceNotifier
from blixard.ports import Log, Unavailable, Units, UnitState

LOOK_EVERY_S: Final = 0.1
EXTENSION_S: Final = 10.0
"""How much more time is asked of systemd, again and again, while VMs stop."""
TELLING_S: Final = 5.0
"""How long the cluster may take to hear of it once nothing is left: it may have no majority."""
LONGEST_S: Final = 180.0
"""More than the 150 s that microvm.nix grants a VM to stop (nixos-modules/host/default.nix)."""


async def let_go(
    node_id: int,
    log: Log,
    units: Units,
    notifier: ServiceNotifier,
    held: Callable[[], list[str]],
) -> None:
    """Return once nothing runs here and the cluster knows it, or that cannot be waited for."""
    drain = DrainNode(node_id, f"the shutdown of node-{node_id}", until_restart=True)
    began_s = empty_s = time.monotonic()
    told = asyncio.Event()

    def done(outcome: Outcome | Unavailable) -> None:
        if isinstance(outcome, Accepted):
            told.set()

    asked_s = 0.0
    while (now_s := time.monotonic()) < began_s + LONGEST_S:
        if not told.is_set() and now_s - asked_s >= 1:
            asked_s = now_s
            log.submit(drain, done)
        living = [
            unit for unit in (units.seen() or {}).values() if unit.state is not UnitState.EXITED
        ]
        if living:
            empty_s = now_s
        elif not held() or now_s > empty_s + TELLING_S:
            return
        notifier.extend(EXTENSION_S)
        notifier.status(f"the host shuts down; VMs that stop: {len(living)}")
        await asyncio.sleep(LOOK_EVERY_S)
