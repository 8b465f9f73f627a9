"""Runs a program that is told to end (SIGTERM) when the process that started it dies.

    python tether.py PARENT_PID PROGRAM [ARGUMENT...]

A daemon that is killed takes its builds along: Nix ends its builders when it is terminated, and
would otherwise go on for nobody. prctl(2), PR_SET_PDEATHSIG: kept across exec; sent when the thread
that forked ends, which here is the one that runs the loop.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent_pid, *argv = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == int(parent_pid):
        os.execvp(argv[0], argv)  # noqa: S606 - no shell: that is the point
