"""Flakes that build in a moment: no nixpkgs, the builder is the machine's own shell."""

import io
import tarfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from blixard.drivers.nix_command import NixCommand
from blixard.source import FlakeSource, PackedSource

OFFLINE = {
    "build-users-group": "",
    "filter-syscalls": "false",
    "flake-registry": "",
    "sandbox": "false",
    "substituters": "",
}

RUNNER = "mkdir -p $out/bin; printf '#!/bin/sh\\n' > $out/bin/microvm-run; chmod +x $out/bin/*"


def offline_nix() -> NixCommand:
    return NixCommand(options=OFFLINE)


def flake(script: str, attribute: str = "web", volumes: str | None = None) -> str:
    """The text of a flake whose runner is what `script` makes of `$out`. `volumes` is a Nix list;
    None leaves them out."""
    told = (
        f'nixosConfigurations."{attribute}".config.microvm.volumes = {volumes};' if volumes else ""
    )
    return f"""{{
  outputs = {{ self }}: {{
    {told}
    nixosConfigurations."{attribute}".config.microvm.declaredRunner = derivation {{
      name = "runner";
      system = "x86_64-linux";
      builder = "/bin/sh";
      PATH = "/bin:/usr/bin";
      args = [ "-c" ''{script}'' ];
    }};
  }};
}}
"""


def flake_source(folder: Path, text: str, attribute: str = "web") -> FlakeSource:
    """Such a flake in a folder of its own, as a source that needs no pinning."""
    folder.mkdir(parents=True)
    (folder / "flake.nix").write_text(text)
    return FlakeSource(f"path:{folder}", attribute, "")


def pack(files: Mapping[str, str]) -> bytes:
    """The files as a packed source."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


def packed_source(content: bytes, attribute: str = "web") -> PackedSource:
    return PackedSource(sha256(content).hexdigest(), attribute)
