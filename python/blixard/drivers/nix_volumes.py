"""The images that a runner writes to, read from the configuration that it was built from.

They lie on one host, so they tie a VM to it; what is not known may be anything. A runner that came
finished tells nothing. The answer is kept beside the root of its runner.
"""

import json
from pathlib import Path

from blixard.drivers.nix_command import NixCommand
from blixard.errors import BlixardError

Volumes = tuple[str, ...] | None


async def of(nix: NixCommand, vm: str, folder: Path, timeout_ms: int) -> Volumes:
    """The volumes of a configuration, `REF#nixosConfigurations.NAME.config.microvm`; None if that
    cannot be told, for whatever reason: it is no failure of the build."""
    if not vm:
        return None
    # What fails here must not be found in the cache by the build beside it, in other words.
    arguments = ["eval", "--json", "--no-update-lock-file", "--no-eval-cache", f"{vm}.volumes"]
    try:
        finished = await nix.run(
            [*arguments, "--apply", "map (volume: volume.image)"],
            timeout_ms=timeout_ms,
            directory=folder,
        )
        return _images(json.loads(finished.stdout)) if finished.status == 0 else None
    except (BlixardError, OSError, TimeoutError, ValueError):
        return None


def save(path: Path, runner: str, volumes: Volumes) -> None:
    """Remember the volumes of a runner. A file that was half written is no answer later."""
    path.write_text(json.dumps({"runner": runner, "volumes": volumes}))


def load(path: Path, runner: str) -> Volumes:
    """What was remembered of this very runner."""
    try:
        kept = json.loads(path.read_bytes())
        return _images(kept["volumes"]) if kept["runner"] == runner else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _images(told: object) -> Volumes:
    if not isinstance(told, list) or not all(isinstance(image, str) for image in told):
        return None
    return tuple(told)
