"""Packs a file or a folder, so that it can travel with the command and any host can build it.

The same content gives the same bytes, whoever packs it and when: the archive's digest names it.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blixard.cli.failure import Failure, failure
from blixard.cli.units import count
from blixard.errors import Code
from blixard.model import (
    Fix,
    Rejected,
)
from blixard.source import MAX_SOURCE_BYTES, MAX_SOURCE_FILES, MAX_UNPACKED_BYTES

if TYPE_CHECKING:
    from tarfile import TarFile, TarInfo

MODULE: Final = "microvm.nix"
_STORE: Final = "/nix/store/"


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive, and what went into it."""

    content: bytes
    files: int


def pack_file(path: Path) -> Packed:
    """A NixOS module as the only file of an archive. Raises `Failure`."""
    return _packed([(MODULE, path)], path)


def pack_folder(root: Path) -> Packed:
    """A folder without `.git` and the links that `nix build` leaves. Raises `Failure`."""
    return _packed(sorted(_entries(root, root)), root)


def _entries(root: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    with os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries if entry.name != ".git"]
    for path in found:
        if path.is_symlink() and _is_build_result(path):
            continue
        yield str(path.relative_to(root)), path
        if path.is_dir() and not path.is_symlink():
            yield from _entries(root, path)


def _is_build_result(path: Path) -> bool:
    named = path.name == "result" or path.name.startswith("result-")
    return named and str(path.readlink()).startswith(_STORE)


def _packed(entries: "list[tuple[str, Path]] | Iterator[tuple[str, Path]]", root: Path) -> Packed:
    """A gzip'd tar archive of the entries, in their order, without times, owners or the umask."""
    import gzip
    import tarfile

    buffer = BytesIO()
    total_bytes = files = 0
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, path in entries:
            member = tarfile.TarInfo(name)
            total_bytes += _add(archive, member, path, root)
            files += 1
            if files > MAX_SOURCE_FILES:
                raise _too_large(root, f"more than {MAX_SOURCE_FILES} files")
            if total_bytes > MAX_UNPACKED_BYTES:
                raise _too_large(root, f"more than {MAX_UNPACKED_BYTES // 1024 // 1024} MiB")
    content = buffer.getvalue()
    if len(content) > MAX_SOURCE_BYTES:
        size = f"{len(content) / 1024:.0f} KiB packed; {MAX_SOURCE_BYTES // 1024} KiB may travel"
        raise _too_large(root, size)
    return Packed(content, files)


def _add(archive: "TarFile", member: "TarInfo", path: Path, root: Path) -> int:
    """Add one entry; returns its size in bytes."""
    import tarfile

    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            member.type = tarfile.SYMTYPE
            member.mode = 0o777
            member.linkname = _inner_target(path, root)
            archive.addfile(member)
        elif stat.S_ISDIR(mode):
            member.type = tarfile.DIRTYPE
            member.mode = 0o755
            archive.addfile(member)
        elif stat.S_ISREG(mode):
            content = _content(path, root)
            member.size = len(content)
            member.mode = 0o755 if mode & stat.S_IXUSR else 0o644
            archive.addfile(member, BytesIO(content))
        else:
            raise _unpackable(path, "it is a device, a pipe or a socket")
    except OSError as error:
        raise _unpackable(path, str(error.strerror)) from error
    return member.size


def _content(path: Path, root: Path) -> bytes:
    """A file's bytes; what was replaced by a link since it was looked at is not followed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(MAX_UNPACKED_BYTES + 1)
    if len(content) > MAX_UNPACKED_BYTES:
        raise _too_large(root, f"{path.name} alone has more than {MAX_UNPACKED_BYTES} bytes")
    return content


def _inner_target(path: Path, root: Path) -> str:
    """Where a link points, if that is a relative way to a place within the folder."""
    target = path.readlink()
    lexical = Path(os.path.normpath(path.relative_to(root).parent / target))
    if target.is_absolute() or ".." in lexical.parts:
        raise _unpackable(path, f'it is a link to "{target}", outside of the folder')
    if not (path.parent / target).resolve().is_relative_to(root.resolve()):
        raise _unpackable(path, f'it is a link to "{target}", outside of the folder')
    return str(target)


def _unpackable(path: Path, why: str) -> Failure:
    message = f'"{path}" cannot be packed'
    return failure(Code.BAD_ARGUMENT, message, why=why, fix="remove it, or name a git reference")


def _too_large(root: Path, size: str) -> Failure:
    rejected = Rejected(
        Code.SOURCE_TOO_LARGE,
        f'"{root}" is too large to travel with the command: {size}',
        why="what travels is kept by every node",
        fixes=(
            Fix("push it, and name the repository", "--config git+https://HOST/REPOSITORY#NAME"),
            Fix("or the same on GitHub", "--config github:OWNER/REPOSITORY#NAME"),
        ),
    )
    return Failure(rejected)


def described(packed: Packed) -> str:
    """What will travel, in words."""
    size = f"{max(1, len(packed.content) // 1024)} KiB of {MAX_SOURCE_BYTES // 1024} allowed"
    return f"packed {count(packed.files, 'file')}, {size}"
