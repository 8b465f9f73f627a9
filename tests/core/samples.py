"""One value of every kind that is written to the log, with every field set."""

from dataclasses import replace
from hashlib import sha256

from blixard.commands import (
    AbandonMove,
    AddNode,
    AssignStandby,
    AttestState,
    CheckIn,
    Command,
    ConfirmDown,
    CreateVm,
    DeclareNodeDown,
    DeclareVm,
    DeferVm,
    DeleteVm,
    DisownVm,
    DrainNode,
    Entry,
    HandOverVm,
    Kept,
    MoveVm,
    PlaceVm,
    RaiseLevel,
    RegisterNode,
    RemoveNode,
    Renewal,
    RenewLeases,
    ReportHealth,
    ReportStandby,
    ReportVm,
    RestartVm,
    ResumeNode,
    SetPolicy,
    SettleNode,
    StartVm,
    StopVm,
)
from blixard.errors import Code
from blixard.model import (
    Accepted,
    Capacity,
    Cluster,
    Declaration,
    Drain,
    Fix,
    Health,
    HealthState,
    Holder,
    Membership,
    Move,
    Node,
    Outcome,
    Readiness,
    Reason,
    Rejected,
    Release,
    Remembered,
    RequestId,
    Standby,
    State,
    Vm,
    VmSpec,
    Wanted,
)
from blixard.policy import (
    CheckKind,
    Failover,
    GuestCheck,
    OnQuorumLoss,
    Policy,
    Relation,
    Strategy,
    Term,
)
from blixard.source import FlakeSource, PackedSource, StoreSource

CONTENT = b"a packed folder"
FLAKE = FlakeSource("git+https://example.org/infra?rev=0123456789abcdef", "web", "sha256-AAAA=")
PACKED = PackedSource(sha256(CONTENT).hexdigest(), "db")
STORE = StoreSource("/nix/store/00000000000000000000000000000000-microvm-ci")

CONSTRAINED = Policy(
    priority=-3,
    strategy=Strategy.PACK,
    group="web",
    require=(Term("zone", "a"), Term("kvm", "no", negated=True)),
    prefer=(Term("rack", "b7"),),
    near=(Relation("db"),),
    prefer_near=(Relation("cache", "rack"),),
    apart=(Relation("web", "zone"),),
    prefer_apart=(Relation("ci"),),
    check=GuestCheck(CheckKind.TCP, "10.0.0.9:80", 1_000, 500, 2, 9_000, restarts=True),
)

