"""Whatever byte of a journal is damaged, and wherever one of its files ends: it is refused with a
way out, or the byte was not used and nothing is lost, now or later.

Every ninth byte and length is tried, from a place that the seed draws; `BLIXARD_CORRUPTION=all`
tries them all, for some minutes. One bit of the byte is flipped, drawn from the seed as well.
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom

import msgspec
import pytest

from blixard.errors import BlixardError
from blixard.raft import recovery, snapshot
from blixard.raft.journal import Head
from blixard.raft.recovery import bootstrap, recover
from blixard.raft.snapshot import Snapshot
from blixard.raft.store import SqliteStore
from blixard.raft.wire import Entry, Member

EVERY = 1 if os.environ.get("BLIXARD_CORRUPTION") == "all" else 9
SEED = int(os.environ.get("BLIXARD_SEED") or SystemRandom().randrange(1_000_000))

UNUSED = "unused"
WAY_BACK = "remove this node from the cluster, empty its data directory, and add it again"


@dataclass(frozen=True)
class Sample:
    """The files of a small journal, and what opening them gives."""

    directory: Path
    files: dict[str, bytes]
    contents: tuple[object, ...]
    later: tuple[object, ...]
    """The same after one more entry."""


@pytest.fixture
def directory() -> Iterator[Path]:
    """In memory where there is such a place: a file system where a sync costs nothing."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory, prefix="blixard-") as made:
        yield Path(made)


def sample(directory: Path, kind: str) -> Sample:
    """A journal `closed` cleanly, all in its database; or `killed`: with a WAL, and parts of what
    is in the database and in the snapshot no longer true."""
    store = SqliteStore(directory)
    bootstrap(store, "c1", 1, "10.0.0.1:7001", birth=1)
    _write(store, term=2, until=5, state=b"state" * 4)
    store.close()
    store = SqliteStore(directory)
    _write(store, term=3, until=7, state=b"state" * 6)
    if kind == "closed":
        store.close()
    files = {path.name: path.read_bytes() for path in directory.iterdir()}
    if kind == "killed":
        store.close()
    assert ("raft.db-wal" in files) == (kind == "killed")
    lay(directory, files)
    contents, later = reopen(directory), reopen(directory, more=True)
    return Sample(directory, files, contents, later)


def _write(store: SqliteStore, *, term: int, until: int, state: bytes) -> None:
    journal = recover(store, 1)
    journal.open()
    journal.setCurrentTerm(term, 1)
    for index in range(journal.last_index + 1, until + 1):
        journal.add(b"\0command %d" % index, index, term)
        journal.setRaftCommitIndex(index)
        journal.flush()
    journal.compact(until - 1, state, keep=1)
    journal.flush()


def lay(directory: Path, files: dict[str, bytes]) -> None:
    for path in directory.iterdir():
        if path.name not in files:
            path.unlink()
    for name, data in files.items():
        (directory / name).write_bytes(data)


def reopen(directory: Path, *, more: bool = False) -> tuple[object, ...]:
    """Everything that the journal says, but for how often it was written."""
    store = SqliteStore(directory)
    try:
        journal = recover(store, 1)
        if more:
            journal.add(b"\0more", journal.last_index + 1, journal.last_term)
            journal.flush()
        head = msgspec.structs.astuple(journal._head)
        return head, journal[:], journal.members(), journal.snapshot
    finally:
        store.close()


def outcome(sample: Sample, name: str, damaged: bytes) -> str:
    """`UNUSED`, or why the journal is refused and what to do. Anything else is raised."""
    files = {**sample.files, name: damaged}
    try:
        lay(sample.directory, files)
        found = reopen(sample.directory)
        assert found == sample.contents, "a silent change"
        lay(sample.directory, files)
        reopen(sample.directory, more=True)
        assert reopen(sample.directory) == sample.later, "a silent change later"
    except BlixardError as error:
        return f"{error.message}; {error.remedy}"
    return UNUSED


def damages(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Flips and truncations, each with its name."""
    random = Random(SEED)
    for position in range(random.randrange(EVERY), len(data), EVERY):
        flipped = bytearray(data)
        flipped[position] ^= (mask := 1 << random.randrange(8))
        yield f"{name}, byte {position} ^ {mask}", bytes(flipped)
        yield f"{name}, cut to {position} bytes", data[:position]


def outcomes(sample: Sample, name: str) -> dict[str, str]:
    print(f"seed {SEED}")
    found = {}
    for damage, damaged in damages(name, sample.files[name]):
        try:
            found[damage] = outcome(sample, name, damaged)
        except Exception as error:
            error.add_note(damage)
            raise
    for message in found.values():
        assert message == UNUSED or message.endswith(WAY_BACK)
    return found


@pytest.mark.parametrize("kind", ["killed", "closed"])
def test_a_damaged_database_is_refused_or_unharmed(directory: Path, kind: str) -> None:
    found = outcomes(sample(directory, kind), "raft.db")
    assert {UNUSED} < set(found.values())


def test_a_wal_without_one_of_its_bits_ends_below_the_high_water_mark(directory: Path) -> None:
    found = outcomes(sample(directory, "killed"), "raft.db-wal")
    for damage, message in found.items():
        assert "transactions below its high-water mark" in message, damage


@pytest.mark.parametrize("kind", ["killed", "closed"])
def test_one_of_two_marks_is_enough(directory: Path, kind: str) -> None:
    found = outcomes(sample(directory, kind), "raft.mark")
    refused = {damage for damage, message in found.items() if message != UNUSED}
    assert refused
    assert all("cut to" in damage for damage in refused)


def unchecked_entries(rows: list[tuple[object, object, object, object]], _: Head) -> list[Entry]:
    return [Entry(data, index, term) for index, term, data, _ in rows]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("check", "instead", "name"),
    [
        ("_check_mark", lambda *_: None, "raft.db-wal"),
        ("_entries", unchecked_entries, "raft.db"),
        ("unseal", lambda data: data[24 : 24 + int.from_bytes(data[16:24], "big")], "raft.db"),
    ],
)
def test_no_check_can_be_spared(
    directory: Path, monkeypatch: pytest.MonkeyPatch, check: str, instead: object, name: str
) -> None:
    kept = sample(directory, "killed" if name == "raft.db-wal" else "closed")
    monkeypatch.setattr(recovery, check, instead)
    wrong = (AssertionError, AttributeError, IndexError, TypeError, msgspec.DecodeError)
    with pytest.raises(wrong):
        outcomes(kept, name)


def test_an_encoded_snapshot_is_whole_or_nothing() -> None:
    whole = Snapshot(7, 3, bytes(16), {1: Member("10.0.0.1:7001", 1)}, b"state" * 50)
    data = snapshot.encode(whole)
    assert snapshot.decode(data) == whole
    for position in range(len(data)):
        assert snapshot.decode(data[:position]) is None
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            assert snapshot.decode(bytes(flipped)) is None
