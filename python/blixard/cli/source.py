"""What `--config` names: a flake reference, a file or folder to be packed, or a finished runner."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from blixard.cli.failure import Failure, failure
from blixard.cli.pack import MODULE, Packed, described, pack_file, pack_folder
from blixard.cli.terminal import Options
from blixard.errors import Code

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:")
_STORE_ROOT: Final = Path("/nix/store")


def complete(request: "pb.CreateVmRequest", what: str, options: Options) -> None:
    """Fill in the source of a request, its form checked and its source packed. Raises `Failure`."""
    from blixard.policy import Policy
    from blixard.wire import checks, policies
    from blixard.wire.status import Refused

    try:
        checks.vm_name(request.name)
        checks.size(request)
        policies.policy(request.policy, Policy())
        _set_source(request, what, options)
    except Refused as refused:
        raise Failure(refused.rejected) from refused


def _set_source(request: "pb.CreateVmRequest", what: str, options: Options) -> None:
    """Fill in the source; a reference without `#NAME` means the VM's own name."""
    from blixard.wire import checks

    reference, _, attribute = what.partition("#")
    attribute = attribute or request.name
    path = _local(reference)
    if path is None:
        request.flake.url, request.flake.attribute = reference, attribute
        checks.flake(request.flake)
    elif path.is_relative_to(_STORE_ROOT):
        request.store.path = str(path)
        checks.store(request.store)
    else:
        checks.attribute(attribute)
        packed = _pack(path)
        options.trace(described(packed))
        request.packed.content, request.packed.attribute = packed.content, attribute


def _local(reference: str) -> Path | None:
    """The file, folder or store path that is meant, directly or through a link such as `result`;
    None for a reference to somewhere else."""
    named = reference.removeprefix("path:")
    if named == reference and _SCHEME.match(reference):
        return None
    path = Path(named or ".").expanduser().resolve()
    # Another host may have a store path that this one lacks.
    if not path.exists() and not path.is_relative_to(_STORE_ROOT):
        raise failure(
            Code.BAD_ARGUMENT,
            f'--config: there is no "{named}" here',
            fix="name a file, a folder, a store path, or a reference like github:owner/repo#name",
        )
    return path


def _pack(path: Path) -> Packed:
    if path.is_file():
        if path.suffix != ".nix":
            raise _no_source(path, "a file must be a NixOS module, NAME.nix")
        return pack_file(path)
    if not any((path / name).is_file() for name in ("flake.nix", MODULE)):
        raise _no_source(path, f"a folder needs a flake.nix or a {MODULE} at its top")
    return pack_folder(path)


def _no_source(path: Path, why: str) -> Failure:
    return failure(
        Code.BAD_ARGUMENT,
        f'--config: "{path}" is no source of a VM',
        why=why,
        fix="look at the templates: vm-templates/ in the source of Blixard",
    )


def guest_check(what: str, parts: Mapping[str, object]) -> "pb.GuestCheck":
    """`KIND:TARGET`, a URL, or `none`, with the other fields of a check."""
    from blixard.v1 import blixard_pb2 as pb

    if what in ("", "none"):
        return pb.GuestCheck()
    kind, _, target = what.partition(":")
    if kind in ("http", "https"):
        kind, target = "http", what
    return pb.GuestCheck(kind=kind, target=target, **cast("Mapping[str, Any]", parts))
