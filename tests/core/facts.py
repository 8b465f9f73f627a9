"""What the tests of `decide` begin with: two nodes, and a VM that node-1 holds."""

from dataclasses import replace

from blixard.decide.node import (
    Me,
)
from blixard.model import (
    Capacity,
    Cluster,
    Holder,
    Membership,
    Node,
    Reason,
    State,
    Vm,
    VmSpec,
    Wanted,
)
from blixard.source import StoreSource
from core.strategies import CONTENTS, packed

STORE = StoreSource("/nix/store/0-vm")
RUNNER = "/nix/store/1-runner"
ROOM = Capacity(4, 4096)


def node_of(node_id: int, membership: Membership = Membership.MEMBER) -> Node:
    return Node(
        node_id,
        f"n{node_id}:7001",
        f"m{node_id}",
        f"j{node_id}",
        membership,
        incarnation=10 + node_id,
        capacity=ROOM,
    )


ME = Me(1, 11, 12)

VM = Vm(
    name="web",
    uid=20,
    spec=VmSpec(STORE, 2, 1024),
    wanted=Wanted.RUNNING,
    state=State.STARTING,
    reason=Reason("placed", "placed on node-1"),
    since_ms=0,
    created_ms=0,
    holder=Holder(1, 11, 30),
    last_node=1,
)
PENDING = replace(VM, state=State.PENDING, holder=None, last_node=None)


def cluster_of(*vms: Vm, nodes: tuple[Node, ...] = (node_of(1), node_of(2))) -> Cluster:
    return Cluster(
        vms={vm.name: vm for vm in vms},
        nodes={node.node_id: node for node in nodes},
        sources={packed(CONTENTS[0]).digest: CONTENTS[0]},
    )


FREE = replace(VM, state=State.RUNNING, runner=RUNNER, volumes=())
