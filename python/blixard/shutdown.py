"""The end of a host: its VMs go on elsewhere before its daemon ends.

systemd stops the units of the VMs and the daemon at the same time. The daemon goes on until they
have stopped, and tells the cluster so: each of them starts elsewhere at once, instead of when the
lease of this host is over, and none is ended by the fence for taking its time.
"""

import asyncio
import contextlib
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
ASK_EVERY_S: Final = 0.02
"""How often a leader that stops asks another member to lead."""
HAND_OVER_S: Final = 1.0
"""How long a leader that stops may wait for its successor."""


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


async def hand_over(log: Log) -> None:
    """Return once another member leads, at once if this one does not or has no majority."""
    status = log.status()
    heard_ms = [age_ms for age_ms in status.heard_ms.values() if age_ms < HAND_OVER_S * 1_000]
    if not status.is_leader or not heard_ms or 2 * (len(heard_ms) + 1) <= len(status.members):
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HAND_OVER_S):
            while log.status().leader_id in (status.node_id, None):
                # A successor needs the whole log, and the request can be lost.
                log.transfer_leadership()
                await asyncio.sleep(ASK_EVERY_S)
