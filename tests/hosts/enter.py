"""Becomes `systemd-nspawn` on an overlay of layers, in a cgroup of its own.

    unshare --mount enter.py CGROUP LOWER[:LOWER]... UPPER ROOT -- systemd-nspawn ...

It is a program, and not a function of its caller, because the process that joins the cgroup and
mounts the root must be the one that turns into systemd-nspawn. The mount is seen by nobody else and
goes with the last process of the host, so nothing of it is left behind when everything is killed.
"""

import ctypes
import errno
import os
import sys
import time
from pathlib import Path

MOUNT_TIMEOUT_S = 10


def cgroups(name: str) -> list[Path]:
    """The directory of cgroup `name` in every hierarchy of this machine."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    kinds = {Path(fields[4]): fields[fields.index("-") + 1] for fields in mounts}
    # A new cpuset is empty and takes no process; nothing here needs one.
    return sorted(
        path / name
        for path, kind in kinds.items()
        if kind in {"cgroup", "cgroup2"} and path.name != "cpuset"
    )


def join(cgroup: Path) -> None:
    """Move this process into `cgroup`; in version 2, hand all controllers down to it first."""
    cgroup.mkdir(parents=True, exist_ok=True)
    for ancestor in (cgroup.parent.parent, cgroup.parent):
        controllers = ancestor / "cgroup.controllers"
        if controllers.exists():
            wanted = " ".join(f"+{name}" for name in controllers.read_text().split())
            (ancestor / "cgroup.subtree_control").write_text(wanted)
    (cgroup / "cgroup.procs").write_text("0")


def mount_root(lower: str, upper: Path, root: Path) -> None:
    """Mount the overlay, as soon as the host's previous life has let go of `upper`.

    A mount outlives the last process of its namespace by a moment. With `index=on` the kernel
    refuses a second mount for so long; by default it would only warn.
    """
    work = upper.with_name("work")
    for folder in (upper, work, root):
        folder.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work},index=on"
    libc = ctypes.CDLL(None, use_errno=True)
    deadline = time.monotonic() + MOUNT_TIMEOUT_S
    while libc.mount(b"overlay", bytes(root), b"overlay", 0, options.encode()) != 0:
        error = ctypes.get_errno()
        if error != errno.EBUSY or time.monotonic() > deadline:
            raise OSError(error, f"cannot mount {root}: {os.strerror(error)}")
        time.sleep(0.02)


def main() -> None:
    cgroup, lower, upper, root, separator, *command = sys.argv[1:]
    assert separator == "--"
    for path in cgroups(cgroup):
        join(path)
    mount_root(lower, Path(upper), Path(root))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
