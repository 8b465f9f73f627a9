"""Runs a guest whose console is both kept and shared.

    python3 -I -S console_tee.py SOCKET PROGRAM

PROGRAM becomes this very process: its pid, its exit status and the signals sent to it are its own.
What it writes goes through a child of it, which passes it on to standard output (the journal) and
to whoever is connected to SOCKET, and passes on what they type. That child ends with the output.
If it is killed, the guest goes on with nothing to read and nowhere to write.

Standard library only, and of Blixard nothing but `console_hub`.
"""

import os
import selectors
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    # -I and -S keep out everything, Blixard included.
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from blixard.drivers.console_hub import ConsoleHub

_READ_BYTES = 65_536


def main(address: str, program: str) -> None:
    selector = selectors.DefaultSelector()
    try:
        hub = ConsoleHub(selector, address)
    except OSError as trouble:
        # A guest without a console is better than none.
        sys.stderr.write(f"its console cannot be attached to: {address}: {trouble}\n")
        sys.stderr.flush()
        os.execv(program, [program])  # noqa: S606 - no shell is wanted
    output, written = os.pipe()
    if os.fork() == 0:
        os.close(written)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            # The last words of a guest that is terminated are still to come.
            signal.signal(number, signal.SIG_IGN)
        _serve(selector, hub, output)
        os._exit(0)
    os.dup2(hub.stdin, 0)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.execv(program, [program])  # noqa: S606 - no shell is wanted


def _serve(selector: selectors.BaseSelector, hub: ConsoleHub, output: int) -> None:
    """Pass everything on until nobody can write any more."""
    selector.register(output, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fd != output:
                key.data(key.fileobj)
                continue
            data = os.read(output, _READ_BYTES)
            if not data:
                return
            hub.show(data)
            _keep(data)


def _keep(data: bytes) -> None:
    """Without a journal the guest still runs."""
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        return


if __name__ == "__main__":
    main(*sys.argv[1:])
