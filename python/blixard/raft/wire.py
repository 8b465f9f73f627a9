"""The messages between members, and the entries of the log, as bytes.

Three messages carry the library's own names and fields, so that its dictionaries convert without
a table; the others are ours.
"""

from enum import IntEnum
from typing import Any, Final, NamedTuple

import msgspec

MAX_ENTRY_BYTES: Final = 512 * 1024
"""The largest command that is accepted."""
BATCH_BYTES: Final = 1024 * 1024
"""An append carries entries until they exceed this; with one more entry it still fits in gRPC's
default limit of 4 MiB a message."""


class Kind(IntEnum):
    """The first byte of an entry; the numbers are the library's."""

    COMMAND = 0
    EMPTY = 1
    MEMBERSHIP = 2


class Entry(NamedTuple):
    """One entry, in the library's order of fields. The first byte of `data` is its `Kind`."""

    data: bytes
    index: int  # type: ignore[assignment]  # not the method of tuples
    term: int


class Member(msgspec.Struct, frozen=True, array_like=True):
    """A voter: where it is reached, and the birth of the journal that its vote is kept in."""

    address: str
    birth: int


class Change(msgspec.Struct, frozen=True, array_like=True):
    """A change of the configuration by one node; one that is removed needs only its id."""

    add: bool
    node_id: int
    address: str = ""
    birth: int = 0


def membership_entry(change: Change) -> bytes:
    """The data of the entry that changes the configuration."""
    return bytes([Kind.MEMBERSHIP]) + msgspec.msgpack.encode(change)


def membership_of(data: bytes) -> Change | None:
    """The change that an entry makes, or None if it is of another kind."""
    if data[0] != Kind.MEMBERSHIP:
        return None
    return msgspec.msgpack.decode(data[1:], type=Change)


class Append(msgspec.Struct, frozen=True, tag_field="type", tag="append_entries"):
    """The leader's entries after `prev_index`; a heartbeat if there are none."""

    term: int
    commit_index: int
    prev_index: int = msgspec.field(name="prevLogIdx")
    prev_term: int = msgspec.field(name="prevLogTerm")
    entries: list[Entry]

    @property
    def last_index(self) -> int:
        """The last index whose entry the receiver has in common with the leader afterwards."""
        return self.prev_index + len(self.entries)

    def is_sound(self) -> bool:
        """Whether it could come from a correct leader, whatever the state of the receiver."""
        position, term = self.prev_index, self.prev_term
        for entry in self.entries:
            position += 1
            if entry.index != position or not term <= entry.term <= self.term or not entry.data:
                return False
            term = entry.term
        return self.prev_index >= 0 and term <= self.term


class Appended(msgspec.Struct, frozen=True, tag_field="type", tag="next_node_idx"):
    """The sender's log equals the leader's below `next_node_idx`."""

    next_node_idx: int
    reset: bool
    success: bool


class VoteRequest(msgspec.Struct, frozen=True, tag_field="type", tag="request_vote"):
    """The paper's RequestVote."""

    term: int
    last_log_index: int
    last_log_term: int


class Vote(msgspec.Struct, frozen=True, tag_field="type", tag="response_vote"):
    """A vote that was given; one that is refused is not answered."""

    term: int


class LeadNow(msgspec.Struct, frozen=True, tag_field="type", tag="timeout_now"):
    """The leader asks the receiver to begin an election (the thesis, section 3.10)."""

    term: int


class Mismatch(msgspec.Struct, frozen=True, tag_field="type", tag="mismatch"):
    """The append after `prev_index` did not fit: try from `next_index`."""

    prev_index: int
    next_index: int


class PreVoteRequest(msgspec.Struct, frozen=True, tag_field="type", tag="pre_vote_request"):
    """Would you vote for me in `term`? Changes nothing (the thesis, section 9.6)."""

    term: int
    last_log_index: int
    last_log_term: int


class PreVote(msgspec.Struct, frozen=True, tag_field="type", tag="pre_vote"):
    """The answer; `term` is the one that was asked for."""

    term: int
    granted: bool


class SnapshotHeld(msgspec.Struct, frozen=True, tag_field="type", tag="snapshot_held"):
    """The sender holds so many bytes of a transfer."""

    transfer: int
    held: int


Message = (
    Append
    | Appended
    | VoteRequest
    | Vote
    | LeadNow
    | Mismatch
    | PreVoteRequest
    | PreVote
    | SnapshotHeld
)

_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The message as it travels."""
    return msgspec.msgpack.encode(message)


def decode(data: bytes) -> Message | None:
    """The message in `data`, or None if it is none of ours."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        return None


def to_library(message: Message) -> dict[str, Any]:
    """The dictionary that the library expects."""
    plain: dict[str, Any] = msgspec.to_builtins(message, builtin_types=(bytes,))
    return plain


def from_library(plain: dict[str, Any]) -> Message:
    """What the library wants to say."""
    message: Message = msgspec.convert(plain, type=Message)
    return message
