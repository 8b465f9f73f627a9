"""What the hosts are made of: three layers, each built once and kept.

- `base`: Debian with systemd, Nix and QEMU, from the mirror that apt uses on this machine;
- `environment`: a virtual environment with the locked requirements;
- `project`: this checkout, installed, with the units and the users of a host.

They lie in `$XDG_CACHE_HOME/blixard/hosts`, each under a digest of all that went into it. A layer
gets its name when it is finished, so an interrupted build is never taken for one.
"""

import fcntl
import hashlib
import inspect
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from hosts.container import TIED, end_cgroup, nspawn
from nix.golden import GOLDEN, units

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
PYTHON: Final = ROOT / "python"
LOCKS: Final = (PYTHON / "requirements-build.lock", PYTHON / "requirements.lock")
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "blixard/hosts"

VENV: Final = "/opt/blixard/venv"
"""Where the virtual environment lies in a host."""

SUITE: Final = "trixie"
PACKAGES: Final = (
    *("systemd", "systemd-sysv", "dbus", "polkitd", "procps", "iproute2", "netcat-openbsd"),
    *("nix-bin", "nix-setup-systemd", "git", "qemu-system-x86", "busybox-static"),
    *("python3", "python3-venv", "python3-gi", "python3-pydbus", "python3-systemd"),
)
MASKED: Final = (
    # The network is there before the host is, and nobody logs in.
    *("systemd-networkd.service", "systemd-networkd.socket"),
    *("console-getty.service", "getty@tty1.service"),
    # A host lives for minutes.
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer"),
)

CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
"""Whom this machine trusts, for pip in a layer that is being built."""

PIP_SETTINGS: Final = ("HTTPS_PROXY", "PIP_DEFAULT_TIMEOUT", "PIP_INDEX_URL", "PIP_PROXY")

SITE_PACKAGES: Final = f"{VENV}/lib/python3.13/site-packages"
CONFIGURATION: Final = "three-node"
"""The units of a host are those that NixOS renders for this one (tests/nix/golden)."""

# Where a host has what NixOS has in its store; the rest is Debian's, below /usr.
INSTEAD: Final = {
    "@python3@/bin/python3 -I -S @source@": f"/usr/bin/python3 -I -S {SITE_PACKAGES}",
    "@blixard@/bin/": "/usr/local/bin/",
    "@microvm-stop@/bin/": "/usr/local/bin/",
    "@unit-script-microvm-set-booted_-start@/bin/": "/usr/local/bin/",
}

# One source for what NixOS and these hosts have in common.
SHARED: Final = {
    ROOT / "nixos-modules/polkit.rules": Path("etc/polkit-1/rules.d/10-blixard.rules"),
    ROOT / "nixos-modules/microvm-stop.sh": Path("usr/local/bin/microvm-stop"),
}

Build = Callable[[Path, list[Path]], None]
"""Fills an empty folder, given the finished layers below it, topmost first."""


@dataclass(frozen=True)
class Layer:
    """One layer, and the files that decide its content beside the code of this module."""

    build: Build
    ingredients: tuple[Path, ...]

    @property
    def name(self) -> str:
        return self.build.__name__

    def digest(self, below: str) -> str:
        """Names the content, given the name of all that lies below."""
        digest = hashlib.sha256(f"{below}\n{inspect.getsource(self.build)}".encode())
        for path in self.ingredients:
            digest.update(f"\n{path.relative_to(ROOT)}\n".encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]


