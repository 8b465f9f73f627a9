"""Makes the death of a guard the death of everything that it runs.

Where the kernel lets us, in a PID namespace: its first process, here the *anchor*, takes all others
along when it dies, and dies itself with the guard (pid_namespaces(7); prctl(2), PR_SET_PDEATHSIG).
An ordinary user gets one by way of a user namespace (user_namespaces(7)).

Where user namespaces are forbidden, by a chain: the anchor is the guard's parent and inherits
whatever outlives the guard (PR_SET_CHILD_SUBREAPER), to kill it. If both are killed at the same
instant, only the runner itself is sure to die; what it has started can survive. The guard's record
says which of the three it is.

The anchor is also the second to keep the deadline of the VM. One of the two may be stopped, hung or
dead: the other ends the VM, and a namespace whose first process has ended lets nothing start. Two
faults at once are outside the promise: with both stopped the VM runs on until either continues.

Standard library only.
"""

import contextlib
import ctypes
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, Protocol

from blixard.drivers.process_record import start_ticks

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_MS_NOSUID_NODEV_NOEXEC = 0x2 | 0x4 | 0x8
_MS_REC_SLAVE = 0x4000 | 0x80000
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_GUARD_FIRST_S = 0.3

_libc = ctypes.CDLL(None, use_errno=True)


class Confinement(Protocol):
    """Where the processes of a VM live."""

    kind: str
    anchor_pid: int
    """Once this process is gone, no process of the VM is left."""
    anchor_ticks: int

    def inner_pid(self, pid: int) -> int:
        """The pid under which the VM's own processes know `pid`."""
        ...

    def kill(self) -> None:
        """Kill the runner, and whatever can be killed along with it."""
        ...

    def clear(self) -> None:
        """Kill what is left once the runner has been waited for; return when nothing is left."""
        ...


def on_parent_death(number: signal.Signals) -> None:
    """Be sent a signal when the parent dies."""
    _libc.prctl(_PR_SET_PDEATHSIG, number)


def confine(deadline: int) -> Confinement:
    """Confine every process that the caller starts from now on, and end them when the file
    `deadline` becomes readable.

    The caller must have no threads and start none. With a chain, what returns is a child of the
    process that called, and is sent SIGHUP when the anchor dies.
    """
    uid, gid = os.getuid(), os.getgid()
    if _libc.unshare(_CLONE_NEWPID | _CLONE_NEWNS) == 0:
        return _Namespace("pid-namespace", deadline)
    if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWPID | _CLONE_NEWNS) == 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
        return _Namespace("user-namespace", deadline)
    return _Chain(deadline)


class _Namespace:
    """A PID namespace whose first process dies with the guard. What the guard forks is in it."""

    def __init__(self, kind: str, deadline: int) -> None:
        self.kind = kind
        # The anchor mounts another /proc over this one.
        self._proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        guard, anchor = os.pipe(), os.pipe()
        self.anchor_pid = os.fork()
        if self.anchor_pid == 0:
            os.close(guard[1])
            _be_first(guard[0], anchor[1], deadline)
        self.anchor_ticks = start_ticks(self._read(self.anchor_pid, "stat"))
        os.write(guard[1], b".")
        os.close(anchor[1])
        assert os.read(anchor[0], 1), "the first process of a namespace has died"
        for end in (*guard, anchor[0]):
            os.close(end)

    def _read(self, pid: int, name: str) -> bytes:
        file = os.open(f"{pid}/{name}", os.O_RDONLY, dir_fd=self._proc)
        with os.fdopen(file, "rb") as opened:
            return opened.read()

    def inner_pid(self, pid: int) -> int:
        fields = dict(line.split(b":", 1) for line in self._read(pid, "status").splitlines())
        return int(fields[b"NSpid"].split()[-1])

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.anchor_pid, signal.SIGKILL)

    def clear(self) -> None:
        # The kernel lets the anchor go only after all others, and waits for those that the guard
        # itself has started until the guard has waited for them.
        self.kill()
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()


def _be_first(guard: int, ready: int, deadline: int) -> NoReturn:
    """Be the first process of a namespace, until the deadline. The kernel waits for what it adopts
    (wait(2), SIGCHLD ignored), and kills all others when it ends."""
    on_parent_death(signal.SIGKILL)
    if not os.read(guard, 1):  # the guard died before its death could be announced
        os._exit(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _libc.mount(b"none", b"/", None, _MS_REC_SLAVE, None)
    # Refused in some containers; then the host's processes are shown, and nothing else changes.
    _libc.mount(b"proc", b"/proc", b"proc", _MS_NOSUID_NODEV_NOEXEC, None)
    os.write(ready, b".")
    _close_all_but(deadline)
    select.select([deadline], [], [])
    os._exit(0)


class _Chain:
    """A parent that kills what its child, the guard, leaves behind."""

    kind = "chain"

    def __init__(self, deadline: int) -> None:
        self.anchor_pid = os.getpid()
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        guard_pid = os.fork()
        if guard_pid != 0:
            _be_heir(guard_pid, deadline)
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        on_parent_death(signal.SIGHUP)
        assert os.getppid() == self.anchor_pid, "the anchor has died"
        self.anchor_ticks = start_ticks(Path(f"/proc/{self.anchor_pid}/stat").read_bytes())

    def inner_pid(self, pid: int) -> int:
        return pid

    def kill(self) -> None:
        for pid in _children():
            os.kill(pid, signal.SIGKILL)

    def clear(self) -> None:
        _kill_children()


def _be_heir(guard_pid: int, deadline: int) -> NoReturn:
    """Wait for the guard, or for the deadline, then kill what is left, and what that leaves, until
    nothing is left."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _close_all_but(deadline)
    guard = os.pidfd_open(guard_pid)
    select.select([guard, deadline], [], [])
    # A guard that is well ends its VM itself, and has this long to write down why.
    select.select([guard], [], [], _GUARD_FIRST_S)
    _kill_children()
    os._exit(0)


def _close_all_but(deadline: int) -> None:
    os.closerange(3, deadline)
    os.closerange(deadline + 1, os.sysconf("SC_OPEN_MAX"))


def _kill_children() -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in _children():
                os.kill(pid, signal.SIGKILL)
            os.wait()


def _children() -> Iterator[int]:
    """The children of this process (proc(5), /proc/PID/stat, field 4)."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                stat = (entry / "stat").read_bytes()
                if int(stat.rpartition(b")")[2].split()[1]) == os.getpid():
                    yield int(entry.name)
