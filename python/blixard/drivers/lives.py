"""Remembers this node's incarnation until the host is booted again."""

import json
import logging
from pathlib import Path

_log = logging.getLogger(__name__)


class LifeFile:
    """Implements `ports.Lives` with a small file.

    It outlives the daemon, however that ends, and nothing more is wanted of it: what was written
    under another boot id is void, for the VMs of that life died with that boot. So it is replaced
    in one step, but never waits for the disk.
    """

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id

    def load(self) -> int | None:
        """The incarnation of this boot. A damaged file is as good as none: without a life, a node
        makes sure that nothing runs on it, and begins a new one."""
        try:
            life = json.loads(self._path.read_bytes())
            return int(life["incarnation"]) if life["boot_id"] == self._boot_id else None
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as damage:
            _log.warning("%s is damaged (%s): this node begins a new life", self._path, damage)
            return None

    def save(self, incarnation: int) -> None:
        scratch = self._path.with_suffix(".new")
        scratch.write_text(json.dumps({"incarnation": incarnation, "boot_id": self._boot_id}))
        scratch.replace(self._path)
