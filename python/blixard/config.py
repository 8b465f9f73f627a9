"""A node's configuration: a TOML file, the flags of `blixard node`, and what holds without either.

Both speak of the same keys and pass the same checks. Reading is strict: what is not understood is
refused, and all problems are told at once.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from blixard.errors import Code
from blixard.model import Fix, Rejected

DATA_DIR: Final = Path("/var/lib/blixard")
RUNTIME_DIR: Final = Path("/run/blixard")
SOCKET_NAME: Final = "api.sock"
MAX_SOCKET_BYTES: Final = 107
"""The longest path of a Unix socket (unix(7): `sun_path` has 108 bytes, the last one is NUL)."""
MAX_PROBLEMS: Final = 10

Peer = tuple[int, str]


@dataclass(frozen=True, slots=True)
class CapacityConfig:
    """What this host offers to VMs; None stands for what the machine has."""

    vcpus: int | None = None
    memory_mib: int | None = None
    reserve_memory_mib: int = 512
    """Kept for the host itself; only of account where `memory_mib` is left to the machine."""


@dataclass(frozen=True, slots=True)
class NixConfig:
    """How runners are built."""

    binary: str = "nix"
    build_timeout_s: int = 3600
    options: Mapping[str, str] = field(default_factory=dict)
    """Passed to every nix command as `--option NAME VALUE`."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Everything that one daemon is told."""

    node_id: int
    bind: str
    """Where it listens, `host:port`."""
    advertise: str
    """Where its peers reach it, `host:port`."""
    peers: tuple[Peer, ...]
    founding: bool
    """Whether it founds a cluster when its data directory is empty and no peer knows one."""
    data_dir: Path
    socket: Path
    driver: str
    """`auto`, `systemd` or `process`."""
    log_level: str
    capacity: CapacityConfig
    nix: NixConfig


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and an excerpt of the file that shows where."""

    rejected: Rejected
    facts: tuple[str, ...] = ()


class Misconfigured(Exception):  # noqa: N818 - the user's kind of wrong
    """The configuration cannot be used; `problems` holds all reasons, ten at most."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems[0].rejected.message)
        self.problems = tuple(problems[:MAX_PROBLEMS])


def load(path: Path | None, flags: Mapping[str, Mapping[str, Any]]) -> NodeConfig:
    """The configuration of a node from the file at `path`, if any, and from `flags`, which win.

    Both are tables of keys, as in the file. Raises `Misconfigured`.
    """
    problems: list[Problem] = []
    document = _Document.read(path) if path is not None else _Document("", "", {})
    values = _checked(document.tables, document, problems)
    for table, keys in _checked(flags, None, problems).items():
        values.setdefault(table, {}).update(keys)
    if problems:
        raise Misconfigured(problems)
    return _assembled(values)


# --- what each key may hold ---------------------------------------------------------------------


class _WrongError(ValueError):
    """A value that a key cannot hold: what it is, and what it should be."""

    def __init__(self, is_wrong: str, remedy: str) -> None:
        super().__init__(is_wrong)
        self.is_wrong = is_wrong
        self.remedy = remedy


Check = Callable[[Any], Any]


def _integer(low: int, high: int) -> Check:
    def check(raw: Any) -> int:
        if not isinstance(raw, int) or isinstance(raw, bool):
            raise _WrongError(
                f"{_shown(raw)} is no whole number", f"write a number, {low} to {high}"
            )
        if not low <= raw <= high:
            raise _WrongError(f"{raw} is out of range", f"write a number, {low} to {high}")
        return raw

    return check


def _one_of(*words: str) -> Check:
    def check(raw: Any) -> str:
        if raw not in words:
            raise _WrongError(f"{_shown(raw)} is not known", f"write one of: {', '.join(words)}")
        return str(raw)

    return check


def _boolean(raw: Any) -> bool:
    if not isinstance(raw, bool):
        raise _WrongError(
            f"{_shown(raw)} is neither true nor false", "write true or false, unquoted"
        )
    return raw


def _program(raw: Any) -> str:
    if not isinstance(raw, str) or not raw or raw.startswith("-"):
        raise _WrongError(f"{_shown(raw)} is no program", "write its name or its path")
    return raw


def _path(raw: Any) -> Path:
    if not isinstance(raw, str) or not raw.startswith("/") or "\0" in raw:
        raise _WrongError(f"{_shown(raw)} is no absolute path", "write a path that begins with /")
    return Path(raw)


def _socket(raw: Any) -> Path:
    path = _path(raw)
    if len(os.fsencode(path)) > MAX_SOCKET_BYTES:
        raise _WrongError(
            f"{_shown(raw)} is too long", f"a socket's path has {MAX_SOCKET_BYTES} bytes at most"
        )
    return path


_HOST_PORT: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_ANYWHERE: Final = ("0.0.0.0", "[::]", "[::0]")  # noqa: S104 - refused as an address to be reached at


