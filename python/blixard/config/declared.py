"""The VMs that a host declares: a TOML file with a table `[vms.NAME]` for each."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from blixard.config.document import Document, Misconfigured, Problem, checked
from blixard.config.keys import Check, Key, WrongValueError, integer, one_of, shown
from blixard.errors import Code
from blixard.model import (
    Fix,
    Rejected,
)
from blixard.policy import Failover, OnQuorumLoss, Relation, Strategy, Term, is_word

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class DeclaredVm:
    """What a table says."""

    name: str
    source: str
    """As `blixard vm create --config` has it."""
    vcpus: int = 1
    memory_mib: int = 512
    on_quorum_loss: str = OnQuorumLoss.STOP.value
    failover: str = Failover.AUTO.value
    restart_limit: int = 5
    disk_mib: int = 0
    priority: int = 0
    strategy: str = Strategy.SPREAD.value
    group: str = ""
    require: tuple[str, ...] = ()
    prefer: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    prefer_near: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    prefer_apart: tuple[str, ...] = ()
    check: str = ""
    """As `blixard vm create --check` has it; empty: none."""
    check_interval_ms: int = 10_000
    check_timeout_ms: int = 5_000
    check_failures: int = 3
    check_start_period_ms: int = 60_000
    check_on_failure: str = "report"


RULES: Final = ("require", "prefer", "near", "prefer_near", "apart", "prefer_apart")
"""The keys that hold lists of terms."""


def load_vms(path: Path) -> tuple[DeclaredVm, ...]:
    """The VMs of a file, by name. Raises `Misconfigured`."""
    document = Document.read(path)
    problems = [_stray(document, key) for key in document.tables if key != "vms"]
    tables = document.tables.get("vms", {})
    if not isinstance(tables, dict):
        problems.append(_problem(f"vms: {shown(tables)} is no table", "write [vms.NAME]"))
        tables = {}
    for name in tables:
        if not _NAME.fullmatch(name):
            remedy = "a name has 1 to 63 of a-z, 0-9 and -, and neither begins nor ends with -"
            problems.append(_problem(f'vms: "{name[:80]}" is no valid VM name', remedy))
    known = {f"vms.{name}": VM_KEYS for name in tables}
    values = checked({f"vms.{name}": tables[name] for name in tables}, document, problems, known)
    for name in tables:
        if not problems and "source" not in values.get(f"vms.{name}", {}):
            problems.append(_problem(f"vms.{name}.source is missing", 'source = "REF#NAME"'))
    if problems:
        raise Misconfigured(problems)
    return tuple(DeclaredVm(name, **values[f"vms.{name}"]) for name in sorted(tables))


def _source(raw: Any) -> str:
    if not isinstance(raw, str) or not raw:
        raise WrongValueError(f"{shown(raw)} is no source", 'write a reference: "REF#NAME"')
    return raw


def _text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise WrongValueError(f"{shown(raw)} is no text", 'write it in quotes: "tcp:HOST:PORT"')
    return raw


def _group(raw: Any) -> str:
    if not isinstance(raw, str) or (raw and not is_word(raw)):
        raise WrongValueError(f"{shown(raw)} is no group", "write letters, digits, dots, _ and -")
    return raw


def _list_of(parse: Callable[[str], object], example: str) -> Check:
    def check(raw: Any) -> tuple[str, ...]:
        if not isinstance(raw, list):
            raise WrongValueError(f"{shown(raw)} is no list", f'write ["{example}"]')
        for item in raw:
            try:
                parse(item if isinstance(item, str) else "")
            except ValueError as wrong:
                raise WrongValueError(
                    f"{shown(item)} cannot be read", f'write it as in ["{example}"]'
                ) from wrong
        return tuple(raw)

    return check


VM_KEYS: Final[Mapping[str, Key]] = {
    "source": Key("--config", _source),
    "vcpus": Key("--vcpus", integer(1, 1024)),
    "memory_mib": Key("--memory", integer(16, 16 * 1024 * 1024)),
    "on_quorum_loss": Key("--on-quorum-loss", one_of(*OnQuorumLoss)),
    "failover": Key("--failover", one_of(*Failover)),
    "restart_limit": Key("--restart-limit", integer(0, 1000)),
    "disk_mib": Key("--disk", integer(0, 1024 * 1024 * 1024)),
    "priority": Key("--priority", integer(-1000, 1000)),
    "strategy": Key("--strategy", one_of(*Strategy)),
    "group": Key("--group", _group),
    "require": Key("--require", _list_of(Term.parse, "zone=a")),
    "prefer": Key("--prefer", _list_of(Term.parse, "zone=a")),
    "near": Key("--near", _list_of(Relation.parse, "db")),
    "prefer_near": Key("--prefer-near", _list_of(Relation.parse, "db/zone")),
    "apart": Key("--apart", _list_of(Relation.parse, "web")),
    "prefer_apart": Key("--prefer-apart", _list_of(Relation.parse, "web/zone")),
    "check": Key("--check", _text),
    "check_interval_ms": Key("--check-interval", integer(1_000, 3_600_000)),
    "check_timeout_ms": Key("--check-timeout", integer(100, 60_000)),
    "check_failures": Key("--check-failures", integer(1, 100)),
    "check_start_period_ms": Key("--check-start-period", integer(0, 3_600_000)),
    "check_on_failure": Key("--check-on-failure", one_of("report", "restart")),
}


def _stray(document: Document, key: str) -> Problem:
    place = document.place_of("", key)
    rejected = Rejected(
        Code.CONFIG_KEY,
        f'unknown table or key "{key}" in {Path(document.path).name}',
        fixes=(Fix("write a table [vms.NAME] for each VM"),),
    )
    return Problem(rejected, document.excerpt(*place, len(key), ""))


def _problem(message: str, remedy: str) -> Problem:
    return Problem(Rejected(Code.CONFIG_VALUE, message, fixes=(Fix(remedy),)))
