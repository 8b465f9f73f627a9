"""A node's configuration: a TOML file, the flags of `blixard node`, and what holds without either.

Both speak of the same keys and pass the same checks. Reading is strict: what is not understood is
refused, and all problems are told at once.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from blixard.config.document import Document, Misconfigured, Problem, checked
from blixard.config.keys import KEYS, Peer
from blixard.errors import Code
from blixard.lease import LeaseTimes, flaws
from blixard.model import Fix, Rejected

__all__ = [
    "KEYS",
    "CapacityConfig",
    "Misconfigured",
    "NixConfig",
    "NodeConfig",
    "Peer",
    "Problem",
    "load",
]

DATA_DIR: Final = Path("/var/lib/blixard")
RUNTIME_DIR: Final = Path("/run/blixard")
SOCKET_NAME: Final = "api.sock"
ANYWHERE: Final = ("0.0.0.0", "[::]", "[::0]")  # noqa: S104 - refused as an address to be reached at


@dataclass(frozen=True, slots=True)
class CapacityConfig:
    """What this host offers to VMs; None stands for what the machine has."""

    vcpus: int | None = None
    memory_mib: int | None = None
    reserve_memory_mib: int = 512
    """Kept for the host itself; only of account where `memory_mib` is left to the machine."""
    disk_mib: int | None = None
    reserve_disk_mib: int = 1024
    """The same of disk."""


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
    lease: LeaseTimes = field(default_factory=LeaseTimes)
    watchdog_mode: str = "auto"
    """`guaranteed`: no VM without a watchdog; `best-effort`: nobody relies on one; `auto`: as it is
    found."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What its operator says of it, for the placement of VMs."""
    metrics_bind: str | None = None
    """Where Prometheus is answered, `host:port`; None: nowhere."""


def load(path: Path | None, flags: Mapping[str, Mapping[str, Any]]) -> NodeConfig:
    """The configuration of a node from the file at `path`, if any, and from `flags`, which win.

    Both are tables of keys, as in the file. Raises `Misconfigured`.
    """
    problems: list[Problem] = []
    document = Document.read(path) if path is not None else Document("", "", {})
    values = checked(document.tables, document, problems)
    for table, keys in checked(flags, None, problems).items():
        values.setdefault(table, {}).update(keys)
    if problems:
        raise Misconfigured(problems)
    return _assembled(values)


def _assembled(values: Mapping[str, Mapping[str, Any]]) -> NodeConfig:
    node = values.get("node", {})
    bind = node.get("bind", "127.0.0.1:7001")
    advertise = node.get("advertise", bind)
    peers = node.get("peers", ())
    data_dir = node.get("data_dir", DATA_DIR)
    lease = LeaseTimes(**values.get("lease", {}))
    problems = [*_contradictions(node.get("id"), advertise, peers), *_unsafe(lease)]
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
        lease=lease,
        labels=node.get("labels", {}),
        watchdog_mode=values.get("watchdog", {}).get("mode", "auto"),
        metrics_bind=values.get("metrics", {}).get("bind"),
    )


def _contradictions(
    node_id: int | None, advertise: str, peers: tuple[Peer, ...]
) -> Iterator[Problem]:
    """What is wrong between keys that are each right by themselves."""
    if node_id is None:
        yield _problem("node.id is missing", "give this node a number: --id 1, or id = 1 in [node]")
    if advertise.rpartition(":")[0] in ANYWHERE:
        message = f'node.advertise: nobody can be reached at "{advertise}"'
        yield _problem(message, "say where its peers reach this node: --advertise HOST:PORT")
    if node_id in [number for number, _ in peers]:
        yield _problem(f"node.peers: {node_id} is this node's own id", "list only the other nodes")
    if advertise in [address for _, address in peers]:
        message = f'node.peers: "{advertise}" is this node itself'
        yield _problem(message, "list only the other nodes")


def _unsafe(lease: LeaseTimes) -> Iterator[Problem]:
    """Times that would keep no VM running, or not keep two of them apart."""
    usual = ", ".join(f"{key} = {value}" for key, value in asdict(LeaseTimes()).items())
    for flaw in flaws(lease):
        yield _problem(f"lease: {flaw}", f"change these keys of [lease]; usual are {usual}")


def _problem(message: str, remedy: str) -> Problem:
    return Problem(Rejected(Code.CONFIG_VALUE, message, fixes=(Fix(remedy),)))


def _usual_socket(data_dir: Path) -> Path:
    """In the runtime directory where this process may write there, else beside its data."""
    runtime = RUNTIME_DIR if os.access(RUNTIME_DIR, os.W_OK) else data_dir
    return runtime / SOCKET_NAME
