"""What lies on the disk of VMs that systemd runs: their directories, and what they run for."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from blixard.errors import BlixardError, Code

_MARK = "blixard"
"""Marks a VM's directory as ours: microvm.nix declares VMs of its own beside them."""


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """What a unit was started for."""

    uid: int
    epoch: int
    runner: str


class UnitFiles:
    """`state` holds a directory for each VM, as microvm.nix wants it. `records` holds what they run
    for; it must not outlive a boot, for then nothing of it is true any more (tmpfs(5))."""

    def __init__(self, state: Path, records: Path) -> None:
        self._state = state
        self._records = records

    def records(self) -> Mapping[str, UnitRecord]:
        """The records of this boot. Raises `BlixardError` (DATA_CORRUPT) if one is damaged."""
        self._records.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = {}
        for path in sorted(self._records.glob("*.json")):
            try:
                found[path.stem] = UnitRecord(**json.loads(path.read_bytes()))
            except (ValueError, TypeError) as damage:
                raise BlixardError(
                    f"{path} is damaged: {damage}",
                    remedy=f"stop microvm@{path.stem}.service, then remove the file",
                    code=Code.DATA_CORRUPT,
                ) from damage
        return found

    def ours(self, loaded: set[str]) -> set[str]:
        """The VMs to look after: those that have a record, and those of the loaded ones that carry
        our mark although theirs is lost."""
        return {*self.records(), *(vm for vm in loaded if (self._state / vm / _MARK).exists())}

    def prepare(self, name: str, record: UnitRecord) -> None:
        """Make the unit of a VM run this runner at its next start, and note what for.

        Raises `BlixardError` if the directory is another's.
        """
        directory = self._state / name
        if not directory.exists():
            directory.mkdir()
        elif not (directory / _MARK).exists() and any(directory.iterdir()):
            raise BlixardError(f"{directory} belongs to a VM that is not Blixard's")
        if directory.stat().st_uid == os.geteuid():
            # The guest's user writes here too: microvm.nix has it belong to its group. This is done
            # for each start, as an earlier one may have come to an end before it.
            os.chown(directory, -1, self._state.stat().st_gid)
            directory.chmod(0o775)
        (directory / _MARK).touch()
        _replace_link(directory / "current", record.runner)
        # microvm-set-booted@ does so too, unless it is still active from a life before.
        _replace_link(directory / "booted", record.runner)
        scratch = self._records / f"{name}.new"
        scratch.write_text(json.dumps(asdict(record)))
        scratch.replace(self._records / f"{name}.json")

    def forget(self, name: str) -> None:
        """Forget what a VM was started for, and that it could be started: only a placement may."""
        (self._state / name / "current").unlink(missing_ok=True)
        (self._records / f"{name}.json").unlink(missing_ok=True)


def _replace_link(link: Path, target: str) -> None:
    scratch = link.with_name(f"{link.name}.new")
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(target)
    scratch.replace(link)