@contextmanager
def hosts_layers() -> Iterator[list[Path]]:
    """The layers of a host, topmost first: built if they are missing, kept while in use.

    What no run uses any more is removed from the cache.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with ExitStack() as in_use:
        with _locked(CACHE / "lock", fcntl.LOCK_EX):
            finished: list[Path] = []
            name = f"{SUITE} {PACKAGES} {MASKED}"
            for layer in _layers():
                name = f"{layer.name}-{layer.digest(name)}"
                folder = CACHE / name
                if not folder.exists():
                    _build(layer, folder, finished)
                in_use.enter_context(_locked(folder.with_suffix(".lock"), fcntl.LOCK_SH))
                finished.insert(0, folder)
            _prune(keep=finished)
        yield finished


def _layers() -> tuple[Layer, ...]:
    sources = sorted(path for path in (PYTHON / "blixard").rglob("*.py*") if path.suffix != ".pyc")
    files = sorted(path for path in (HERE / "files").rglob("*") if path.is_file())
    return (
        Layer(base, ()),
        Layer(environment, LOCKS),
        Layer(
            project,
            (PYTHON / "pyproject.toml", *sources, *files, *SHARED, GOLDEN / CONFIGURATION),
        ),
    )


def _build(layer: Layer, folder: Path, below: list[Path]) -> None:
    scratch = CACHE / "building"
    shutil.rmtree(scratch, ignore_errors=True)
    content = scratch / "upper"
    content.mkdir(parents=True)
    layer.build(content, below)
    content.rename(folder)
    shutil.rmtree(scratch)


def _prune(keep: list[Path]) -> None:
    for folder in CACHE.glob("*-*/"):
        if folder in keep:
            continue
        lock = folder.with_suffix(".lock")
        try:
            with _locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
                shutil.rmtree(folder)
                lock.unlink()
        except BlockingIOError:
            continue


@contextmanager
def _locked(path: Path, how: int) -> Iterator[IO[bytes]]:
    with path.open("ab") as lock:
        fcntl.flock(lock, how)
        yield lock


def base(folder: Path, below: list[Path]) -> None:
    """Debian, without what mmdebstrap copies from this machine."""
    assert not below
    apt_conf = folder.with_name("apt.conf")
    # How this machine reaches its mirror, and how it judges dates.
    settings = [line for line in _output("apt-config", "dump") if line.startswith("Acquire::")]
    apt_conf.write_text("\n".join(settings) + "\n")
    options = [f"--include={','.join(PACKAGES)}", f"--aptopt={apt_conf}"]
    # In a namespace of its own: its mounts must not outlive it below a folder that is then removed.
    private = [*TIED, "unshare", "--mount", "--propagation", "private"]
    mmdebstrap = ["mmdebstrap", "--quiet", "--variant=minbase", *options]
    subprocess.run([*private, *mmdebstrap, SUITE, str(folder), _mirror()], check=True)
    for name in ("etc/apt/apt.conf.d/99mmdebstrap", "etc/hostname", "etc/resolv.conf"):
        (folder / name).unlink(missing_ok=True)
    for unit in MASKED:
        (folder / "etc/systemd/system" / unit).symlink_to("/dev/null")


def _mirror() -> str:
    listing = _output("apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)")
    mirrors = [line.removeprefix("Debian ") for line in listing if line.startswith("Debian ")]
    if not mirrors:
        raise RuntimeError("apt knows no Debian mirror on this machine: run `apt-get update`")
    return mirrors[0]


def _output(*command: str) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def environment(folder: Path, below: list[Path]) -> None:
    """The virtual environment, made as the Makefile makes that of a checkout."""
    _run(folder, below, "/usr/bin/python3", "-m", "venv", "--system-site-packages", VENV)
    for lock in LOCKS:
        _pip(folder, below, lock, "--require-hashes", "--requirement", "/run/source")


def project(folder: Path, below: list[Path]) -> None:
    """The package, `/usr/local/bin/blixard`, and the units, rules and users of a host."""
    source = folder.with_name("python")
    shutil.copytree(PYTHON, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    _pip(folder, below, source, "--no-deps", "--no-index", "/run/source")
    shutil.copytree(HERE / "files", folder, dirs_exist_ok=True)
    for origin, target in SHARED.items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(origin, folder / target)
    stop = folder / "usr/local/bin/microvm-stop"
    stop.write_text(f"#!/bin/sh\n{stop.read_text()}")
    stop.chmod(0o755)
    (folder / "usr/local/bin/blixard").symlink_to(f"{VENV}/bin/blixard")
    for name, text in units(CONFIGURATION).items():
        _install(folder / "etc/systemd/system" / name, text)
    _run(folder, below, "systemd-sysusers")


def _install(path: Path, unit: str) -> None:
    """Write a unit, with this host's programs, and enable it as it says."""
    for theirs, ours in INSTEAD.items():
        unit = unit.replace(theirs, ours)
    path.write_text(re.sub(r"@[\w+.-]+@/(s?bin)", r"/usr/\1", unit))
    for target in re.findall(r"^WantedBy=(.*)$", unit, re.MULTILINE):
        wants = path.parent / f"{target}.wants"
        wants.mkdir(exist_ok=True)
        (wants / path.name).symlink_to(f"/etc/systemd/system/{path.name}")


def _pip(folder: Path, below: list[Path], source: Path, *arguments: str) -> None:
    """Install from `source`, which appears as /run/source, from the index this machine uses."""
    settings = {key: os.environ[key] for key in PIP_SETTINGS if key in os.environ}
    options = [f"--bind={source}:/run/source", "--resolv-conf=bind-host"]
    if CERTIFICATES.exists():
        options.append(f"--bind-ro={CERTIFICATES}:/run/certificates")
        settings["PIP_CERT"] = "/run/certificates"
    options += [f"--setenv={key}={value}" for key, value in sorted(settings.items())]
    pip = [f"{VENV}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    build = ["--no-build-isolation", "--use-pep517"]
    _run(folder, below, *pip, *build, *arguments, options=options)


def _run(folder: Path, below: list[Path], *command: str, options: Sequence[str] = ()) -> None:
    """Run a command on the layers; its changes are the new one."""
    cgroup = f"blixard-layers-{os.getpid()}"
    try:
        done = subprocess.run(
            nspawn(cgroup, below, folder.parent, "--pipe", *options, *command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    finally:
        end_cgroup(cgroup)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}")
