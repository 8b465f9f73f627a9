"""What a daemon takes of a changed configuration while it runs, and what has to wait."""

from dataclasses import fields, replace
from typing import Final

from blixard.config import NodeConfig

_KEYS: Final = {
    "founding": "node.bootstrap",
    "metrics_bind": "metrics.bind",
    "node_id": "node.id",
    "watchdog_mode": "watchdog.mode",
}


def taken(present: NodeConfig, wanted: NodeConfig) -> tuple[NodeConfig, list[str]]:
    """The present configuration with what can change, and the keys that need a restart."""
    live = replace(
        present,
        capacity=wanted.capacity,
        labels=wanted.labels,
        log_level=wanted.log_level,
        nix=wanted.nix,
    )
    waiting = [
        _key(field.name)
        for field in fields(live)
        if getattr(live, field.name) != getattr(wanted, field.name)
    ]
    return live, waiting


def _key(field: str) -> str:
    return _KEYS.get(field, field if field == "lease" else f"node.{field}")
