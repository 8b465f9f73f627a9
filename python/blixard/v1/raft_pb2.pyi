from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RaftEnvelope(_message.Message):
    __slots__ = ("cluster_id", "sender", "receiver", "sender_address", "term", "epoch", "sequence", "message", "snapshot", "sender_birth", "receiver_birth")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    SENDER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    SENDER_BIRTH_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_BIRTH_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    sender: int
    receiver: int
    sender_address: str
    term: int
    epoch: int
    sequence: int
    message: bytes
    snapshot: SnapshotChunk
    sender_birth: int
    receiver_birth: int
    def __init__(self, cluster_id: _Optional[str] = ..., sender: _Optional[int] = ..., receiver: _Optional[int] = ..., sender_address: _Optional[str] = ..., term: _Optional[int] = ..., epoch: _Optional[int] = ..., sequence: _Optional[int] = ..., message: _Optional[bytes] = ..., snapshot: _Optional[_Union[SnapshotChunk, _Mapping]] = ..., sender_birth: _Optional[int] = ..., receiver_birth: _Optional[int] = ...) -> None: ...

class SnapshotChunk(_message.Message):
    __slots__ = ("transfer", "offset", "total", "index", "term", "checksum", "data")
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    transfer: int
    offset: int
    total: int
    index: int
    term: int
    checksum: bytes
    data: bytes
    def __init__(self, transfer: _Optional[int] = ..., offset: _Optional[int] = ..., total: _Optional[int] = ..., index: _Optional[int] = ..., term: _Optional[int] = ..., checksum: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class RaftAck(_message.Message):
    __slots__ = ("accepted",)
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    def __init__(self, accepted: _Optional[int] = ...) -> None: ...
