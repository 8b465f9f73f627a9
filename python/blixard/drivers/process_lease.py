"""The deadline of one VM, which its guard and its anchor keep independently of each other.

It is a timer of the kernel (timerfd_create(2)) on CLOCK_BOOTTIME, which runs on through suspend.
The file is shared across fork: the guard moves the one timer that both wait for, and whichever of
them is able to run when it fires ends the VM.

Standard library only. Python has these calls from 3.13 on.
"""

import ctypes
import os
import time
from array import array

_TFD_TIMER_ABSTIME = 1
_NEVER_MS = 1 << 62

_libc = ctypes.CDLL(None, use_errno=True)


def boot_ms() -> int:
    """CLOCK_BOOTTIME in milliseconds: what `ports.Clock` means by it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class Lease:
    """A deadline, in milliseconds of CLOCK_BOOTTIME, that only moves on. `fd` is readable once it
    has passed, in every process that was forked since."""

    def __init__(self, deadline_ms: int) -> None:
        """Raises `OSError` without timers, and `OverflowError` on a deadline out of range."""
        self.fd: int = _libc.timerfd_create(time.CLOCK_BOOTTIME, os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "no timer can be had")
        self._move(deadline_ms)

    @property
    def has_ended(self) -> bool:
        return boot_ms() >= self._deadline_ms

    def renew(self, deadline_ms: int) -> None:
        """Move the deadline on. Once it has passed, it stays where it is."""
        if deadline_ms > self._deadline_ms and not self.has_ended:
            self._move(deadline_ms)

    def waive(self) -> None:
        """Have no deadline any more."""
        self._move(_NEVER_MS)

    def _move(self, deadline_ms: int) -> None:
        # Zero would disarm the timer: the first instant of all is past as well.
        seconds, ms = divmod(max(1, deadline_ms), 1000)
        timer = array("q", (0, 0, seconds, ms * 1_000_000))  # struct itimerspec of 64-bit Linux
        if _libc.timerfd_settime(
            self.fd, _TFD_TIMER_ABSTIME, ctypes.c_void_p(timer.buffer_info()[0]), None
        ):
            raise OSError(ctypes.get_errno(), "the timer cannot be set")
        self._deadline_ms = deadline_ms