def _address(raw: Any) -> str:
    match = _HOST_PORT.fullmatch(raw) if isinstance(raw, str) else None
    if match is None:
        ipv6 = isinstance(raw, str) and raw.count(":") > 1
        remedy = "put the IPv6 address in brackets: [ADDRESS]:PORT" if ipv6 else "write HOST:PORT"
        raise _WrongError(f"{_shown(raw)} is no address with a port", remedy)
    if not 1 <= int(match[2]) <= 65_535:
        raise _WrongError(f"{_shown(raw)} has no valid port", "a port is 1 to 65535")
    return match[0]


def _peers(raw: Any) -> tuple[Peer, ...]:
    if not isinstance(raw, list):
        raise _WrongError(
            f"{_shown(raw)} is no list", 'write ["2:10.0.0.2:7001", "3:10.0.0.3:7001"]'
        )
    peers = tuple(_peer(entry) for entry in raw)
    for numbered in (0, 1):
        seen = [peer[numbered] for peer in peers]
        twice = sorted({str(one) for one in seen if seen.count(one) > 1})
        if twice:
            raise _WrongError(
                f'"{twice[0]}" occurs twice', "give every peer its own id and address"
            )
    return peers


def _peer(raw: Any) -> Peer:
    number, colon, address = raw.partition(":") if isinstance(raw, str) else ("", "", "")
    if not colon or not number.isascii() or not number.isdigit():
        raise _WrongError(
            f"{_shown(raw)} is no peer", "write ID:HOST:PORT, for example 2:10.0.0.2:7001"
        )
    return _NODE_ID(int(number)), _address(address)


def _options(raw: Any) -> Mapping[str, str]:
    if not isinstance(raw, dict):
        raise _WrongError(
            f"{_shown(raw)} is no table", 'write NAME = "VALUE" lines under [nix.options]'
        )
    for name, value in raw.items():
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise _WrongError(
                f'"{name}" is no name of a Nix option', "see nix.conf(5) for their names"
            )
        if not isinstance(value, str):
            raise _WrongError(f"{name} = {_shown(value)} is no string", f'write {name} = "{value}"')
    return dict(sorted(raw.items()))


def _shown(raw: Any) -> str:
    if isinstance(raw, bool):
        return str(raw).lower()
    return f'"{raw}"' if isinstance(raw, str) else str(raw)[:60]


_NODE_ID: Final = _integer(1, 65_535)


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
        "driver": Key("--driver", _one_of("auto", "systemd", "process")),
        "log_level": Key("--log-level", _one_of("debug", "info", "warning", "error")),
    },
    "capacity": {
        "vcpus": Key("--vcpus", _integer(1, 4096)),
        "memory_mib": Key("--memory-mib", _integer(16, 64 * 1024 * 1024)),
        "reserve_memory_mib": Key("--reserve-memory-mib", _integer(0, 64 * 1024 * 1024)),
    },
    "nix": {
        "binary": Key("--nix-binary", _program),
        "build_timeout_s": Key("--nix-build-timeout-s", _integer(1, 7 * 24 * 3600)),
        "options": Key("--nix-option", _options),
    },
}


# --- from raw values to a configuration ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Document:
    """A configuration file: its name, its text, and what TOML makes of it."""

    path: str
    text: str
    tables: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "_Document":
        import tomli

        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise Misconfigured([_unreadable(path, str(why))]) from error
        try:
            return cls(str(path), text, tomli.loads(text))
        except tomli.TOMLDecodeError as error:
            document = cls(str(path), text, {})
            raise Misconfigured([document.syntax_error(str(error))]) from error

    def syntax_error(self, said: str) -> Problem:
        """What the parser said, `... (at line 3, column 7)`, as a problem."""
        what, _, where = said.partition(" (at ")
        position = re.match(r"line (\d+), column (\d+)", where)
        line, column = (int(position[1]), int(position[2])) if position else (0, 0)
        rejected = Rejected(
            Code.CONFIG_SYNTAX,
            f"{Path(self.path).name} is no valid TOML",
            fixes=() if position else (Fix(what),),
        )
        return Problem(rejected, self.excerpt(line, column, 1, what))

    def place_of(self, table: str, key: str) -> tuple[int, int]:
        """Line and column of a key, from 1; (0, 0) if no plain line holds it."""
        wanted = re.compile(rf"""(\s*)["']?{re.escape(key)}["']?\s*=""")
        header = re.compile(r"""\s*\[+\s*["']?([^\]"']*?)["']?\s*\]""")
        current = ""
        for number, line in enumerate(self.text.splitlines(), start=1):
            headed = header.match(line)
            if headed:
                current = headed[1]
                if current in (f"{table}.{key}", key if not table else ""):
                    return number, line.index("[") + 2
            elif current == table and (found := wanted.match(line)):
                return number, len(found[1]) + 1
        return 0, 0

    def excerpt(self, line: int, column: int, width: int, remark: str) -> tuple[str, ...]:
        """The place and its line before, with a remark under `width` characters."""
        if line < 1:
            return ()
        lines = self.text.splitlines() or [""]
        margin = len(str(line)) + 1
        shown = range(max(1, line - 1), min(line, len(lines)) + 1)
        return (
            f"--> {self.path}:{line}:{column}",
            f"{'':{margin}} |",
            *(f"{number:{margin}} | {lines[number - 1]}".rstrip() for number in shown),
            f"{'':{margin}} | {'':{column - 1}}{'^' * width} {remark}".rstrip(),
        )


