"""Where a VM comes from."""

from dataclasses import dataclass
from typing import Final

MAX_SOURCE_BYTES: Final = 256 * 1024
"""The largest packed source that may travel through the log, in bytes."""

MAX_SOURCE_FILES: Final = 4096
"""How many files and folders a packed source may hold."""

MAX_UNPACKED_BYTES: Final = 16 * 1024 * 1024
"""What a packed source may grow to when it is unpacked."""


@dataclass(frozen=True, slots=True)
class FlakeSource:
    """A flake output pinned when the VM was created, so that every host builds the same thing."""

    url: str
    """The locked flake reference, with its revision."""
    attribute: str
    """The name under `nixosConfigurations`."""
    nar_hash: str


@dataclass(frozen=True, slots=True)
class PackedSource:
    """A file or folder that travelled with the command; its bytes are in `Cluster.sources`."""

    digest: str
    """SHA-256 of the archive, in hex."""
    attribute: str


@dataclass(frozen=True, slots=True)
class StoreSource:
    """A finished runner that already lies in the Nix store."""

    path: str


Source = FlakeSource | PackedSource | StoreSource
