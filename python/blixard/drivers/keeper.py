"""The keeper: when the lease of this host ends, so do its VMs, whatever the daemon does.

    python3 -I -S keeper.py serve [SETTING...]
    python3 -I -S keeper.py deputy [SETTING...]
    python3 -I -S keeper.py once [SETTING...]
    python3 -I -S keeper.py gate NAME

`serve` holds the lease. At the deadline it shuts the gates, kills what runs in the slice, and kills
what appears there until the lease is renewed. `deputy` does so if `serve` is late, because it was
stopped or killed. `once` does so once, for whoever has lost the keeper.
`gate` exits with 0 if a VM may start now, and with 1 if not, as `ExecCondition=` has it.

A request is a packet on the Unix socket that systemd hands over, answered by `ok ...` or `no WHY`:

    renew BOOT_ID DEADLINE_NS             the VMs may run until then (CLOCK_BOOTTIME)
    permit NAME EPOCH INCARNATION [keep]  open the gate of a VM; with `keep`, the fence spares it
    revoke NAME                           shut it; `ok open` if it was open, else `ok shut`
    status                                everything that the keeper knows, as JSON

Exit status: 1 the gate is shut, 2 a setting is wrong, 77 a process has outlived SIGKILL.

This needs nothing but the standard library, and of Blixard only the modules named `keeper_*`.
"""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # -I and -S keep out everything, Blixard included.
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from blixard.drivers.keeper_files import MS, KeeperFiles, log

SETTINGS = {
    "--boot-id": "",
    "--directory": "/run/blixard-keeper",
    "--slice": "",  # where systemd has it
    "--max-ms": "8000",  # T - K: how far away a deadline may be
    "--budget-ms": "1000",  # K: how long after its deadline the lease ends
    "--watchdog": "",  # without one, at most one is a matter of best effort
    "--watchdog-ms": "6000",
}
WRONG, UNKILLABLE = 2, 77


def main(arguments: list[str]) -> int:
    match arguments:
        case ["gate", name, *words]:
            why = files_of(parse(words)).why_not(name)
            if why:
                log(why)
            return 1 if why else 0
        case [("serve" | "deputy" | "once") as command, *words]:
            return keep(command, parse(words))
    raise ValueError("write serve, deputy, once or gate NAME, and then settings")


def parse(words: list[str]) -> dict[str, str]:
    settings = dict(SETTINGS)
    for name, value in zip(words[::2], [*words[1::2], ""], strict=False):
        if name not in settings or not value:
            raise ValueError(f"{name}: give one of {', '.join(SETTINGS)} and its value")
        if name.endswith("-ms") and not value.isdecimal():
            raise ValueError(f"{name}: {value!r} is no number of milliseconds")
        settings[name] = value
    return settings


def files_of(settings: dict[str, str]) -> KeeperFiles:
    # Some of systemd's protections hide the file, so it can be given.
    boot_id = settings["--boot-id"] or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return KeeperFiles(Path(settings["--directory"]), boot_id)


def keep(command: str, settings: dict[str, str]) -> int:
    """Run the keeper, or its deputy. What they need is imported here: a gate needs little, and is
    asked before every start."""
    import socket

    from blixard.drivers.keeper_deputy import Deputy
    from blixard.drivers.keeper_lease import Keeper, Unkillable
    from blixard.drivers.keeper_server import KeeperServer, be_punctual
    from blixard.drivers.keeper_slice import Slice, find_slice
    from blixard.drivers.keeper_watchdog import Watchdog

    vms = Slice(Path(settings["--slice"]) if settings["--slice"] else find_slice())
    watchdog = None
    if command == "serve" and settings["--watchdog"]:
        watchdog = Watchdog(settings["--watchdog"], int(settings["--watchdog-ms"]))
    files = files_of(settings)
    files.create()
    max_ns, budget_ns = int(settings["--max-ms"]) * MS, int(settings["--budget-ms"]) * MS
    keeper = Keeper(files, vms, watchdog, max_ns=max_ns, budget_ns=budget_ns)
    try:
        match command:
            case "once":
                keeper.fence()
            case "deputy":
                be_punctual()
                Deputy(files, vms).serve()
            case _:
                be_punctual()
                KeeperServer(keeper, socket.socket(fileno=3)).serve()
    except Unkillable as stuck:
        log(str(stuck))
        return UNKILLABLE
    return 0


if __name__ == "__main__":
    os.set_blocking(2, False)  # a log reader that hangs stops nothing
    try:
        status = main(sys.argv[1:])
    except ValueError as wrong:
        log(f"keeper: {wrong}")
        status = WRONG
    sys.exit(status)