def _unreadable(path: Path, why: str) -> Problem:
    return Problem(
        Rejected(
            Code.CONFIG_UNREADABLE,
            f'cannot read the configuration "{path}"',
            why=why,
            fixes=(Fix("name the file with --config, or say everything with flags"),),
        )
    )


def _checked(
    tables: Mapping[str, Any], document: _Document | None, problems: list[Problem]
) -> dict[str, dict[str, Any]]:
    """The values that pass their checks. `document` is None for flags, which have no positions."""
    values: dict[str, dict[str, Any]] = {}
    for table, keys in tables.items():
        if table not in KEYS or not isinstance(keys, dict):
            assert document is not None
            problems.append(_unknown(document, "", table))
            continue
        for name, raw in keys.items():
            key = KEYS[table].get(name)
            if key is None:
                assert document is not None
                problems.append(_unknown(document, table, name))
                continue
            try:
                values.setdefault(table, {})[name] = key.check(raw)
            except _WrongError as wrong:
                problems.append(_wrong_value(document, table, name, wrong))
    return values


def _unknown(document: _Document, table: str, name: str) -> Problem:
    import difflib

    known = sorted(KEYS[table] if table else KEYS)
    near = difflib.get_close_matches(name, known, n=1)
    remark = f'did you mean "{near[0]}"?' if near else ""
    line, column = document.place_of(table, name)
    what = f'unknown key "{name}"' if table else f'unknown table or key "{name}"'
    within = f"keys of [{table}]" if table else "tables"
    rejected = Rejected(
        Code.CONFIG_KEY,
        f"{what} in {Path(document.path).name}",
        fixes=(Fix(remark),) if remark and not line else (),
    )
    facts = document.excerpt(line, column, len(name), remark)
    return Problem(rejected, (*facts, f"{within}: {', '.join(known)}"))


def _wrong_value(document: _Document | None, table: str, name: str, wrong: _WrongError) -> Problem:
    if document is None:
        told, facts = KEYS[table][name].flag, tuple[str, ...]()
    else:
        told = f"{table}.{name}"
        facts = document.excerpt(*document.place_of(table, name), len(name), wrong.is_wrong)
    fixes = (Fix(wrong.remedy),)
    return Problem(Rejected(Code.CONFIG_VALUE, f"{told}: {wrong.is_wrong}", fixes=fixes), facts)


def _assembled(values: Mapping[str, Mapping[str, Any]]) -> NodeConfig:
    node = values.get("node", {})
    bind = node.get("bind", "127.0.0.1:7001")
    advertise = node.get("advertise", bind)
    peers = node.get("peers", ())
    data_dir = node.get("data_dir", DATA_DIR)
    problems = list(_contradictions(node.get("id"), advertise, peers))
    if problems:
        raise Misconfigured(problems)
    return NodeConfig(
        node_id=node["id"],
        bind=bind,
        advertise=advertise,
        peers=peers,
        founding=node.get("bootstrap", not peers),
        data_dir=data_dir,
        socket=node.get("socket", _usual_socket(data_dir)),
        driver=node.get("driver", "auto"),
        log_level=node.get("log_level", "info"),
        capacity=CapacityConfig(**values.get("capacity", {})),
        nix=NixConfig(**values.get("nix", {})),
    )


def _contradictions(
    node_id: int | None, advertise: str, peers: tuple[Peer, ...]
) -> "list[Problem]":
    """What is wrong between keys that are each right by themselves."""
    told: list[tuple[str, str]] = []
    if node_id is None:
        told.append(("node.id is missing", "give this node a number: --id 1, or id = 1 in [node]"))
    if advertise.rpartition(":")[0] in _ANYWHERE:
        remedy = "say where its peers reach this node: --advertise HOST:PORT"
        told.append((f'node.advertise: nobody can be reached at "{advertise}"', remedy))
    if node_id in [number for number, _ in peers]:
        told.append((f"node.peers: {node_id} is this node's own id", "list only the other nodes"))
    if advertise in [address for _, address in peers]:
        told.append((f'node.peers: "{advertise}" is this node itself', "list only the other nodes"))
    return [
        Problem(Rejected(Code.CONFIG_VALUE, message, fixes=(Fix(remedy),)))
        for message, remedy in told
    ]


def _usual_socket(data_dir: Path) -> Path:
    """In the runtime directory where this process may write there, else beside its data."""
    runtime = RUNTIME_DIR if os.access(RUNTIME_DIR, os.W_OK) else data_dir
    return runtime / SOCKET_NAME