COMMANDS: dict[str, Command] = {
    "create-flake": CreateVm("web", VmSpec(FLAKE, 2, 1024)),
    "create-packed": CreateVm("db", VmSpec(PACKED, 4, 4096), Wanted.STOPPED, CONTENT),
    "create-store": CreateVm("ci", VmSpec(STORE, 1, 256)),
    "start": StartVm("web"),
    "stop": StopVm("web", grace_ms=5_000, kill=True),
    "restart": RestartVm("web", grace_ms=10_000),
    "delete": DeleteVm("web"),
    "place": PlaceVm("web", uid=7, node_id=1, incarnation=3),
    "defer": DeferVm("web", uid=7, why="node-1: 0 of 2 vCPUs free"),
    "report": ReportVm(
        "web", 7, 1, 3, 9, 3, State.RUNNING, Reason("active", "runs"), "/nix/store/0-runner"
    ),
    "report-nothing-built": ReportVm("web", 7, 1, 3, 9, 3, State.FAILED, Reason("exited", "é 💥")),
    "add-node": AddNode(2, "10.0.0.2:7001", "machine-2", "join-2"),
    "remove-node": RemoveNode(2),
    "settle-node": SettleNode(2, "join-2", is_member=True),
    "register-node": RegisterNode(
        2, "machine-2", "join-2", "10.0.0.2:7001", 3, Capacity(8, 16_384), "1.0.0"
    ),
    "check-in": CheckIn(2, 12, "10.0.0.2:7001", Capacity(8, 16_384), "1.0.1"),
    "add-node-of-level-2": AddNode(2, "10.0.0.2:7001", "machine-2", "join-2", level=2),
    "register-node-of-level-2": RegisterNode(
        2, "machine-2", "join-2", "10.0.0.2:7001", 3, Capacity(8, 16_384), "2.0.0", level=2
    ),
    "check-in-of-level-2": CheckIn(2, 12, "b:7001", Capacity(8, 16_384), "2.0.0", level=2),
    "create-with-policy": CreateVm(
        "web",
        VmSpec(FLAKE, 2, 1024),
        policy=Policy(OnQuorumLoss.KEEP, Failover.ALWAYS, restart_limit=0),
    ),
    "set-policy": SetPolicy("web", Policy(OnQuorumLoss.STOP, Failover.NEVER, 7)),
    "report-built": replace(
        ReportVm("web", 7, 1, 3, 9, 3, State.STARTING, Reason("built", "starts"), "/nix/store/0-r"),
        volumes=("data.img", "/srv/shared.img"),
    ),
    "report-dead": ReportVm(
        "web", 7, 1, 3, 9, 3, State.FAILED, Reason("guest-exited", "1"), ran_ms=75_000
    ),
    "assign-standby": AssignStandby("web", 7, 2, 5),
    "assign-no-standby": AssignStandby("web", 7, None),
    "report-standby": ReportStandby("web", 7, 2, 5, Readiness.BUILT),
    "register-node-that-keeps": RegisterNode(
        2,
        "machine-2",
        "join-2",
        "10.0.0.2:7001",
        3,
        Capacity(8, 16_384),
        "1.0.0",
        lease_ms=20_000,
        guaranteed=True,
        kept=(Kept("web", 7, 9),),
    ),
    "check-in-with-lease": CheckIn(
        2, 12, "b:7001", Capacity(8, 16_384), "1.0", lease_ms=20_000, guaranteed=True
    ),
    "renew-leases": RenewLeases((Renewal(1, 3, 1_234_567), Renewal(2, 5, 89))),
    "declare-node-down": DeclareNodeDown(1, 3, 1_234_567),
    "confirm-down": ConfirmDown(1, 3, "root@host"),
    "declare": DeclareVm(
        "db",
        1,
        3,
        VmSpec(PACKED, 4, 4096),
        "d1",
        Policy(OnQuorumLoss.KEEP, Failover.NEVER, 2),
        CONTENT,
    ),
    "disown": DisownVm("db", 1, 3),
    "create-with-constraints": CreateVm(
        "web", VmSpec(FLAKE, 2, 1024, disk_mib=2048), policy=CONSTRAINED
    ),
    "place-with-decision": PlaceVm("web", 7, 1, 3, "node-1: most free\nnode-2: is down"),
    "register-node-with-labels": RegisterNode(
        2, "m2", "j2", "b:1", 3, Capacity(8, 16_384, 50_000), "1", labels={"zone": "a"}
    ),
    "check-in-with-labels": CheckIn(
        2, 12, "b:7001", Capacity(8, 16_384, 50_000), "1", labels={"zone": "a"}
    ),
    "move": MoveVm("web", 2, "anna@desk", 5_000, kill=True),
    "hand-over": HandOverVm("web", 7, 9, 2, 5),
    "abandon-move": AbandonMove("web", 7, 9, "it does not build on node-2"),
    "report-health": ReportHealth("web", 7, 1, 3, 9, 3, HealthState.FAILING, "refused"),
    "drain-node": DrainNode(1, "anna@desk", "kernel update", until_restart=True),
    "resume-node": ResumeNode(1, "anna@desk"),
    "raise-level": RaiseLevel(2),
    "attest-state": AttestState(4_000, bytes(range(16))),
}

REQUEST = RequestId("0b5c-session", number=42, base_index=40)

ENTRIES: dict[str, Entry] = {
    **{name: Entry(command, 1_700_000_000_000) for name, command in COMMANDS.items()},
    "requested": Entry(StartVm("web"), 1_700_000_000_000, REQUEST),
    "asked-by": Entry(StartVm("web"), 1_700_000_000_000, by="anna@desk"),
}

