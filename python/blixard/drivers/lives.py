"""Remembers this node's incarnation until the host is booted again."""

import json
import os
from pathlib import Path

from blixard.errors import BlixardError, Code


class LifeFile:
    """Implements `ports.Lives` with a small file. What was written under another boot id is void:
    the VMs of that life died with that boot."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id

    def load(self) -> int | None:
        """The incarnation of this boot, if there is one. Raises `BlixardError` (DATA_CORRUPT)."""
        try:
            life = json.loads(self._path.read_bytes())
            return int(life["incarnation"]) if life["boot_id"] == self._boot_id else None
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as damage:
            raise BlixardError(
                f"{self._path} is damaged: {damage}",
                remedy="remove it: the node then stops its VMs and begins a new life",
                code=Code.DATA_CORRUPT,
            ) from damage

    def save(self, incarnation: int) -> None:
        """Remember an incarnation; it is on the disk when this returns."""
        scratch = self._path.with_suffix(".new")
        with scratch.open("w") as file:
            json.dump({"incarnation": incarnation, "boot_id": self._boot_id}, file)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
