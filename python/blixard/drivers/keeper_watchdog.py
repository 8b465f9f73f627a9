"""The watchdog: resets this host unless it is petted in time.

Linux' watchdog-api has the ioctl and the "magic close". A FIFO is a device, too: whoever reads it
cuts the power of the host if no byte has come for the timeout, unless the last one was `V`.
"""

import contextlib
import fcntl
import os
import stat
import struct

from blixard.drivers.keeper_files import MS, now_ns

PET_NS = 250 * MS
"""It bites at most so long before the lease ends. The fence has the rest of its budget before."""
SETTIMEOUT = 0xC0045706  # linux/watchdog.h, WDIOC_SETTIMEOUT


class Watchdog:
    """An open watchdog, which bites if `timeout_ms` have passed since it was petted last.

    Raises `ValueError`, which says why, if `device` cannot be had.
    """

    def __init__(self, device: str, timeout_ms: int) -> None:
        longest_ns = timeout_ms * MS
        # To open it is to pet it.
        self._petted_ns = now_ns()
        try:
            # A FIFO that nobody reads is refused: nobody would cut the power.
            self._file = os.open(device, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            is_fifo = stat.S_ISFIFO(os.fstat(self._file).st_mode)
            self.timeout_ns = longest_ns if is_fifo else self._set_timeout(longest_ns)
        except OSError as error:
            raise ValueError(
                f"the watchdog {device} cannot be used: {error.strerror}. Load its driver, end "
                "who else holds it, or do without: then a host that freezes is not reset, and the "
                "VMs of this node are best-effort"
            ) from error
        if not 8 * PET_NS <= self.timeout_ns <= longest_ns:
            raise ValueError(
                f"the watchdog {device} bites after {self.timeout_ns // MS} ms, not {timeout_ms}: "
                "use another, or change the times of the lease"
            )

    def _set_timeout(self, longest_ns: int) -> int:
        """Return what it is set to now: a device has its own steps and limits."""
        seconds = struct.pack("i", longest_ns // (1000 * MS))
        [seconds_set] = struct.unpack("i", fcntl.ioctl(self._file, SETTIMEOUT, seconds))
        return int(seconds_set) * 1000 * MS

    def is_due(self, now_ns: int) -> bool:
        return now_ns >= self._petted_ns + PET_NS

    @property
    def bites_ns(self) -> int:
        """When it resets the host, if it is not petted until then."""
        return self._petted_ns + self.timeout_ns

    def pet(self, now_ns: int) -> None:
        self._petted_ns = now_ns
        with contextlib.suppress(BlockingIOError):  # a FIFO whose reader hangs
            os.write(self._file, b"\0")

    def disarm(self) -> None:
        os.write(self._file, b"V")
