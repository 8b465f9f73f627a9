"""The arithmetic of leases: how long a host may run its VMs, and when it is surely down.

A host counts from the moment it *sent* a renewal, the leader from the moment it *applied* it, so
the host always stops first. Both clocks may be wrong by `DRIFT_PER_MILLE`; see `docs/leases.md`.
"""

from dataclasses import dataclass
from typing import Final

from blixard.model import LEASE_MS

DRIFT_PER_MILLE: Final = 5
"""How much faster or slower than true time a clock may run: ten times what adjtimex(2) allows."""

MARGIN_MS: Final = 200
"""Covers what timers round."""

LONGEST_ELECTION_MS: Final = 4_000
"""A healthy cluster has a leader again within this."""


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """What one host keeps to. `lease_ms` travels with its registration, so the leader knows it."""

    lease_ms: int = LEASE_MS
    """From the sending of an accepted renewal to the moment when nothing may run any more."""
    renew_ms: int = 1_000
    """Between two renewals."""
    kill_ms: int = 1_000
    """How long the fence may take to end every VM. Measured; see `docs/leases.md`."""
    watchdog_ms: int = 6_000
    """After the last pet, a watchdog resets the host."""

    @property
    def fence_after_ms(self) -> int:
        """From the sending of an accepted renewal to the beginning of the fence."""
        return self.lease_ms - self.kill_ms


def down_after_ms(lease_ms: int) -> int:
    """From the applying of a renewal to the moment when its host is surely down, by a clock that
    is slow, for a host whose clock is slow too."""
    return lease_ms + -(-lease_ms * 2 * DRIFT_PER_MILLE // 1000) + MARGIN_MS


def flaws(times: LeaseTimes) -> list[str]:
    """Why these times would not keep VMs running, or not keep them apart, each as arithmetic."""
    least_ms = times.kill_ms + times.renew_ms + LONGEST_ELECTION_MS
    latest_ms = times.lease_ms - times.renew_ms
    found = []
    if times.lease_ms <= least_ms:
        found.append(
            "a host would fence itself in an ordinary election: "
            f"kill {times.kill_ms} + renew {times.renew_ms} + election {LONGEST_ELECTION_MS} "
            f"= {least_ms} ms, which must be less than lease {times.lease_ms} ms"
        )
    if times.watchdog_ms > latest_ms:
        found.append(
            "the watchdog could not be petted in time: "
            f"lease {times.lease_ms} - renew {times.renew_ms} = {latest_ms} ms, "
            f"which must be at least watchdog {times.watchdog_ms} ms"
        )
    return found
