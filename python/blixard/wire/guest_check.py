"""The check of a guest on the wire, its shape checked."""

import re
import shlex
from typing import Final
from urllib.parse import urlsplit

from blixard.policy import CheckKind, GuestCheck
from blixard.v1 import blixard_pb2 as pb
from blixard.wire.checks import bad

RESTART: Final = "restart"
REPORT: Final = "report"

MAX_TARGET: Final = 1_024
INTERVALS_MS: Final = (1_000, 3_600_000)
TIMEOUTS_MS: Final = (100, 60_000)
MAX_FAILURES: Final = 100
MAX_START_PERIOD_MS: Final = 3_600_000

_USUAL: Final = GuestCheck(CheckKind.TCP, "")
_HOST_PORT: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


def check(message: pb.GuestCheck) -> GuestCheck | None:
    """A check; what is absent of it is as usual. None if there is to be none."""
    if not message.kind:
        return None
    try:
        kind = CheckKind(message.kind)
    except ValueError as unknown:
        known = ", ".join(one.value for one in CheckKind)
        told = f'check: "{message.kind[:80]}" is no kind of check'
        raise bad(told, f"write one of: {known}; or none") from unknown
    _sound(kind, message.target)
    interval_ms = message.interval_ms or _USUAL.interval_ms
    timeout_ms = message.timeout_ms or min(_USUAL.timeout_ms, interval_ms)
    failures = message.failures or _USUAL.failures
    start_period_ms = (
        message.start_period_ms if message.HasField("start_period_ms") else _USUAL.start_period_ms
    )
    _within("check_interval", interval_ms, *INTERVALS_MS)
    _within("check_timeout", timeout_ms, *TIMEOUTS_MS)
    _within("check_start_period", start_period_ms, 0, MAX_START_PERIOD_MS)
    if failures > MAX_FAILURES:
        raise bad(f"check_failures: {failures} is out of range", f"choose 1 to {MAX_FAILURES}")
    if message.on_failure not in ("", RESTART, REPORT):
        told = f'check_on_failure: "{message.on_failure[:80]}" is not known'
        raise bad(told, f"write {RESTART} or {REPORT}")
    restarts = message.on_failure == RESTART
    return GuestCheck(
        kind, message.target, interval_ms, timeout_ms, failures, start_period_ms, restarts
    )


def _within(field: str, value_ms: int, least_ms: int, most_ms: int) -> None:
    if not least_ms <= value_ms <= most_ms:
        raise bad(f"{field}: {value_ms} ms is out of range", f"choose {least_ms} to {most_ms} ms")


def _sound(kind: CheckKind, target: str) -> None:
    """Raises `Refused` if nothing could be asked so."""
    if not target or len(target) > MAX_TARGET or not target.isprintable():
        raise bad("check: there is nothing to ask", f"write {kind.value}:TARGET on one line")
    match kind:
        case CheckKind.TCP:
            match = _HOST_PORT.fullmatch(target)
            if match is None or not 1 <= int(match[2]) <= 65_535:
                raise bad(f'check: "{target[:80]}" is no address', "write tcp:HOST:PORT")
        case CheckKind.HTTP:
            _sound_url(target)
        case CheckKind.COMMAND:
            try:
                program = shlex.split(target)[0]
            except (ValueError, IndexError) as wrong:
                raise bad("check: the quotes of the command do not match", "close them") from wrong
            if not program.startswith("/"):
                raise bad(f'check: "{program[:80]}" is no path', "name the program by its path")


def _sound_url(target: str) -> None:
    try:
        url = urlsplit(target)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    if url.scheme not in ("http", "https") or not url.hostname or port == 0 or " " in target:
        raise bad(f'check: "{target[:80]}" is no URL', "write http://HOST:PORT/PATH")
