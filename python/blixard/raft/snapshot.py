"""A snapshot: the state up to one entry, with the configuration at that entry.

It is kept and sent in one encoding: a checksum, then MessagePack. On its way to a peer it is cut
into chunks, each naming the transfer that it belongs to.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from blixard.raft.seal import digest, seal, unseal
from blixard.raft.wire import Member
from blixard.v1.raft_pb2 import SnapshotChunk

CHUNK_BYTES: Final = 256 * 1024


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """What replaces the log up to and including `index`."""

    index: int
    term: int
    chain: bytes
    """The chained hash of the log at `index`; see `journal`."""
    members: dict[int, Member]
    """The configuration as of `index`."""
    state: bytes
    """What the state machine gave."""


def encode(snapshot: Snapshot) -> bytes:
    """The snapshot as it is kept and sent."""
    return seal(msgspec.msgpack.encode(snapshot))


def decode(data: bytes) -> Snapshot | None:
    """The snapshot in `data`, or None if a single bit of it is wrong."""
    payload = unseal(data)
    try:
        return None if payload is None else msgspec.msgpack.decode(payload, type=Snapshot)
    except msgspec.DecodeError:
        return None


class Outgoing:
    """One attempt to send one snapshot: a chunk at a time, the next when the last has arrived."""

    def __init__(self, transfer: int, snapshot: Snapshot, data: bytes) -> None:
        self.transfer = transfer
        self.index = snapshot.index
        self.total = len(data)
        self._term = snapshot.term
        self._data = data
        self._checksum = digest(data)
        self.arrived = 0
        """How many bytes the receiver is known to hold."""

    def chunk(self, *, empty: bool = False) -> SnapshotChunk:
        """The bytes that come next; `empty` only shows the receiver that the sender is there."""
        end = self.arrived if empty else self.arrived + CHUNK_BYTES
        return SnapshotChunk(
            transfer=self.transfer,
            offset=self.arrived,
            total=self.total,
            index=self.index,
            term=self._term,
            checksum=self._checksum,
            data=self._data[self.arrived : end],
        )


@dataclass(frozen=True, slots=True)
class _Transfer:
    sender: int
    sender_term: int
    transfer: int


class Incoming:
    """Joins the chunks of one transfer; a chunk of another one begins anew."""

    def __init__(self) -> None:
        self._transfer: _Transfer | None = None
        self._data = bytearray()

    def add(self, sender: int, sender_term: int, chunk: SnapshotChunk) -> int:
        """Take a chunk that continues what is held, and return how many bytes are held now."""
        transfer = _Transfer(sender, sender_term, chunk.transfer)
        if transfer != self._transfer:
            self._transfer, self._data = transfer, bytearray()
        if chunk.offset == len(self._data) and chunk.offset + len(chunk.data) <= chunk.total:
            self._data += chunk.data
        return len(self._data)

    def finish(self, chunk: SnapshotChunk) -> Snapshot | None:
        """The whole snapshot; None, and all is forgotten, if it is not what was sent."""
        data = bytes(self._data)
        self._transfer, self._data = None, bytearray()
        snapshot = decode(data) if digest(data) == chunk.checksum else None
        if snapshot is None or (snapshot.index, snapshot.term) != (chunk.index, chunk.term):
            return None
        return snapshot