REJECTED = Rejected(
    Code.EXISTS,
    'a VM named "web" already exists',
    why="it is running on node-1",
    fixes=(Fix("look at it", "blixard vm status web"), Fix("or choose another name")),
)

OUTCOMES: dict[str, Outcome] = {"accepted": Accepted(17, "noted"), "rejected": REJECTED}

CLUSTER = Cluster(
    vms={
        "web": Vm(
            "web",
            uid=7,
            spec=VmSpec(FLAKE, 2, 1024),
            wanted=Wanted.DELETED,
            state=State.STOPPING,
            reason=Reason("requested", "deleted by request"),
            since_ms=1_700_000_000_900,
            created_ms=1_700_000_000_000,
            holder=Holder(1, 3, 9),
            release=Release(30_000, kill=False),
            runner="/nix/store/0-runner",
            last_node=1,
        ),
        "db": Vm(
            "db",
            uid=8,
            spec=VmSpec(PACKED, 4, 4096),
            wanted=Wanted.STOPPED,
            state=State.STOPPED,
            reason=Reason("created", "created, not started"),
            since_ms=1_700_000_000_100,
            created_ms=1_700_000_000_100,
        ),
    },
    nodes={
        1: Node(
            1, "a:7001", "machine-1", "join-1", Membership.MEMBER, 3, Capacity(8, 16_384), "1.0.0"
        ),
        2: Node(2, "b:7001", "machine-2", "join-2", Membership.JOINING),
    },
    sources={PACKED.digest: CONTENT},
    outcomes={
        "s/2": Remembered(15, REJECTED),
        "s/1": Remembered(16, Accepted(16)),
    },
    forgotten_index=14,
)

CLUSTER_OF_LEVEL_2 = replace(
    CLUSTER,
    nodes={1: replace(CLUSTER.nodes[1], level=2), 2: replace(CLUSTER.nodes[2], level=3)},
    level=2,
    attested_index=4_000,
)

CLUSTER_WITH_LEASES = replace(
    CLUSTER,
    vms={
        **CLUSTER.vms,
        "web": replace(
            CLUSTER.vms["web"],
            wanted=Wanted.RUNNING,
            state=State.UNREACHABLE,
            release=None,
            policy=Policy(OnQuorumLoss.KEEP, Failover.NEVER, 3),
            keeps=True,
            volumes=("data.img",),
            failures=2,
            failed_on=2,
            standby=Standby(2, 5, Readiness.FAILED),
        ),
    },
    nodes={
        **CLUSTER.nodes,
        1: replace(CLUSTER.nodes[1], lease_ms=20_000, seq=1_234_567, is_down=True, guaranteed=True),
    },
)

CLUSTER_WITH_DECLARATIONS = replace(
    CLUSTER,
    vms={
        **CLUSTER.vms,
        "db": replace(
            CLUSTER.vms["db"],
            declared=Declaration(1, 3, "d1", VmSpec(PACKED, 8, 8192), 12),
            spec_index=10,
            has_left=True,
        ),
    },
)

CLUSTER_WITH_MOVES = replace(
    CLUSTER,
    vms={
        **CLUSTER.vms,
        "web": replace(
            CLUSTER.vms["web"],
            policy=CONSTRAINED,
            health=Health(HealthState.OK, "connected", 1_700_000_000_950),
            move=Move(2, "anna@desk", 1_700_000_000_960, Release(5_000, kill=False), "no", 7),
            decision="node-1: most free",
        ),
    },
    nodes={
        **CLUSTER.nodes,
        1: replace(
            CLUSTER.nodes[1],
            capacity=Capacity(8, 16_384, 50_000),
            labels={"zone": "a"},
            drain=Drain("anna@desk", "kernel update", 1_700_000_000_970, until_restart=True),
        ),
    },
)

CLUSTER_WITH_REQUESTS = replace(
    CLUSTER, outcomes={"s/3": Remembered(17, Accepted(17), "StartVm web")}
)
