"""Bytes that were written once are read for ever, and other bytes are refused, never half read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixard import codec
from blixard.commands import (
    Entry,
)
from blixard.model import (
    Cluster,
    Outcome,
)
from core.samples import (
    CLUSTER,
    CLUSTER_OF_LEVEL_2,
    CLUSTER_WITH_DECLARATIONS,
    CLUSTER_WITH_LEASES,
    CLUSTER_WITH_MOVES,
    CLUSTER_WITH_REQUESTS,
    ENTRIES,
    OUTCOMES,
)
from core.strategies import of

GOLDEN = Path(__file__).parent / "golden" / "v1"

Decoder = Callable[[bytes], Any]
DECODERS: list[Decoder] = [codec.decode_entry, codec.decode_outcome, codec.decode_cluster]

SAMPLES: dict[str, tuple[Any, Callable[[Any], bytes], Decoder]] = {
    **{
        f"entry-{name}": (entry, codec.encode_entry, codec.decode_entry)
        for name, entry in ENTRIES.items()
    },
    **{
        f"outcome-{name}": (outcome, codec.encode_outcome, codec.decode_outcome)
        for name, outcome in OUTCOMES.items()
    },
    "cluster": (CLUSTER, codec.encode_cluster, codec.decode_cluster),
    "cluster-with-requests": (
        CLUSTER_WITH_REQUESTS,
        codec.encode_cluster,
        codec.decode_cluster,
    ),
    "cluster-with-declarations": (
        CLUSTER_WITH_DECLARATIONS,
        codec.encode_cluster,
        codec.decode_cluster,
    ),
    "cluster-with-leases": (CLUSTER_WITH_LEASES, codec.encode_cluster, codec.decode_cluster),
    "cluster-with-moves": (CLUSTER_WITH_MOVES, codec.encode_cluster, codec.decode_cluster),
    "cluster-of-level-2": (CLUSTER_OF_LEVEL_2, codec.encode_cluster, codec.decode_cluster),
}
VALID = [encode(value) for value, encode, _ in SAMPLES.values()]


@given(entry=of(Entry))
def test_an_entry_comes_back(entry: Entry) -> None:
    assert codec.decode_entry(codec.encode_entry(entry)) == entry


@given(outcome=of(Outcome))
def test_an_outcome_comes_back(outcome: Outcome) -> None:
    assert codec.decode_outcome(codec.encode_outcome(outcome)) == outcome


@given(cluster=of(Cluster))
def test_a_cluster_comes_back_in_the_same_order(cluster: Cluster) -> None:
    data = codec.encode_cluster(cluster)
    again = codec.decode_cluster(data)
    assert again == cluster
    assert list(again.outcomes) == list(cluster.outcomes), "the oldest outcome is forgotten first"
    assert codec.encode_cluster(again) == data


# --- what was written by a released version -----------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_golden_bytes(name: str, rewrite: bool) -> None:
    value, encode, decode = SAMPLES[name]
    path = GOLDEN / f"{name}.hex"
    if rewrite and not path.exists():
        path.write_text(encode(value).hex("\n", 32) + "\n")
    data = bytes.fromhex(path.read_text())
    assert decode(data) == value, "bytes in someone's log have got another meaning"
    assert encode(value) == data, "the form has changed: it needs a new version and golden files"


def test_every_golden_file_is_read() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(SAMPLES)


# --- bytes that are none of ours ----------------------------------------------------------------


def refused(data: bytes) -> None:
    for decode in DECODERS:
        with pytest.raises(codec.DecodeError):
            decode(data)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip":
                data[place] ^= draw(st.integers(1, 255))
            case "cut":
                del data[place : place + draw(st.integers(1, 4))]
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=4))
        if not data:
            break
    return bytes(data)


@given(data=st.one_of(damaged(), st.binary(max_size=64)))
def test_damaged_bytes_are_decoded_or_refused(data: bytes) -> None:
    for decode in DECODERS:
        try:
            value = decode(data)
        except codec.DecodeError:
            continue
        assert value is not None


@pytest.mark.parametrize("data", VALID[:3])
def test_truncated_bytes_are_refused(data: bytes) -> None:
    for length in range(len(data)):
        refused(data[:length])


def test_bytes_of_another_release_are_refused() -> None:
    value = msgspec.msgpack.decode(VALID[0])[1]
    for version in (0, 2, 99, "1", None, [1]):
        refused(msgspec.msgpack.encode([version, value]))


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=8,
    )
)
def test_values_of_another_kind_are_refused(value: Any) -> None:
    refused(msgspec.msgpack.encode(value))
    if value != {}:  # an empty cluster: every field has a default
        refused(msgspec.msgpack.encode([codec.VERSION, value]))


def start(**fields: Any) -> bytes:
    command = {"_type": "StartVm", "name": "web"}
    entry = {"command": command, "at_ms": 1, "request": None, **fields}
    return msgspec.msgpack.encode([codec.VERSION, entry])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x91" * 100_000, id="nested-too-deep"),
        pytest.param(start(at_ms=float("inf")), id="infinity-for-an-integer"),
        pytest.param(start(at_ms=1.5), id="fraction-for-an-integer"),
        pytest.param(start(at_ms="12"), id="text-for-an-integer"),
        pytest.param(start(at_ms=True), id="truth-for-an-integer"),
        pytest.param(start(command={"_type": "StartVm", "name": 7}), id="number-for-a-name"),
        pytest.param(
            start(command={"_type": "SettleNode", "node_id": 1, "is_member": "false"}),
            id="text-for-a-truth",
        ),
        pytest.param(
            start(
                command={
                    "_type": "CreateVm",
                    "name": "web",
                    "spec": {
                        "source": {"_type": "StoreSource", "path": "/nix/store/x"},
                        "vcpus": 1,
                        "memory_mib": 1,
                    },
                    "content": 2**50,
                }
            ),
            id="number-for-bytes",
        ),
        pytest.param(start(newer="field"), id="a-field-of-a-newer-release"),
        pytest.param(
            start(command={"_type": "StartVm", "name": "web", "newer": 1}),
            id="a-command-field-of-a-newer-release",
        ),
        pytest.param(start(command={"_type": "NewerVm", "name": "web"}), id="a-newer-command"),
        pytest.param(start(command={"_type": [], "name": "web"}), id="no-kind"),
    ],
)
def test_values_of_the_wrong_type_are_refused(data: bytes) -> None:
    """A replica that read them its own way would diverge from one that did not."""
    with pytest.raises(codec.DecodeError):
        codec.decode_entry(data)
