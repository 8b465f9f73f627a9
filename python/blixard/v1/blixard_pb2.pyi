from blixard.v1 import raft_pb2 as _raft_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Fix(_message.Message):
    __slots__ = ("text", "command")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    text: str
    command: str
    def __init__(self, text: _Optional[str] = ..., command: _Optional[str] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "why", "fixes", "leader_address", "maybe_applied")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    FIXES_FIELD_NUMBER: _ClassVar[int]
    LEADER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    MAYBE_APPLIED_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    why: str
    fixes: _containers.RepeatedCompositeFieldContainer[Fix]
    leader_address: str
    maybe_applied: bool
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., why: _Optional[str] = ..., fixes: _Optional[_Iterable[_Union[Fix, _Mapping]]] = ..., leader_address: _Optional[str] = ..., maybe_applied: bool = ...) -> None: ...

class RequestId(_message.Message):
    __slots__ = ("session", "number", "base_index")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    BASE_INDEX_FIELD_NUMBER: _ClassVar[int]
    session: str
    number: int
    base_index: int
    def __init__(self, session: _Optional[str] = ..., number: _Optional[int] = ..., base_index: _Optional[int] = ...) -> None: ...

class OpenSessionRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class OpenSessionResponse(_message.Message):
    __slots__ = ("session", "base_index")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    BASE_INDEX_FIELD_NUMBER: _ClassVar[int]
    session: str
    base_index: int
    def __init__(self, session: _Optional[str] = ..., base_index: _Optional[int] = ...) -> None: ...

class ChangeResponse(_message.Message):
    __slots__ = ("index", "note", "vm")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    VM_FIELD_NUMBER: _ClassVar[int]
    index: int
    note: str
    vm: Vm
    def __init__(self, index: _Optional[int] = ..., note: _Optional[str] = ..., vm: _Optional[_Union[Vm, _Mapping]] = ...) -> None: ...

class AsOf(_message.Message):
    __slots__ = ("index", "term", "node", "linearizable")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    LINEARIZABLE_FIELD_NUMBER: _ClassVar[int]
    index: int
    term: int
    node: str
    linearizable: bool
    def __init__(self, index: _Optional[int] = ..., term: _Optional[int] = ..., node: _Optional[str] = ..., linearizable: bool = ...) -> None: ...

class FlakeSource(_message.Message):
    __slots__ = ("url", "attribute", "nar_hash")
    URL_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    NAR_HASH_FIELD_NUMBER: _ClassVar[int]
    url: str
    attribute: str
    nar_hash: str
    def __init__(self, url: _Optional[str] = ..., attribute: _Optional[str] = ..., nar_hash: _Optional[str] = ...) -> None: ...

class PackedSource(_message.Message):
    __slots__ = ("digest", "attribute")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    digest: str
    attribute: str
    def __init__(self, digest: _Optional[str] = ..., attribute: _Optional[str] = ...) -> None: ...

