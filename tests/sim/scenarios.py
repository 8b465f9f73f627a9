"""Short stories for rules that random histories seldom need: each fails without its rule, and its
complaint begins with the invariant that is broken."""

from blixard.commands import RegisterNode
from blixard.raft.engine import Applied
from blixard.raft.outcome import Outcome
from blixard.raft.wire import Append, decode
from blixard.v1.raft_pb2 import RaftEnvelope
from core.world import World
from raft.lab import Lab, MemoryStore


def a_registration_that_lands_late() -> None:
    """A host registered, got no answer, and registered again; then it got a VM. Now the first
    attempt lands."""
    world = World(0)
    node_id = world.bring_up()
    node, holder = world.cluster.nodes[node_id], world.vm("web").holder
    world.ask(
        RegisterNode(
            node_id, node.machine_id, node.join_id, node.address, 0, node.capacity, node.version
        )
    )
    assert world.vm("web").holder == holder, "holder-last: web runs, and is released"


def a_deposed_leader_is_asked() -> None:
    """Cut off from the others, it still believes that it leads."""
    lab = Lab().found(3)
    old = lab.lead()
    lab.isolate(old)
    told: list[Outcome] = []
    lab.nodes[old].engine.barrier(told.append)
    lab.run(0.2)
    assert told == [], "linearizability: a leader without a majority answers a reader"


def a_reader_comes_after_the_barrier() -> None:
    """What was committed between the barrier and its reader must be seen."""
    lab = Lab().found(3)
    engine = lab.nodes[lab.lead()].engine
    last = engine.status().last_index
    told: list[Outcome] = []
    engine.barrier(told.append)
    engine.tick()
    engine.barrier(told.append)
    lab.settle()
    late = told[-1]
    assert isinstance(late, Applied)
    assert late.index > last + 1, "linearizability: a reader shares a barrier older than itself"


def a_wiped_node_comes_back() -> None:
    """Its new journal has forgotten what the old one promised: it counts for no majority."""
    lab = Lab().found(3)
    lab.commit(b"a")
    leader = lab.lead()
    wiped, third = (node for node in lab.nodes if node != leader)
    for node in (leader, wiped, third):
        lab.crash(node)
    lab.disks[wiped] = MemoryStore()
    lab.join(wiped, birth=99)
    lab.start(leader)
    lab.run(12)
    told: list[Outcome] = []
    lab.nodes[leader].engine.propose(b"b", told.append)
    lab.run(1)
    answers = [outcome.__class__ for outcome in told]
    assert Applied not in answers, "quorum-durability: a node that forgot its log makes a majority"


def a_newcomer_gets_no_entries() -> None:
    """It answers, but it has nothing of the log yet."""
    lab = Lab().found(3)
    lab.commit(*(b"%d" % number for number in range(150)))

    def passes(envelope: RaftEnvelope) -> bool:
        message = decode(envelope.message)
        bears = envelope.HasField("snapshot") or (isinstance(message, Append) and message.entries)
        return envelope.receiver != 4 or not bears

    lab.join(4)
    lab.passes = passes
    lab.add(4, lambda _: None)
    lab.run(2)
    leader = lab.lead()
    assert 4 not in lab.members(leader), "convergence: a node without the log counts for majorities"
