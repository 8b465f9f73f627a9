"""A disk that a host has for itself, so that it can fail: ext4 on a loop device.

It is mounted on this machine, and a folder of it is bound into the host.
"""

import contextlib
import fcntl
import os
import struct
import subprocess
from pathlib import Path
from typing import Final

from hosts.machine import retry

SIZE_MIB: Final = 64
RELEASE_TIMEOUT_S: Final = 30

# Of linux/fs.h and of fs/ext4/ext4.h, which no header of user space has.
FREEZE: Final = 0xC0045877
THAW: Final = 0xC0045878
EXT4_SHUTDOWN: Final = 0x8004587D
EXT4_NO_LOG_FLUSH: Final = 2


def thaw(mount: Path) -> None:
    """Let a file system that may stand still go on."""
    with contextlib.suppress(OSError):
        _order(mount, THAW)


def _order(mount: Path, request: int, argument: int = 0) -> None:
    descriptor = os.open(mount, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, request, struct.pack("I", argument))
    finally:
        os.close(descriptor)


class Disk:
    """A file system in `folder`, to be used below `data`."""

    def __init__(self, folder: Path) -> None:
        self._image = folder / "disk.img"
        self._mount = folder / "disk"
        self.data = self._mount / "data"
        self._mount.mkdir(parents=True)
        with self._image.open("wb") as image:
            image.truncate(SIZE_MIB << 20)
        now = ["-E", "lazy_itable_init=0,lazy_journal_init=0"]
        _run("mkfs.ext4", "-q", "-m", "0", *now, str(self._image))
        self._attach()
        self.data.mkdir()

    def _attach(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self._mount))

    def stand_still(self) -> None:
        """Block whoever writes to it, and whoever waits for what was written."""
        _order(self._mount, FREEZE)

    def go_on(self) -> None:
        """Undo `stand_still`."""
        thaw(self._mount)

    def fill(self) -> None:
        """Leave no room on it."""
        with (self._mount / "filler").open("wb", buffering=0) as filler:
            for size in (1 << 20, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        filler.write(bytes(size))

    def empty(self) -> None:
        """Undo `fill`."""
        (self._mount / "filler").unlink(missing_ok=True)

    def lose_unsynced(self) -> None:
        """Let nothing more reach it, not even what was written before and not synced."""
        _order(self._mount, EXT4_SHUTDOWN, EXT4_NO_LOG_FLUSH)

    def attach_again(self) -> None:
        """Mount what is on it, as soon as the host that used it has let go."""
        _run("umount", str(self._mount))
        loops = ["losetup", "--noheadings", "--associated", str(self._image)]
        retry(lambda _: not _run(*loops), RELEASE_TIMEOUT_S)
        self._attach()


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
