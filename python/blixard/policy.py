"""How the cluster treats a VM: where it may run, and what follows when something fails."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

NODE_LABEL: Final = "node"
"""The label that every node has: its name."""


class OnQuorumLoss(StrEnum):
    """What becomes of a VM whose host cannot reach a majority of the cluster."""

    STOP = "stop"
    """It ends with the lease of its host, and starts on another."""
    KEEP = "keep"
    """It goes on; so it never starts on another host unless a person confirms that its own is
    down."""


class Failover(StrEnum):
    """Whether another host may start a VM whose host is lost."""

    AUTO = "auto"
    """If it has no volumes. Where that is not known, it may have some."""
    ALWAYS = "always"
    """Even if its volumes stay behind."""
    NEVER = "never"


class Strategy(StrEnum):
    """Which of several nodes that would do."""

    SPREAD = "spread"
    """The one with the largest share of its memory free."""
    PACK = "pack"
    """The one with the smallest."""


_WORD: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
MAX_WORD: Final = 63
"""How long a label, a value of one, or a group may be."""


def is_word(text: str) -> bool:
    """Whether a label, a value of one, or a group can be named so."""
    return 1 <= len(text) <= MAX_WORD and _WORD.issuperset(text)


@dataclass(frozen=True, slots=True)
class Term:
    """What a label of a node should be, or should not."""

    key: str
    value: str
    negated: bool = False

    @classmethod
    def parse(cls, text: str) -> "Term":
        """`KEY=VALUE` or `KEY!=VALUE`. Raises `ValueError`."""
        key, equals, value = text.partition("=")
        negated = key.endswith("!")
        key = key.removesuffix("!")
        if not equals or not is_word(key) or not is_word(value):
            raise ValueError(text)
        return cls(key, value, negated)

    def __str__(self) -> str:
        return f"{self.key}{'!=' if self.negated else '='}{self.value}"


@dataclass(frozen=True, slots=True)
class Relation:
    """VMs beside which another one should be, or should not: those of a group, and the one of that
    name. Beside means: on nodes with the same value of a label."""

    group: str
    label: str = NODE_LABEL

    @classmethod
    def parse(cls, text: str) -> "Relation":
        """`GROUP` or `GROUP/LABEL`. Raises `ValueError`."""
        group, slash, label = text.partition("/")
        if not is_word(group) or (slash and not is_word(label)):
            raise ValueError(text)
        return cls(group, label or NODE_LABEL)

    def __str__(self) -> str:
        return self.group if self.label == NODE_LABEL else f"{self.group}/{self.label}"


class CheckKind(StrEnum):
    """How a host finds out whether a guest serves."""

    TCP = "tcp"
    """`HOST:PORT` takes a connection."""
    HTTP = "http"
    """A URL answers with a status of 200 to 399."""
    COMMAND = "command"
    """A program of the host ends with status 0."""
    CONSOLE = "console"
    """A line of the console has this text in it."""


@dataclass(frozen=True, slots=True)
class GuestCheck:
    """What a host asks of a guest, again and again. Times in milliseconds."""

    kind: CheckKind
    target: str
    interval_ms: int = 10_000
    timeout_ms: int = 5_000
    failures: int = 3
    """So many in a row, and the guest is failing."""
    start_period_ms: int = 60_000
    """For so long after its start failures do not count, unless it has passed before."""
    restarts: bool = False
    """A failing guest is restarted, as one that ended by itself."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What an operator says of a VM beyond what it is. It may be changed at any time."""

    on_quorum_loss: OnQuorumLoss = OnQuorumLoss.STOP
    """A change holds from the next placement on."""
    failover: Failover = Failover.AUTO
    restart_limit: int = 5
    """After so many restarts in a row it is FAILED, until an operator starts it."""
    priority: int = 0
    """Of VMs that wait, those of a higher priority are placed first."""
    strategy: Strategy = Strategy.SPREAD
    group: str = ""
    require: tuple[Term, ...] = ()
    """All of them hold of its node. Like the other constraints, heeded when it is placed."""
    prefer: tuple[Term, ...] = ()
    near: tuple[Relation, ...] = ()
    prefer_near: tuple[Relation, ...] = ()
    apart: tuple[Relation, ...] = ()
    prefer_apart: tuple[Relation, ...] = ()
    check: GuestCheck | None = None
