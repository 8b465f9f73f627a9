"""Flakes whose runner is a shell script: everything is real but the guest."""

from pathlib import Path

_FLAKE = """{
  outputs = { self }: {
    nixosConfigurations.guest.config.microvm.volumes = [ ];
    nixosConfigurations.guest.config.microvm.declaredRunner = derivation {
      name = "microvm-guest";
      system = "x86_64-linux";
      builder = "/bin/sh";
      args = [ ./build ];
      run = ./run;
      shutdown = ./shutdown;
    };
  };
}
"""
_BUILD = """PATH=/bin:/usr/bin
mkdir -p $out/bin
cp $run $out/bin/microvm-run
cp $shutdown $out/bin/microvm-shutdown
chmod 755 $out/bin/*
"""
_SHUTDOWN = """#!/bin/sh
touch stop
while [ -e running ]; do sleep 0.1; done
"""


def flake_of_runner(folder: Path, script: str, build: str = _BUILD) -> str:
    """A folder with a flake whose guest is `script`; it stops when the file `stop` appears."""
    folder.mkdir(parents=True)
    (folder / "flake.nix").write_text(_FLAKE)
    (folder / "build").write_text(build)
    prologue = "#!/bin/sh\nrm -f stop\ntouch running\ntrap 'rm -f running' EXIT\n"
    (folder / "run").write_text(prologue + script)
    (folder / "shutdown").write_text(_SHUTDOWN)
    return f"{folder}#guest"


def broken_flake(folder: Path, text: str) -> str:
    """A folder whose flake is `text`."""
    folder.mkdir(parents=True)
    (folder / "flake.nix").write_text(text)
    return f"{folder}#guest"
