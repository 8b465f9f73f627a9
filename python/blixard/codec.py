"""Log entries, outcomes and cluster states as versioned bytes.

The bytes are msgpack of `[version, value]`. Values are maps by field name, so that a field with a
default can be added later: it is written only where it has another value, so that a release before
it can read all the rest, and both write the same state in the same bytes. A member of a union
carries its class name under `_type`. Golden files hold every released form for ever. Decoding never
runs code.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import msgspec
from cattrs import Converter
from cattrs.errors import CattrsError
from cattrs.gen import make_dict_unstructure_fn, override
from cattrs.strategies import configure_tagged_union

from blixard.commands import (
    AddNode,
    CheckIn,
    Command,
    CreateVm,
    Entry,
    PlaceVm,
    RegisterNode,
    ReportVm,
)
from blixard.model import (
    Capacity,
    Cluster,
    Node,
    Outcome,
    Remembered,
    Vm,
    VmSpec,
)
from blixard.policy import Policy
from blixard.source import Source

VERSION: Final = 1

ADDED: Final[Mapping[type, tuple[str, ...]]] = {
    CreateVm: ("policy",),
    Entry: ("by",),
    PlaceVm: ("why",),
    ReportVm: ("volumes", "ran_ms"),
    AddNode: ("level",),
    RegisterNode: ("level", "lease_ms", "guaranteed", "labels", "kept"),
    CheckIn: ("level", "lease_ms", "guaranteed", "labels"),
    Policy: (
        "priority",
        "strategy",
        "group",
        "require",
        "prefer",
        "near",
        "prefer_near",
        "apart",
        "prefer_apart",
        "check",
    ),
    VmSpec: ("disk_mib",),
    Capacity: ("disk_mib",),
    Vm: (
        "policy",
        "keeps",
        "volumes",
        "failures",
        "failed_on",
        "standby",
        "declared",
        "spec_index",
        "has_left",
        "health",
        "move",
        "decision",
    ),
    Node: ("level", "lease_ms", "seq", "is_down", "guaranteed", "labels", "drain"),
    Remembered: ("asked",),
    Cluster: ("level", "attested_index"),
}
"""Fields that the first golden files do not have."""


class DecodeError(ValueError):
    """The bytes are damaged, or of a release that this one does not know."""


def _converter() -> Converter:
    converter = Converter(detailed_validation=False, forbid_extra_keys=True)
    for primitive in (int, str, bytes, bool):
        converter.register_structure_hook(primitive, _exactly)

    @converter.register_unstructure_hook_factory(ADDED.__contains__)
    def sparing(kind: type) -> Any:
        later = {field: override(omit_if_default=True) for field in ADDED[kind]}
        return make_dict_unstructure_fn(kind, converter, **later)  # type: ignore[arg-type]

    for union in (Command, Outcome, Source):
        configure_tagged_union(union, converter)
    return converter


def _exactly(value: object, kind: type) -> Any:
    """No conversion: replicas that read damaged bytes each in their own way would diverge."""
    if issubclass(kind, Enum):
        return kind(value)
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


_CONVERTER: Final = _converter()


def encode_entry(entry: Entry) -> bytes:
    """One log entry."""
    return _encode(entry, Entry)


def decode_entry(data: bytes) -> Entry:
    """The inverse of `encode_entry`. Raises `DecodeError`."""
    entry: Entry = _decode(data, Entry)
    return entry


def encode_outcome(outcome: Outcome) -> bytes:
    """An outcome, as it travels from the leader to the node that submitted the command."""
    return _encode(outcome, Outcome)


def decode_outcome(data: bytes) -> Outcome:
    """The inverse of `encode_outcome`. Raises `DecodeError`."""
    outcome: Outcome = _decode(data, Outcome)
    return outcome


def encode_cluster(cluster: Cluster) -> bytes:
    """A whole state, for a snapshot. The same log gives the same bytes on every node."""
    return _encode(cluster, Cluster)


def decode_cluster(data: bytes) -> Cluster:
    """The inverse of `encode_cluster`. Raises `DecodeError`."""
    cluster: Cluster = _decode(data, Cluster)
    return cluster


def _encode(value: object, kind: Any) -> bytes:
    return msgspec.msgpack.encode([VERSION, _CONVERTER.unstructure(value, unstructure_as=kind)])


def _decode(data: bytes, kind: Any) -> Any:
    try:
        version, value = msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, RecursionError, TypeError, ValueError) as error:
        raise DecodeError(f"not an encoded {kind}") from error
    if type(version) is not int or version != VERSION or not isinstance(value, Mapping):
        raise DecodeError(f"format {version!r} is unknown; this release knows {VERSION}")
    try:
        return _CONVERTER.structure(value, kind)
    except (CattrsError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DecodeError(f"no valid {kind}: {type(error).__name__}") from error
