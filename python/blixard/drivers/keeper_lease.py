"""What the keeper does: it holds the lease of this host, and fences when that ends."""

import json
import time

from blixard.drivers.keeper_files import MS, Gate, KeeperFiles, log, now_ns
from blixard.drivers.keeper_slice import Slice
from blixard.drivers.keeper_watchdog import Watchdog

UNKILLABLE_NS = 600 * MS
AGAIN_S = 0.005
_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


class Refused(Exception):
    """What was asked for is not done; says why, and what to do."""


class Unkillable(Exception):
    """A process goes on after SIGKILL: only a reboot ends it."""


class Keeper:
    """Keeps the deadline of all VMs that have one. Every method may raise `Unkillable`.

    A deadline is at most `max_ns` away, and the lease ends `budget_ns` after it.
    """

    def __init__(
        self,
        files: KeeperFiles,
        vms: Slice,
        watchdog: Watchdog | None = None,
        *,
        max_ns: int,
        budget_ns: int,
    ) -> None:
        self._files = files
        self._vms = vms
        self._watchdog = watchdog
        self._max_ns = max_ns
        self._budget_ns = budget_ns
        self._dying: dict[int, int] = {}
        """The processes that were killed, and since when."""
        self.deadline_ns = files.deadline_ns()
        """0 while fenced."""

    # --- the fence ------------------------------------------------------------------------------

    def begin(self) -> None:
        """Go on where the keeper before has ended, or fence."""
        left_ns = self.deadline_ns - now_ns()
        if 0 < left_ns <= self._max_ns:
            log(f"resumed: {left_ns // MS} ms left")
        else:
            self.fence()

    def fence(self) -> None:
        """End every VM that is not to be kept, and return when it has ended."""
        self._end_lease()
        while not self._is_clear():
            time.sleep(AGAIN_S)
        log("fenced")

    def keep(self) -> None:
        """Do what the time demands; call it often, and at the deadline."""
        now = now_ns()
        if self.deadline_ns and now >= self.deadline_ns:
            late_ms = (now - self.deadline_ns) // MS
            self._end_lease()
            self._is_clear()
            log(f"fenced, {late_ms} ms after the deadline")
        elif not self.deadline_ns:
            # Once is not enough: a start that was let through before comes after it.
            self._is_clear()
        if self._watchdog and self._watchdog.is_due(now) and self._may_pet(self._watchdog, now):
            self._watchdog.pet(now)

    def stop(self) -> None:
        """Told to stop: VMs live on, and so does the watchdog. It is disarmed only if there is no
        VM, and none can start behind its back."""
        if self._watchdog and not self._vms.pids(set()):
            self._end_lease()
            if not self._vms.pids(set()):
                self._watchdog.disarm()

    def _end_lease(self) -> None:
        self.deadline_ns = 0
        self._files.end_lease()

    def _is_clear(self) -> bool:
        """Kill what must not run. Return whether there was nothing."""
        kept = self._files.kept()
        now = now_ns()
        self._dying = {pid: self._dying.get(pid, now) for pid in self._vms.pids(kept)}
        if not self._dying:
            return True
        self._vms.kill(kept)
        if stuck := [pid for pid, since in self._dying.items() if now - since > UNKILLABLE_NS]:
            raise Unkillable(f"processes {stuck} have outlived SIGKILL")
        return False

    def _may_pet(self, watchdog: Watchdog, now: int) -> bool:
        """Only if the watchdog would then bite before the lease ends, or if there is nothing that
        it would have to end: no process, and no gate through which one may still come."""
        if now + watchdog.timeout_ns < self.deadline_ns + self._budget_ns:
            return True
        gates = self._files.gates()
        kept = {name for name, gate in gates.items() if gate.keep}
        return gates.keys() == kept and not self._vms.pids(kept)

    # --- requests -------------------------------------------------------------------------------

    def answer(self, request: bytes) -> str:
        """Do what a client asks for, and say `ok` once it is done, or `no` and why."""
        try:
            return f"ok {self._do(request.decode('ascii', 'replace').split())}".rstrip()
        except (Refused, OSError) as trouble:
            return f"no {trouble}"

    def _do(self, request: list[str]) -> str:
        match request:
            case ["renew", boot_id, deadline_ns]:
                return self._renew(boot_id, _number(deadline_ns, "DEADLINE_NS"))
            case ["permit", name, epoch, incarnation, *keep] if keep in ([], ["keep"]):
                numbers = _number(epoch, "EPOCH"), _number(incarnation, "INCARNATION")
                return self._permit(_vm(name), Gate(*numbers, bool(keep)))
            case ["revoke", name]:
                return "open" if self._files.shut(_vm(name)) else "shut"
            case ["status"]:
                return json.dumps(self._status())
        raise Refused(
            "this is no request: write renew BOOT_ID DEADLINE_NS, permit NAME EPOCH INCARNATION "
            "[keep], revoke NAME, or status"
        )

    def _renew(self, boot_id: str, deadline_ns: int) -> str:
        now = now_ns()
        if not self._files.is_of_this_boot(boot_id):
            raise Refused(f"BOOT_ID {boot_id[:40]!r} is not that of this boot: read it anew")
        if deadline_ns <= now:
            raise Refused(f"DEADLINE_NS was {(now - deadline_ns) // MS} ms ago: renew earlier")
        if deadline_ns > now + self._max_ns:
            raise Refused(
                f"DEADLINE_NS is {(deadline_ns - now) // MS} ms away, and at most "
                f"{self._max_ns // MS} are allowed: stamp renewals with CLOCK_BOOTTIME, and give "
                "node and keeper the same times"
            )
        if self.deadline_ns and not self._files.deadline_ns():
            self._end_lease()  # as the deputy has, while this was held up
        if not self.deadline_ns and not self._is_clear():
            raise Refused("the fence has not ended everything yet: renew again")
        if deadline_ns > self.deadline_ns:
            self._files.set_deadline(deadline_ns)
            self.deadline_ns = deadline_ns
        return ""

    def _permit(self, name: str, gate: Gate) -> str:
        if now_ns() >= self.deadline_ns:
            raise Refused("the lease of this host has ended: renew first")
        if self._watchdog and self._watchdog.bites_ns >= self.deadline_ns + self._budget_ns:
            raise Refused("the lease of this host ends before its watchdog bites: renew first")
        there = self._files.look(name)
        if there and there.epoch > gate.epoch:
            raise Refused(f"EPOCH {gate.epoch} is over: {name} is at {there.epoch}")
        self._files.open(name, gate)
        return ""

    def withdraw(self, request: bytes) -> None:
        """Undo a permit of which nobody has learned: nobody would ever shut that gate."""
        match request.decode("ascii", "replace").split():
            case ["permit", name, *_]:
                self._files.shut(name)

    def _status(self) -> dict[str, object]:
        return {
            "deadline_ns": self.deadline_ns,
            "fenced": not self.deadline_ns,
            "watchdog": "guaranteed" if self._watchdog else "best-effort",
            "gates": {name: gate._asdict() for name, gate in self._files.gates().items()},
        }


def _number(word: str, field: str) -> int:
    # Not more than fits in the kernel's own count of nanoseconds.
    if not (word.isdecimal() and len(word) < 19):
        raise Refused(f"{field} {word[:40]!r} is no number: write at most 18 digits")
    return int(word)


def _vm(word: str) -> str:
    if not 0 < len(word) < 64 or not _NAME.issuperset(word) or "-" in (word[0], word[-1]):
        raise Refused(f"NAME {word[:70]!r} is no VM's: write a DNS label in lower case")
    return word
