"""Hypothesis strategies that are read off the types of the model."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from hashlib import sha256
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from blixard.commands import (
    Entry,
)
from blixard.source import FlakeSource, PackedSource, StoreSource

Strategy = st.SearchStrategy[Any]

INT64 = st.integers(-(2**63), 2**63 - 1)
PRIMITIVES: Mapping[Any, Strategy] = {
    int: INT64,
    str: st.text(max_size=8),
    bytes: st.binary(max_size=16),
    bool: st.booleans(),
    NoneType: st.none(),
}


def of(kind: Any, by_field: Mapping[str, Strategy] | None = None) -> Strategy:
    """Any value of a type of the model; a field named in `by_field` is drawn from there."""
    named = by_field or {}
    if kind in PRIMITIVES:
        return PRIMITIVES[kind]
    if get_origin(kind) in (Union, UnionType):
        return st.one_of([of(member, named) for member in get_args(kind)])
    if get_origin(kind) is tuple:
        return st.lists(of(get_args(kind)[0], named), max_size=2).map(tuple)
    if get_origin(kind) is not None:
        key, value = get_args(kind)
        return st.dictionaries(of(key, named), of(value, named), max_size=3)
    if issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    assert isinstance(kind, type), kind
    assert is_dataclass(kind), kind
    hints = get_type_hints(kind)
    parts = {
        field.name: named[field.name] if field.name in named else of(hints[field.name], named)
        for field in fields(kind)
    }
    return st.builds(kind, **parts)


CONTENTS = (b"one", b"two")


def packed(content: bytes) -> PackedSource:
    """The source that names `content`."""
    return PackedSource(sha256(content).hexdigest(), "web")


NAMES = st.sampled_from(["ci", "db", "web"])
NODE_IDS = st.integers(1, 3)
SOURCES = st.sampled_from(
    [
        FlakeSource("git+https://example.org/infra?rev=0123", "web", "sha256-AA="),
        StoreSource("/nix/store/0123-runner"),
        *map(packed, CONTENTS),
    ]
)
_NEARBY = st.integers(0, 40)

NEARBY_ENTRIES: Strategy = of(
    Entry,
    {
        "name": NAMES,
        "node_id": NODE_IDS,
        "source": SOURCES,
        "content": st.sampled_from([*CONTENTS, b""]),
        "vcpus": st.integers(1, 4),
        "memory_mib": st.integers(1, 4).map(lambda gib: gib * 1024),
        "uid": _NEARBY,
        "epoch": _NEARBY,
        "incarnation": _NEARBY,
        "previous_incarnation": _NEARBY,
        "machine_id": st.sampled_from(["m1", "m2", "m3"]),
        "join_id": st.sampled_from(["j1", "j2", "j3"]),
        "address": st.sampled_from(["a:1", "b:1", "c:1"]),
        "request": st.none(),
        "level": st.integers(1, 3),
        "at_index": _NEARBY,
        "seq": _NEARBY,
        "lease_ms": st.sampled_from([9_000, 20_000]),
        "restart_limit": st.integers(0, 2),
        "ran_ms": st.sampled_from([0, 60_000]),
    },
)
"""Entries of any kind whose names and numbers are few, so that they often meet."""
