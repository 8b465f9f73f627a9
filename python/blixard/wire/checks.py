"""The shape of a request, checked before anything else happens.

What depends on the cluster's state is not checked here; the law (`machine`) does that.
"""

import re
from hashlib import sha256
from typing import Final

from blixard.errors import Code
from blixard.model import (
    DEFAULT_GRACE_MS,
    Fix,
    Rejected,
    RequestId,
)
from blixard.source import MAX_SOURCE_BYTES, PackedSource, StoreSource
from blixard.v1 import blixard_pb2 as pb
from blixard.wire.status import Refused

MAX_VCPUS: Final = 1024
MAX_MEMORY_MIB: Final = 16 * 1024 * 1024
MAX_DISK_MIB: Final = 1024 * 1024 * 1024
MIN_MEMORY_MIB: Final = 16
MAX_GRACE_MS: Final = 3_600_000
MAX_SPEAKER: Final = 128
MAX_REMARK: Final = 200
MAX_DIGEST: Final = 128
MAX_LINES: Final = 10_000

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ATTRIBUTE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_'.-]{0,127}")
_REFERENCE: Final = re.compile(r"[A-Za-z0-9.~/_+:@%?&=,-]{1,2048}")
_STORE_PATH: Final = re.compile(r"/nix/store/[a-z0-9]{32}-[A-Za-z0-9+._?=-]{1,211}")
_ADDRESS: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")


def vm_name(name: str) -> str:
    """A VM's name: a DNS label (RFC 1123, section 2.1), in lower case."""
    if not _NAME.fullmatch(name):
        raise bad(
            f'name: "{name[:80]}" is no valid VM name',
            "a name has 1 to 63 characters of a-z, 0-9 and -, and neither begins nor ends with -",
        )
    return name


def size(request: pb.CreateVmRequest) -> tuple[int, int, int]:
    """A VM's vCPUs, memory and disk. What exceeds every node is refused by the law."""
    vcpus, memory_mib, disk_mib = request.vcpus, request.memory_mib, request.disk_mib
    if not 1 <= vcpus <= MAX_VCPUS:
        raise bad(f"vcpus: {vcpus} is out of range", f"ask for 1 to {MAX_VCPUS} vCPUs")
    if not MIN_MEMORY_MIB <= memory_mib <= MAX_MEMORY_MIB:
        raise bad(
            f"memory_mib: {memory_mib} is out of range",
            f"ask for {MIN_MEMORY_MIB} to {MAX_MEMORY_MIB} MiB",
        )
    if disk_mib > MAX_DISK_MIB:
        raise bad(f"disk_mib: {disk_mib} is out of range", f"ask for 0 to {MAX_DISK_MIB} MiB")
    return vcpus, memory_mib, disk_mib


def lines(count: int) -> None:
    """How many of the last lines are asked for."""
    if count > MAX_LINES:
        raise bad(f"lines: {count} is out of range", f"ask for 0 to {MAX_LINES} lines")


def console(first: pb.ConsoleInput | None) -> pb.ConsoleOpen:
    """The message that a call for a console begins with."""
    if first is None or not first.HasField("open"):
        raise bad("open: the call does not begin with it", "say first whose console is wanted")
    vm_name(first.open.name)
    speaker(first.open.by)
    return first.open


def flake(reference: pb.FlakeReference) -> tuple[str, str]:
    """A flake reference and the name in it. Neither may be taken for an option or hold anything
    that a shell would act upon, although no shell ever sees them."""
    if not _REFERENCE.fullmatch(reference.url) or reference.url.startswith("-"):
        raise bad(
            f'source: "{reference.url[:80]}" is no valid flake reference',
            "a reference looks like github:owner/repository or git+https://host/path, without "
            "spaces or shell characters, and does not begin with -",
        )
    return reference.url, attribute(reference.attribute)


def digest(of_declaration: str) -> str:
    """What a caller calls the state of its configuration."""
    if not 1 <= len(of_declaration) <= MAX_DIGEST:
        raise bad(
            f"digest: it has {len(of_declaration)} characters", f"give 1 to {MAX_DIGEST} of them"
        )
    return of_declaration


def attribute(name: str) -> str:
    """A name under `nixosConfigurations`."""
    if not _ATTRIBUTE.fullmatch(name):
        raise bad(
            f'source: "{name[:80]}" is no valid name of a configuration',
            "write REFERENCE#NAME, where nixosConfigurations.NAME is what shall run",
        )
    return name


def store(source: pb.StoreSource) -> StoreSource:
    """A runner's store path."""
    if not _STORE_PATH.fullmatch(source.path):
        raise bad(
            f'source: "{source.path[:120]}" is no store path',
            "give the path of a runner itself: /nix/store/HASH-NAME",
        )
    return StoreSource(source.path)


def packed(archive: pb.PackedArchive) -> PackedSource:
    """A packed source, named by the digest of its bytes."""
    if not archive.content:
        raise bad("source: the packed source is empty", "pack a folder with a flake.nix in it")
    if len(archive.content) > MAX_SOURCE_BYTES:
        raise Refused(
            Rejected(
                Code.SOURCE_TOO_LARGE,
                f"the packed source has {len(archive.content)} bytes; at most {MAX_SOURCE_BYTES}",
                fixes=(Fix("push it to a git repository and name that: github:owner/repository"),),
            )
        )
    return PackedSource(sha256(archive.content).hexdigest(), attribute(archive.attribute))


def grace_ms(
    request: pb.StopVmRequest | pb.RestartVmRequest | pb.DeleteVmRequest | pb.MoveVmRequest,
) -> int:
    """Time for a graceful shutdown, in milliseconds."""
    if not request.HasField("grace_ms"):
        return DEFAULT_GRACE_MS
    if request.grace_ms > MAX_GRACE_MS:
        raise bad(f"grace_ms: {request.grace_ms} is out of range", f"{MAX_GRACE_MS} ms is the most")
    return request.grace_ms


def remark(text: str) -> str:
    """A person's words that are put on record; they may be missing."""
    if len(text) > MAX_REMARK or not (text.isprintable() or not text):
        raise bad(f"reason: it has {len(text)} characters", f"write one line, {MAX_REMARK} at most")
    return text


def speaker(name: str) -> str:
    """Who says something that is put on record."""
    if not 1 <= len(name) <= MAX_SPEAKER or not name.isprintable():
        raise bad(
            f"by: {name[:80]!a} names nobody", f"say who you are, in 1 to {MAX_SPEAKER} characters"
        )
    return name


def request_id(message: pb.RequestId) -> RequestId | None:
    """The client's request id; without one a retry cannot be recognised."""
    if not message.session:
        return None
    if len(message.session) > 64:
        raise bad("request_id.session: longer than 64 characters", "take it from OpenSession")
    return RequestId(message.session, message.number, message.base_index)


def node_id(number: int) -> int:
    """A node's id."""
    if not 1 <= number <= 65_535:
        raise bad(f"node_id: {number} is out of range", "node ids are 1 to 65535")
    return number


def address(text: str) -> str:
    """Where peers reach a node: `host:port`."""
    match = _ADDRESS.fullmatch(text)
    if match is None or not 1 <= int(match[2]) <= 65_535:
        raise bad(f'address: "{text[:80]}" is no address', "write HOST:PORT")
    return text


def bad(message: str, remedy: str) -> Refused:
    """A request that is wrong by its shape."""
    return Refused(Rejected(Code.BAD_ARGUMENT, message, fixes=(Fix(remedy),)))
