"""What each key of a node's configuration may hold."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from blixard.policy import NODE_LABEL, is_word

FOUND_LABELS: Final = (NODE_LABEL, "arch", "kvm")
"""What a node says of itself: its name, the machine's name for its processor as in uname(2), and
whether it has hardware virtualisation (`yes` or `no`)."""

Peer = tuple[int, str]
"""A node's id and its address."""

MAX_SOCKET_BYTES: Final = 107
"""The longest path of a Unix socket (unix(7): `sun_path` has 108 bytes, the last one is NUL)."""


class WrongValueError(ValueError):
    """A value that a key cannot hold: what it is, and what it should be."""

    def __init__(self, is_wrong: str, remedy: str) -> None:
        super().__init__(is_wrong)
        self.is_wrong = is_wrong
        self.remedy = remedy


Check = Callable[[Any], Any]


def integer(low: int, high: int) -> Check:
    def check(raw: Any) -> int:
        if not isinstance(raw, int) or isinstance(raw, bool):
            raise WrongValueError(
                f"{shown(raw)} is no whole number", f"write a number, {low} to {high}"
            )
        if not low <= raw <= high:
            raise WrongValueError(f"{raw} is out of range", f"write a number, {low} to {high}")
        return raw

    return check


def one_of(*words: str) -> Check:
    def check(raw: Any) -> str:
        if raw not in words:
            raise WrongValueError(f"{shown(raw)} is not known", f"write one of: {', '.join(words)}")
        return str(raw)

    return check


def _boolean(raw: Any) -> bool:
    if not isinstance(raw, bool):
        raise WrongValueError(
            f"{shown(raw)} is neither true nor false", "write true or false, unquoted"
        )
    return raw


def _program(raw: Any) -> str:
    if not isinstance(raw, str) or not raw or raw.startswith("-"):
        raise WrongValueError(f"{shown(raw)} is no program", "write its name or its path")
    return raw


def _path(raw: Any) -> Path:
    if not isinstance(raw, str) or not raw.startswith("/") or "\0" in raw:
        raise WrongValueError(
            f"{shown(raw)} is no absolute path", "write a path that begins with /"
        )
    return Path(raw)


def _socket(raw: Any) -> Path:
    path = _path(raw)
    if len(os.fsencode(path)) > MAX_SOCKET_BYTES:
        raise WrongValueError(
            f"{shown(raw)} is too long", f"a socket's path has {MAX_SOCKET_BYTES} bytes at most"
        )
    return path


_HOST_PORT: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


def _address(raw: Any) -> str:
    match = _HOST_PORT.fullmatch(raw) if isinstance(raw, str) else None
    if match is None:
        ipv6 = isinstance(raw, str) and raw.count(":") > 1
        remedy = "put the IPv6 address in brackets: [ADDRESS]:PORT" if ipv6 else "write HOST:PORT"
        raise WrongValueError(f"{shown(raw)} is no address with a port", remedy)
    if not 1 <= int(match[2]) <= 65_535:
        raise WrongValueError(f"{shown(raw)} has no valid port", "a port is 1 to 65535")
    return match[0]


def _peers(raw: Any) -> tuple[Peer, ...]:
    if not isinstance(raw, list):
        raise WrongValueError(
            f"{shown(raw)} is no list", 'write ["2:10.0.0.2:7001", "3:10.0.0.3:7001"]'
        )
    peers = tuple(_peer(entry) for entry in raw)
    for numbered in (0, 1):
        seen = [peer[numbered] for peer in peers]
        twice = sorted({str(one) for one in seen if seen.count(one) > 1})
        if twice:
            raise WrongValueError(
                f'"{twice[0]}" occurs twice', "give every peer its own id and address"
            )
    return peers


def _peer(raw: Any) -> Peer:
    number, colon, address = raw.partition(":") if isinstance(raw, str) else ("", "", "")
    if not colon or not number.isascii() or not number.isdigit():
        raise WrongValueError(
            f"{shown(raw)} is no peer", "write ID:HOST:PORT, for example 2:10.0.0.2:7001"
        )
    return _NODE_ID(int(number)), _address(address)


def _options(raw: Any) -> Mapping[str, str]:
    if not isinstance(raw, dict):
        raise WrongValueError(
            f"{shown(raw)} is no table", 'write NAME = "VALUE" lines under [nix.options]'
        )
    for name, value in raw.items():
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise WrongValueError(
                f'"{name}" is no name of a Nix option', "see nix.conf(5) for their names"
            )
        if not isinstance(value, str):
            raise WrongValueError(
                f"{name} = {shown(value)} is no string", f'write {name} = "{value}"'
            )
    return dict(sorted(raw.items()))


def _labels(raw: Any) -> Mapping[str, str]:
    if not isinstance(raw, dict):
        raise WrongValueError(
            f"{shown(raw)} is no table", 'write NAME = "VALUE" lines under [node.labels]'
        )
    for name, value in raw.items():
        if name in FOUND_LABELS:
            raise WrongValueError(
                f'"{name}" is a label that each node gives itself', "choose another name"
            )
        if not is_word(name) or not isinstance(value, str) or not is_word(value):
            raise WrongValueError(
                f"{name} = {shown(value)} is no label",
                'write NAME = "VALUE", both of letters, digits, dots, _ and -',
            )
    return dict(sorted(raw.items()))


def shown(raw: Any) -> str:
    if isinstance(raw, bool):
        return str(raw).lower()
    return f'"{raw}"' if isinstance(raw, str) else str(raw)[:60]


_NODE_ID: Final = integer(1, 65_535)


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the file, and the flag of `blixard node` that says the same."""

    flag: str
    check: Check


KEYS: Final[Mapping[str, Mapping[str, Key]]] = {
    "node": {
        "id": Key("--id", _NODE_ID),
        "bind": Key("--bind", _address),
        "advertise": Key("--advertise", _address),
        "peers": Key("--peer", _peers),
        "bootstrap": Key("--bootstrap", _boolean),
        "data_dir": Key("--data-dir", _path),
        "socket": Key("--socket", _socket),
        "driver": Key("--driver", one_of("auto", "systemd", "process")),
        "log_level": Key("--log-level", one_of("debug", "info", "warning", "error")),
        "labels": Key("--label", _labels),
    },
    "capacity": {
        "vcpus": Key("--vcpus", integer(1, 4096)),
        "memory_mib": Key("--memory-mib", integer(16, 64 * 1024 * 1024)),
        "reserve_memory_mib": Key("--reserve-memory-mib", integer(0, 64 * 1024 * 1024)),
        "disk_mib": Key("--disk-mib", integer(0, 1024 * 1024 * 1024)),
        "reserve_disk_mib": Key("--reserve-disk-mib", integer(0, 1024 * 1024 * 1024)),
    },
    "nix": {
        "binary": Key("--nix-binary", _program),
        "build_timeout_s": Key("--nix-build-timeout-s", integer(1, 7 * 24 * 3600)),
        "options": Key("--nix-option", _options),
    },
    "lease": {
        "lease_ms": Key("--lease-ms", integer(1_000, 600_000)),
        "renew_ms": Key("--renew-ms", integer(100, 60_000)),
        # At least what the fence was measured for.
        "kill_ms": Key("--kill-ms", integer(1_000, 60_000)),
        "watchdog_ms": Key("--watchdog-ms", integer(1_000, 600_000)),
    },
    "metrics": {
        "bind": Key("--metrics-bind", _address),
    },
    "watchdog": {
        "mode": Key("--watchdog-mode", one_of("auto", "guaranteed", "best-effort")),
    },
}
