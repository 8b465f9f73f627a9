"""Unpacks the archive of a packed source, trusting nothing that it says."""

import hashlib
import io
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from blixard.errors import BlixardError, Code
from blixard.source import MAX_SOURCE_BYTES, MAX_SOURCE_FILES, MAX_UNPACKED_BYTES


class ArchiveError(BlixardError):
    """The archive is not what it should be."""

    code = Code.SOURCE_UNREADABLE


def unpack(content: bytes, digest: str, target: Path) -> None:
    """Unpack the gzip'd tar `content` into the empty directory `target`.

    Raises `ArchiveError` if its SHA-256 is not `digest`, if it is too large (packed, unpacked or in
    number of files), or if it holds anything but directories, files and links that stay within it.
    """
    if len(content) > MAX_SOURCE_BYTES:
        raise ArchiveError(f"the packed source is larger than {MAX_SOURCE_BYTES} bytes")
    if hashlib.sha256(content).hexdigest() != digest:
        raise ArchiveError("the packed source does not have the digest it was announced with")
    try:
        # Inflated in memory first: the size is known before a byte is written.
        with tarfile.open(fileobj=io.BytesIO(_inflate(content)), mode="r:") as archive:
            members = archive.getmembers()
            _check(members)
            _extract(archive, members, target)
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, KeyError) as damage:
        raise ArchiveError(f"the packed source cannot be unpacked: {damage}") from damage


def _inflate(content: bytes) -> bytes:
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # gzip
    # Headers and padding come on top of the files' own bytes.
    data = inflater.decompress(content, MAX_UNPACKED_BYTES + MAX_SOURCE_FILES * 1024)
    if inflater.unconsumed_tail:
        raise ArchiveError(f"the source unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    if not inflater.eof:
        raise ArchiveError("the packed source is cut short")
    return data


def _check(members: list[tarfile.TarInfo]) -> None:
    """Refuse what has no place in a source. No member may lie behind a link or a file, so that
    nothing can be written through one."""
    if len(members) > MAX_SOURCE_FILES:
        raise ArchiveError(f"the packed source holds more than {MAX_SOURCE_FILES} files")
    seen: dict[PurePosixPath, bool] = {}
    for member in members:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise ArchiveError(f"the packed source names '{member.name}', which is outside of it")
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise ArchiveError(f"'{member.name}' in the packed source is a device or a pipe")
        if path in seen and not (member.isdir() and seen[path]):
            raise ArchiveError(f"'{member.name}' is in the packed source twice")
        seen[path] = member.isdir()
    for path in seen:
        if not all(seen.get(parent, True) for parent in path.parents):
            raise ArchiveError(f"'{path}' in the packed source lies behind another member")


def _extract(archive: tarfile.TarFile, members: list[tarfile.TarInfo], target: Path) -> None:
    """Write members that were checked: only their names, contents and whether they can be run."""
    left_bytes = MAX_UNPACKED_BYTES
    for member in members:
        path = target / member.name
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.issym():
            path.symlink_to(member.linkname)
            continue
        # What is linked to is looked up within the archive, and copied.
        file = archive.extractfile(member)
        assert file is not None
        data = file.read()
        left_bytes -= len(data)
        if left_bytes < 0:
            raise ArchiveError(f"the source unpacks to more than {MAX_UNPACKED_BYTES} bytes")
        path.write_bytes(data)
        path.chmod(0o755 if member.mode & 0o100 else 0o644)
    for member in members:
        if member.issym() and not _lies_within(target / member.name, target):
            raise ArchiveError(f"'{member.name}' in the packed source links out of it")


def _lies_within(link: Path, target: Path) -> bool:
    try:
        return link.resolve().is_relative_to(target.resolve())
    except RuntimeError:  # a loop
        return False