class StoreSource(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: str
    def __init__(self, path: _Optional[str] = ...) -> None: ...

class Source(_message.Message):
    __slots__ = ("flake", "packed", "store")
    FLAKE_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    flake: FlakeSource
    packed: PackedSource
    store: StoreSource
    def __init__(self, flake: _Optional[_Union[FlakeSource, _Mapping]] = ..., packed: _Optional[_Union[PackedSource, _Mapping]] = ..., store: _Optional[_Union[StoreSource, _Mapping]] = ...) -> None: ...

class Terms(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, items: _Optional[_Iterable[str]] = ...) -> None: ...

class GuestCheck(_message.Message):
    __slots__ = ("kind", "target", "interval_ms", "timeout_ms", "failures", "start_period_ms", "on_failure")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    START_PERIOD_MS_FIELD_NUMBER: _ClassVar[int]
    ON_FAILURE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    target: str
    interval_ms: int
    timeout_ms: int
    failures: int
    start_period_ms: int
    on_failure: str
    def __init__(self, kind: _Optional[str] = ..., target: _Optional[str] = ..., interval_ms: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., failures: _Optional[int] = ..., start_period_ms: _Optional[int] = ..., on_failure: _Optional[str] = ...) -> None: ...

class Policy(_message.Message):
    __slots__ = ("on_quorum_loss", "failover", "restart_limit", "priority", "strategy", "group", "require", "prefer", "near", "prefer_near", "apart", "prefer_apart", "check")
    ON_QUORUM_LOSS_FIELD_NUMBER: _ClassVar[int]
    FAILOVER_FIELD_NUMBER: _ClassVar[int]
    RESTART_LIMIT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_FIELD_NUMBER: _ClassVar[int]
    PREFER_FIELD_NUMBER: _ClassVar[int]
    NEAR_FIELD_NUMBER: _ClassVar[int]
    PREFER_NEAR_FIELD_NUMBER: _ClassVar[int]
    APART_FIELD_NUMBER: _ClassVar[int]
    PREFER_APART_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    on_quorum_loss: str
    failover: str
    restart_limit: int
    priority: int
    strategy: str
    group: str
    require: Terms
    prefer: Terms
    near: Terms
    prefer_near: Terms
    apart: Terms
    prefer_apart: Terms
    check: GuestCheck
    def __init__(self, on_quorum_loss: _Optional[str] = ..., failover: _Optional[str] = ..., restart_limit: _Optional[int] = ..., priority: _Optional[int] = ..., strategy: _Optional[str] = ..., group: _Optional[str] = ..., require: _Optional[_Union[Terms, _Mapping]] = ..., prefer: _Optional[_Union[Terms, _Mapping]] = ..., near: _Optional[_Union[Terms, _Mapping]] = ..., prefer_near: _Optional[_Union[Terms, _Mapping]] = ..., apart: _Optional[_Union[Terms, _Mapping]] = ..., prefer_apart: _Optional[_Union[Terms, _Mapping]] = ..., check: _Optional[_Union[GuestCheck, _Mapping]] = ...) -> None: ...

class CreateVmRequest(_message.Message):
    __slots__ = ("request_id", "name", "flake", "packed", "store", "vcpus", "memory_mib", "stopped", "policy", "disk_mib")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FLAKE_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    VCPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    DISK_MIB_FIELD_NUMBER: _ClassVar[int]
    request_id: RequestId
    name: str
    flake: FlakeReference
    packed: PackedArchive
    store: StoreSource
    vcpus: int
    memory_mib: int
    stopped: bool
    policy: Policy
    disk_mib: int
    def __init__(self, request_id: _Optional[_Union[RequestId, _Mapping]] = ..., name: _Optional[str] = ..., flake: _Optional[_Union[FlakeReference, _Mapping]] = ..., packed: _Optional[_Union[PackedArchive, _Mapping]] = ..., store: _Optional[_Union[StoreSource, _Mapping]] = ..., vcpus: _Optional[int] = ..., memory_mib: _Optional[int] = ..., stopped: bool = ..., policy: _Optional[_Union[Policy, _Mapping]] = ..., disk_mib: _Optional[int] = ...) -> None: ...

class FlakeReference(_message.Message):
    __slots__ = ("url", "attribute")
    URL_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    url: str
    attribute: str
    def __init__(self, url: _Optional[str] = ..., attribute: _Optional[str] = ...) -> None: ...

class PackedArchive(_message.Message):
    __slots__ = ("content", "attribute")
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    content: bytes
    attribute: str
    def __init__(self, content: _Optional[bytes] = ..., attribute: _Optional[str] = ...) -> None: ...

class StartVmRequest(_message.Message):
    __slots__ = ("request_id", "name")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    request_id: RequestId
    name: str
    def __init__(self, request_id: _Optional[_Union[RequestId, _Mapping]] = ..., name: _Optional[str] = ...) -> None: ...

class StopVmRequest(_message.Message):
    __slots__ = ("request_id", "name", "grace_ms", "kill")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    KILL_FIELD_NUMBER: _ClassVar[int]
    request_id: RequestId
    name: str
    grace_ms: int
    kill: bool
    def __init__(self, request_id: _Optional[_Union[RequestId, _Mapping]] = ..., name: _Optional[str] = ..., grace_ms: _Optional[int] = ..., kill: bool = ...) -> None: ...

class RestartVmRequest(_message.Message):
    __slots__ = ("request_id", "name", "grace_ms", "kill")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    KILL_FIELD_NUMBER: _ClassVar[int]
    request_id: RequestId
    name: str
    grace_ms: int
    kill: bool
    def __init__(self, request_id: _Optional[_Union[RequestId, _Mapping]] = ..., name: _Optional[str] = ..., grace_ms: _Optional[int] = ..., kill: bool = ...) -> None: ...

class DeleteVmRequest(_message.Message):
    __slots__ = ("request_id", "name", "grace_ms", "kill")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    KILL_FIELD_NUMBER: _ClassVar[int]
    request_id: RequestId
    name: str
    grace_ms: int
    kill: bool
    def __init__(self, request_id: _Optional[_Union[RequestId, _Mapping]] = ..., name: _Optional[str] = ..., grace_ms: _Optional[int] = ..., kill: bool = ...) -> None: ...

class DeclareVmRequest(_message.Message):
    __slots__ = ("request_id", "vm", "node_id", "generation", "digest")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VM_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    request_id: RequestId
    vm: CreateVmRequest
    node_id: int
    generation: int
    digest: str
    def __init__(self, request_id: _Optional[_Union[RequestId, _Mapping]] = ..., vm: _Optional[_Union[CreateVmRequest, _Mapping]] = ..., node_id: _Optional[int] = ..., generation: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class DisownVmRequest(_message.Message):
    __slots__ = ("request_id", "name", "node_id", "generation")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    request_id: RequestId
    name: str
    node_id: int
    generation: int
    def __init__(self, request_id: _Optional[_Union[RequestId, _Mapping]] = ..., name: _Optional[str] = ..., node_id: _Optional[int] = ..., generation: _Optional[int] = ...) -> None: ...

class Declaration(_message.Message):
    __slots__ = ("node_id", "node", "generation", "digest", "needs_restart")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NEEDS_RESTART_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    node: str
    generation: int
    digest: str
    needs_restart: bool
    def __init__(self, node_id: _Optional[int] = ..., node: _Optional[str] = ..., generation: _Optional[int] = ..., digest: _Optional[str] = ..., needs_restart: bool = ...) -> None: ...

class SetVmPolicyRequest(_message.Message):
    __slots__ = ("request_id", "name", "policy")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    request_id: RequestId
    name: str
    policy: Policy
    def __init__(self, request_id: _Optional[_Union[RequestId, _Mapping]] = ..., name: _Optional[str] = ..., policy: _Optional[_Union[Policy, _Mapping]] = ...) -> None: ...

class Reason(_message.Message):
    __slots__ = ("code", "text")
    CODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    code: str
    text: str
    def __init__(self, code: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class Vm(_message.Message):
    __slots__ = ("name", "uid", "wanted", "state", "reason", "node", "node_id", "epoch", "since_ms", "created_ms", "vcpus", "memory_mib", "source", "store_path", "policy", "keeps", "restarts", "standby", "standby_readiness", "mode", "tie", "tied_to", "remark", "declared", "disk_mib", "health", "move", "decision")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    VCPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    STORE_PATH_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    KEEPS_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    STANDBY_FIELD_NUMBER: _ClassVar[int]
    STANDBY_READINESS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    TIE_FIELD_NUMBER: _ClassVar[int]
    TIED_TO_FIELD_NUMBER: _ClassVar[int]
    REMARK_FIELD_NUMBER: _ClassVar[int]
    DECLARED_FIELD_NUMBER: _ClassVar[int]
    DISK_MIB_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    MOVE_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: int
    wanted: str
    state: str
    reason: Reason
    node: str
    node_id: int
    epoch: int
    since_ms: int
    created_ms: int
    vcpus: int
    memory_mib: int
    source: Source
    store_path: str
    policy: Policy
    keeps: bool
    restarts: int
    standby: str
    standby_readiness: str
    mode: str
    tie: str
    tied_to: str
    remark: str
    declared: Declaration
    disk_mib: int
    health: GuestHealth
    move: Move
    decision: str
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[int] = ..., wanted: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[_Union[Reason, _Mapping]] = ..., node: _Optional[str] = ..., node_id: _Optional[int] = ..., epoch: _Optional[int] = ..., since_ms: _Optional[int] = ..., created_ms: _Optional[int] = ..., vcpus: _Optional[int] = ..., memory_mib: _Optional[int] = ..., source: _Optional[_Union[Source, _Mapping]] = ..., store_path: _Optional[str] = ..., policy: _Optional[_Union[Policy, _Mapping]] = ..., keeps: bool = ..., restarts: _Optional[int] = ..., standby: _Optional[str] = ..., standby_readiness: _Optional[str] = ..., mode: _Optional[str] = ..., tie: _Optional[str] = ..., tied_to: _Optional[str] = ..., remark: _Optional[str] = ..., declared: _Optional[_Union[Declaration, _Mapping]] = ..., disk_mib: _Optional[int] = ..., health: _Optional[_Union[GuestHealth, _Mapping]] = ..., move: _Optional[_Union[Move, _Mapping]] = ..., decision: _Optional[str] = ...) -> None: ...

class GuestHealth(_message.Message):
    __slots__ = ("state", "text", "since_ms")
    STATE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    state: str
    text: str
    since_ms: int
    def __init__(self, state: _Optional[str] = ..., text: _Optional[str] = ..., since_ms: _Optional[int] = ...) -> None: ...

class Move(_message.Message):
    __slots__ = ("to", "state", "text", "by", "since_ms")
    TO_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    to: str
    state: str
    text: str
    by: str
    since_ms: int
    def __init__(self, to: _Optional[str] = ..., state: _Optional[str] = ..., text: _Optional[str] = ..., by: _Optional[str] = ..., since_ms: _Optional[int] = ...) -> None: ...

class MoveVmRequest(_message.Message):
    __slots__ = ("request_id", "name", "to", "grace_ms", "kill")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    KILL_FIELD_NUMBER: _ClassVar[int]
    request_id: RequestId
    name: str
    to: str
    grace_ms: int
    kill: bool
    def __init__(self, request_id: _Optional[_Union[RequestId, _Mapping]] = ..., name: _Optional[str] = ..., to: _Optional[str] = ..., grace_ms: _Optional[int] = ..., kill: bool = ...) -> None: ...

class ExplainVmRequest(_message.Message):
    __slots__ = ("name", "candidate")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    name: str
    candidate: CreateVmRequest
    def __init__(self, name: _Optional[str] = ..., candidate: _Optional[_Union[CreateVmRequest, _Mapping]] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("rule", "text", "refuses")
    RULE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REFUSES_FIELD_NUMBER: _ClassVar[int]
    rule: str
    text: str
    refuses: bool
    def __init__(self, rule: _Optional[str] = ..., text: _Optional[str] = ..., refuses: bool = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("node", "node_id", "rank", "findings")
    NODE_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    node: str
    node_id: int
    rank: int
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    def __init__(self, node: _Optional[str] = ..., node_id: _Optional[int] = ..., rank: _Optional[int] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ...) -> None: ...

class ExplainVmResponse(_message.Message):
    __slots__ = ("headline", "vm", "verdicts", "node", "fixes", "warnings", "as_of")
    HEADLINE_FIELD_NUMBER: _ClassVar[int]
    VM_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    FIXES_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    headline: str
    vm: Vm
    verdicts: _containers.RepeatedCompositeFieldContainer[Verdict]
    node: str
    fixes: _containers.RepeatedCompositeFieldContainer[Fix]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    as_of: AsOf
    def __init__(self, headline: _Optional[str] = ..., vm: _Optional[_Union[Vm, _Mapping]] = ..., verdicts: _Optional[_Iterable[_Union[Verdict, _Mapping]]] = ..., node: _Optional[str] = ..., fixes: _Optional[_Iterable[_Union[Fix, _Mapping]]] = ..., warnings: _Optional[_Iterable[str]] = ..., as_of: _Optional[_Union[AsOf, _Mapping]] = ...) -> None: ...

class ListVmsRequest(_message.Message):
    __slots__ = ("stale",)
    STALE_FIELD_NUMBER: _ClassVar[int]
    stale: bool
    def __init__(self, stale: bool = ...) -> None: ...

class ListVmsResponse(_message.Message):
    __slots__ = ("vms", "as_of")
    VMS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    vms: _containers.RepeatedCompositeFieldContainer[Vm]
    as_of: AsOf
    def __init__(self, vms: _Optional[_Iterable[_Union[Vm, _Mapping]]] = ..., as_of: _Optional[_Union[AsOf, _Mapping]] = ...) -> None: ...

class GetVmStatusRequest(_message.Message):
    __slots__ = ("name", "stale")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    name: str
    stale: bool
    def __init__(self, name: _Optional[str] = ..., stale: bool = ...) -> None: ...

class GetVmStatusResponse(_message.Message):
    __slots__ = ("vm", "as_of")
    VM_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    vm: Vm
    as_of: AsOf
    def __init__(self, vm: _Optional[_Union[Vm, _Mapping]] = ..., as_of: _Optional[_Union[AsOf, _Mapping]] = ...) -> None: ...

class GetRaftStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetRaftStatusResponse(_message.Message):
    __slots__ = ("is_leader", "node_id", "leader_id", "term", "state", "commit_index", "applied_index")
    IS_LEADER_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    LEADER_ID_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    is_leader: bool
    node_id: int
    leader_id: int
    term: int
    state: str
    commit_index: int
    applied_index: int
    def __init__(self, is_leader: bool = ..., node_id: _Optional[int] = ..., leader_id: _Optional[int] = ..., term: _Optional[int] = ..., state: _Optional[str] = ..., commit_index: _Optional[int] = ..., applied_index: _Optional[int] = ...) -> None: ...

class GreetRequest(_message.Message):
    __slots__ = ("node_id", "founding")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    FOUNDING_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    founding: bool
    def __init__(self, node_id: _Optional[int] = ..., founding: bool = ...) -> None: ...

class GreetResponse(_message.Message):
    __slots__ = ("node_id", "cluster_id", "knows_you", "founding")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    KNOWS_YOU_FIELD_NUMBER: _ClassVar[int]
    FOUNDING_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    cluster_id: str
    knows_you: bool
    founding: bool
    def __init__(self, node_id: _Optional[int] = ..., cluster_id: _Optional[str] = ..., knows_you: bool = ..., founding: bool = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("node_id", "address")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    address: str
    def __init__(self, node_id: _Optional[int] = ..., address: _Optional[str] = ...) -> None: ...

class JoinThroughRequest(_message.Message):
    __slots__ = ("address",)
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    address: str
    def __init__(self, address: _Optional[str] = ...) -> None: ...

class JoinThroughResponse(_message.Message):
    __slots__ = ("cluster_id",)
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    def __init__(self, cluster_id: _Optional[str] = ...) -> None: ...

class JoinClusterRequest(_message.Message):
    __slots__ = ("node_id", "bind_address", "machine_id", "join_id", "level")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    BIND_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    MACHINE_ID_FIELD_NUMBER: _ClassVar[int]
    JOIN_ID_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    bind_address: str
    machine_id: str
    join_id: str
    level: int
    def __init__(self, node_id: _Optional[int] = ..., bind_address: _Optional[str] = ..., machine_id: _Optional[str] = ..., join_id: _Optional[str] = ..., level: _Optional[int] = ...) -> None: ...

class JoinClusterResponse(_message.Message):
    __slots__ = ("cluster_id", "members")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, cluster_id: _Optional[str] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class LeaveClusterRequest(_message.Message):
    __slots__ = ("node_id", "request_id")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    request_id: RequestId
    def __init__(self, node_id: _Optional[int] = ..., request_id: _Optional[_Union[RequestId, _Mapping]] = ...) -> None: ...

class LeaveClusterResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ConfirmNodeDownRequest(_message.Message):
    __slots__ = ("request_id", "node_id", "name", "by", "incarnation")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    request_id: RequestId
    node_id: int
    name: str
    by: str
    incarnation: int
    def __init__(self, request_id: _Optional[_Union[RequestId, _Mapping]] = ..., node_id: _Optional[int] = ..., name: _Optional[str] = ..., by: _Optional[str] = ..., incarnation: _Optional[int] = ...) -> None: ...

class ConfirmNodeDownResponse(_message.Message):
    __slots__ = ("index", "note")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    index: int
    note: str
    def __init__(self, index: _Optional[int] = ..., note: _Optional[str] = ...) -> None: ...

class SubmitReportRequest(_message.Message):
    __slots__ = ("node_id", "entry")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    entry: bytes
    def __init__(self, node_id: _Optional[int] = ..., entry: _Optional[bytes] = ...) -> None: ...

class SubmitReportResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: bytes
    def __init__(self, outcome: _Optional[bytes] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("node_id", "name", "address", "state", "role", "vcpus", "memory_mib", "vcpus_reserved", "memory_reserved_mib", "vms", "version", "incarnation", "heard_ms", "silent", "mode", "lease_ms", "renewed_ms_ago", "labels", "disk_mib", "disk_reserved_mib", "drain")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    VCPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    VCPUS_RESERVED_FIELD_NUMBER: _ClassVar[int]
    MEMORY_RESERVED_MIB_FIELD_NUMBER: _ClassVar[int]
    VMS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    HEARD_MS_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    RENEWED_MS_AGO_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    DISK_MIB_FIELD_NUMBER: _ClassVar[int]
    DISK_RESERVED_MIB_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    name: str
    address: str
    state: str
    role: str
    vcpus: int
    memory_mib: int
    vcpus_reserved: int
    memory_reserved_mib: int
    vms: int
    version: str
    incarnation: int
    heard_ms: int
    silent: bool
    mode: str
    lease_ms: int
    renewed_ms_ago: int
    labels: _containers.ScalarMap[str, str]
    disk_mib: int
    disk_reserved_mib: int
    drain: Drain
    def __init__(self, node_id: _Optional[int] = ..., name: _Optional[str] = ..., address: _Optional[str] = ..., state: _Optional[str] = ..., role: _Optional[str] = ..., vcpus: _Optional[int] = ..., memory_mib: _Optional[int] = ..., vcpus_reserved: _Optional[int] = ..., memory_reserved_mib: _Optional[int] = ..., vms: _Optional[int] = ..., version: _Optional[str] = ..., incarnation: _Optional[int] = ..., heard_ms: _Optional[int] = ..., silent: bool = ..., mode: _Optional[str] = ..., lease_ms: _Optional[int] = ..., renewed_ms_ago: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., disk_mib: _Optional[int] = ..., disk_reserved_mib: _Optional[int] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ("by", "reason", "since_ms", "until_restart")
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_RESTART_FIELD_NUMBER: _ClassVar[int]
    by: str
    reason: str
    since_ms: int
    until_restart: bool
    def __init__(self, by: _Optional[str] = ..., reason: _Optional[str] = ..., since_ms: _Optional[int] = ..., until_restart: bool = ...) -> None: ...

class DrainNodeRequest(_message.Message):
    __slots__ = ("request_id", "node_id", "reason", "until_restart")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    UNTIL_RESTART_FIELD_NUMBER: _ClassVar[int]
    request_id: RequestId
    node_id: int
    reason: str
    until_restart: bool
    def __init__(self, request_id: _Optional[_Union[RequestId, _Mapping]] = ..., node_id: _Optional[int] = ..., reason: _Optional[str] = ..., until_restart: bool = ...) -> None: ...

class DrainNodeResponse(_message.Message):
    __slots__ = ("index", "note")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    index: int
    note: str
    def __init__(self, index: _Optional[int] = ..., note: _Optional[str] = ...) -> None: ...

class ResumeNodeRequest(_message.Message):
    __slots__ = ("request_id", "node_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: RequestId
    node_id: int
    def __init__(self, request_id: _Optional[_Union[RequestId, _Mapping]] = ..., node_id: _Optional[int] = ...) -> None: ...

class ResumeNodeResponse(_message.Message):
    __slots__ = ("index", "note")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    index: int
    note: str
    def __init__(self, index: _Optional[int] = ..., note: _Optional[str] = ...) -> None: ...

class PlanDrainRequest(_message.Message):
    __slots__ = ("node_id",)
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    def __init__(self, node_id: _Optional[int] = ...) -> None: ...

class DrainStep(_message.Message):
    __slots__ = ("vm", "state", "to", "why", "move")
    VM_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    MOVE_FIELD_NUMBER: _ClassVar[int]
    vm: str
    state: str
    to: str
    why: str
    move: Move
    def __init__(self, vm: _Optional[str] = ..., state: _Optional[str] = ..., to: _Optional[str] = ..., why: _Optional[str] = ..., move: _Optional[_Union[Move, _Mapping]] = ...) -> None: ...

class PlanDrainResponse(_message.Message):
    __slots__ = ("node", "steps", "as_of")
    NODE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    node: Node
    steps: _containers.RepeatedCompositeFieldContainer[DrainStep]
    as_of: AsOf
    def __init__(self, node: _Optional[_Union[Node, _Mapping]] = ..., steps: _Optional[_Iterable[_Union[DrainStep, _Mapping]]] = ..., as_of: _Optional[_Union[AsOf, _Mapping]] = ...) -> None: ...

class Exposure(_message.Message):
    __slots__ = ("node", "vms")
    NODE_FIELD_NUMBER: _ClassVar[int]
    VMS_FIELD_NUMBER: _ClassVar[int]
    node: str
    vms: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, node: _Optional[str] = ..., vms: _Optional[_Iterable[str]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("since_index", "last", "finite", "objects", "vms", "nodes")
    SINCE_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    FINITE_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    VMS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    since_index: int
    last: int
    finite: bool
    objects: bool
    vms: _containers.RepeatedScalarFieldContainer[str]
    nodes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, since_index: _Optional[int] = ..., last: _Optional[int] = ..., finite: bool = ..., objects: bool = ..., vms: _Optional[_Iterable[str]] = ..., nodes: _Optional[_Iterable[str]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("index", "at_ms", "kind", "subject", "code", "text", "actor", "cause", "grave", "node")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    GRAVE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    index: int
    at_ms: int
    kind: str
    subject: str
    code: str
    text: str
    actor: str
    cause: str
    grave: bool
    node: str
    def __init__(self, index: _Optional[int] = ..., at_ms: _Optional[int] = ..., kind: _Optional[str] = ..., subject: _Optional[str] = ..., code: _Optional[str] = ..., text: _Optional[str] = ..., actor: _Optional[str] = ..., cause: _Optional[str] = ..., grave: bool = ..., node: _Optional[str] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("type", "index", "initial", "event", "vm", "node", "kind", "name")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    INITIAL_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    VM_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    type: str
    index: int
    initial: bool
    event: Event
    vm: Vm
    node: Node
    kind: str
    name: str
    def __init__(self, type: _Optional[str] = ..., index: _Optional[int] = ..., initial: bool = ..., event: _Optional[_Union[Event, _Mapping]] = ..., vm: _Optional[_Union[Vm, _Mapping]] = ..., node: _Optional[_Union[Node, _Mapping]] = ..., kind: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ReadLogRequest(_message.Message):
    __slots__ = ("name", "lines", "follow", "build", "local", "epoch", "from_start")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    BUILD_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FROM_START_FIELD_NUMBER: _ClassVar[int]
    name: str
    lines: int
    follow: bool
    build: bool
    local: bool
    epoch: int
    from_start: bool
    def __init__(self, name: _Optional[str] = ..., lines: _Optional[int] = ..., follow: bool = ..., build: bool = ..., local: bool = ..., epoch: _Optional[int] = ..., from_start: bool = ...) -> None: ...

class LogLine(_message.Message):
    __slots__ = ("at_ms", "text")
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    at_ms: int
    text: str
    def __init__(self, at_ms: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class LogChunk(_message.Message):
    __slots__ = ("node", "lines", "note")
    NODE_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    node: str
    lines: _containers.RepeatedCompositeFieldContainer[LogLine]
    note: str
    def __init__(self, node: _Optional[str] = ..., lines: _Optional[_Iterable[_Union[LogLine, _Mapping]]] = ..., note: _Optional[str] = ...) -> None: ...

class ConsoleOpen(_message.Message):
    __slots__ = ("name", "by", "local", "epoch")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    name: str
    by: str
    local: bool
    epoch: int
    def __init__(self, name: _Optional[str] = ..., by: _Optional[str] = ..., local: bool = ..., epoch: _Optional[int] = ...) -> None: ...

class ConsoleInput(_message.Message):
    __slots__ = ("open", "data")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    open: ConsoleOpen
    data: bytes
    def __init__(self, open: _Optional[_Union[ConsoleOpen, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class ConsoleOutput(_message.Message):
    __slots__ = ("data", "note", "node")
    DATA_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    note: str
    node: str
    def __init__(self, data: _Optional[bytes] = ..., note: _Optional[str] = ..., node: _Optional[str] = ...) -> None: ...

class GetClusterStatusRequest(_message.Message):
    __slots__ = ("stale",)
    STALE_FIELD_NUMBER: _ClassVar[int]
    stale: bool
    def __init__(self, stale: bool = ...) -> None: ...

class GetClusterStatusResponse(_message.Message):
    __slots__ = ("cluster_id", "leader_id", "nodes", "term", "commit_index", "vms", "quorum", "as_of", "exposed")
    class VmsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    LEADER_ID_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    VMS_FIELD_NUMBER: _ClassVar[int]
    QUORUM_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    EXPOSED_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    leader_id: int
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    term: int
    commit_index: int
    vms: _containers.ScalarMap[str, int]
    quorum: int
    as_of: AsOf
    exposed: _containers.RepeatedCompositeFieldContainer[Exposure]
    def __init__(self, cluster_id: _Optional[str] = ..., leader_id: _Optional[int] = ..., nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., term: _Optional[int] = ..., commit_index: _Optional[int] = ..., vms: _Optional[_Mapping[str, int]] = ..., quorum: _Optional[int] = ..., as_of: _Optional[_Union[AsOf, _Mapping]] = ..., exposed: _Optional[_Iterable[_Union[Exposure, _Mapping]]] = ...) -> None: ...

class HealthCheckRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthCheckResponse(_message.Message):
    __slots__ = ("healthy", "message")
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    healthy: bool
    message: str
    def __init__(self, healthy: bool = ..., message: _Optional[str] = ...) -> None: ...
