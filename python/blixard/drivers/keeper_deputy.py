"""The deputy: a process beside the keeper that ends the VMs if the keeper should have, and has not.

A keeper that is stopped or killed just before the deadline is replaced by systemd, which takes
0.6 s, and seconds on a host that has far more to do than CPUs. The deputy runs already. It reads
what the keeper has noted, and changes nothing before the keeper is late.
"""

import select

from blixard.drivers.keeper_files import MS, KeeperFiles, log, now_ns
from blixard.drivers.keeper_server import BoottimeTimer, Notifier
from blixard.drivers.keeper_slice import Slice

GRACE_NS = 150 * MS
"""So late is no keeper that runs: it ends the slice within 0.13 s of the deadline."""
AGAIN_NS = 75 * MS
LONGEST_NS = 3_000 * MS
"""How often systemd is told that the deputy lives, at least."""


class Deputy:
    """Looks after the keeper of `files`, and ends `vms` in its place."""

    def __init__(self, files: KeeperFiles, vms: Slice) -> None:
        self._files = files
        self._vms = vms
        self._seen: set[int] = set()
        """The processes that were there, without a lease, when it looked last."""

    def serve(self) -> None:
        """Look on and on. Does not return."""
        timer = BoottimeTimer()
        poll = select.poll()
        poll.register(timer.file, select.POLLIN)
        notifier = Notifier()
        notifier.say("READY=1")
        while True:
            timer.set(now_ns() + min(self.look(), LONGEST_NS))
            poll.poll()
            notifier.say("WATCHDOG=1")

    def look(self) -> int:
        """Do what the keeper has left undone. Return in how many ns to look again."""
        deadline_ns = self._files.deadline_ns()
        left_ns = deadline_ns + GRACE_NS - now_ns()
        if left_ns > 0:
            self._seen.clear()
            return left_ns
        if deadline_ns:
            log(f"the keeper is {(GRACE_NS - left_ns) // MS} ms late: the deputy fences")
            self._files.end_lease()
        kept = self._files.kept()
        pids = self._vms.pids(kept)
        # A new lease begins only when nothing of the old one is left. So what was there before, and
        # is there still, is of no lease, though one may begin this very moment.
        if deadline_ns or self._seen & pids:
            self._vms.kill(kept)
        self._seen = pids
        return AGAIN_NS
