"""Unpacks the archive of a packed source, trusting nothing that it says."""

import hashlib
import io
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from blixard.errors import BlixardError, Code
from blixard.model import MAX_SOURCE_BYTES

MAX_UNPACKED_BYTES = 16 * 1024 * 1024
MAX_MEMBERS = 4096


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
            archive.extractall(target, members, filter="data")
    except tarfile.FilterError as attack:
        raise ArchiveError(f"the packed source was refused: {attack}") from attack
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as damage:
        raise ArchiveError(f"the packed source cannot be unpacked: {damage}") from damage


def _inflate(content: bytes) -> bytes:
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # gzip
    # Headers and padding come on top of the files' own bytes.
    data = inflater.decompress(content, MAX_UNPACKED_BYTES + MAX_MEMBERS * 1024)
    if inflater.unconsumed_tail:
        raise ArchiveError(f"the source unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    if not inflater.eof:
        raise ArchiveError("the packed source is cut short")
    return data


def _check(members: list[tarfile.TarInfo]) -> None:
    """Refuse what tarfile's own filter (PEP 706) lets pass or repairs. It has been got round before
    by writing through links, so here no member lies behind a link at all."""
    if len(members) > MAX_MEMBERS:
        raise ArchiveError(f"the packed source holds more than {MAX_MEMBERS} files")
    if sum(member.size for member in members) > MAX_UNPACKED_BYTES:
        raise ArchiveError(f"the source unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    links = {PurePosixPath(member.name) for member in members if member.issym()}
    seen: set[PurePosixPath] = set()
    for member in members:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise ArchiveError(f"the packed source names '{member.name}', which is outside of it")
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise ArchiveError(f"'{member.name}' in the packed source is a device or a pipe")
        if links.intersection(path.parents) or (path in seen and not member.isdir()):
            raise ArchiveError(f"'{member.name}' in the packed source lies behind another member")
        if member.islnk() and PurePosixPath(member.linkname) not in seen - links:
            raise ArchiveError(f"'{member.name}' in the packed source links out of it")
        seen.add(path)
