"""One simulated daemon: the shipped engine, law and agent, wired as in `blixard.daemon`.

What the daemon does with asyncio and gRPC is done here by events: a turn of the engine after
whatever concerns it and when one is due, a step of the agent every half second and after whatever
changed.
"""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, Final

from blixard import admission, codec
from blixard.agent import Agent, Self
from blixard.commands import AddNode, Command, NodeCommand
from blixard.errors import BlixardError, Code
from blixard.machine.changes import Batch
from blixard.model import Accepted, Outcome, Rejected
from blixard.ports import Done, Unavailable
from blixard.raft.engine import RaftEngine, Turn
from blixard.raft.recovery import bootstrap, identity_of, join
from blixard.raft.replica import Replica
from blixard.sim import releases
from blixard.sim.disk import DiskStore
from blixard.sim.hypervisor import GuestChecks, Units
from blixard.sim.world import CLUSTER_ID
from blixard.v1 import blixard_pb2 as pb
from blixard.v1.raft_pb2 import RaftEnvelope

if TYPE_CHECKING:
    from blixard.sim.computer import Computer
    from blixard.sim.host import Host

TURN_US: Final = 50
"""How long after a wish to tick the event loop comes round to it."""
STEP_US: Final = 500_000
RENEW_US: Final = 1_000_000
RETRY_US: Final = 1_000_000
CALL_MS: Final = 5_000
FOUNDER: Final = 1
"""The node that is told to found the cluster."""


def address_of(node_id: int) -> str:
    """Where a node is reached."""
    return f"host{node_id}:7001"


class Lives:
    """`ports.Lives`: what is written down is of this boot of the computer."""

    def __init__(self, computer: "Computer") -> None:
        self._computer = computer

    def load(self) -> int | None:
        return self._computer.life

    def save(self, incarnation: int) -> None:
        self._computer.life = incarnation
        self._computer.world.execution.registered(incarnation, self._computer)


class Node:
    """One life of the daemon of one host."""

    engine: RaftEngine
    log: Replica
    agent: Agent

    def __init__(self, host: "Host") -> None:
        self.host = host
        self.node_id = host.node_id
        self.is_dead = False
        self.is_open = False
        """Whether it belongs to a cluster and takes part in consensus."""
        self.state = releases.State(host, self._told)
        self._world = host.world
        self._store = DiskStore(host.disk, host)
        self._refusals: dict[int, str] = {}
        self._tick_token = 0
        self._is_woken = False
        self._is_writing = False
        self._is_stepping = False
        self.cluster_id = ""

    def enter(self, act: Callable[[], object]) -> None:
        """Run something in this process, if it is alive and when it is awake."""
        self.host.enter(self, act)

    # --- the way into a cluster -----------------------------------------------------------------

    def begin(self) -> None:
        """What the daemon does first: find out to which cluster it belongs."""
        identity = identity_of(self._store)
        if identity is not None:
            self.cluster_id = identity.cluster_id
            self._open()
            return
        peers = [node for node in sorted(self._world.hosts) if node != self.node_id]
        answers = [answer for peer in peers if (answer := self._greet(peer)) is not None]
        founding = self.node_id == FOUNDER
        addresses = [address_of(peer) for peer in peers] if len(peers) > 1 else []
        match admission.choose(self.node_id, founding, addresses, answers):
            case admission.Found():
                bootstrap(
                    self._store,
                    CLUSTER_ID,
                    self.node_id,
                    address_of(self.node_id),
                    birth=self.host.birth,
                )
            case admission.Join(cluster_id):
                join(self._store, cluster_id, self.node_id, birth=self.host.birth)
            case admission.Wait():
                self._world.later(RETRY_US, lambda: self.enter(self.begin))
                return
        self.begin()

    def _greet(self, peer: int) -> pb.GreetResponse | None:
        network = self._world.network
        pairs = ((self.node_id, peer), (peer, self.node_id))
        other = self._world.hosts[peer].node
        if other is None or any(network.is_blocked(*pair) for pair in pairs):
            return None
        known = other.is_open and self.node_id in other.log.cluster().nodes
        return pb.GreetResponse(
            node_id=peer,
            cluster_id=other.cluster_id,
            knows_you=known,
            founding=peer == FOUNDER and not other.cluster_id,
        )

    def _open(self) -> None:
        host = self.host
        seed = f"engine {self._world.plan.seed} {self.node_id} {self._world.now_us}"
        self.engine = RaftEngine(
            self.node_id,
            self._store,
            self.state,
            self._send,
            host.monotonic_s,
            Random(seed),
            self._world.plan.timings,
        )
        self.engine.wake = self._wake
        self.log = Replica(self.engine, self.state, self.cluster_id, host, self._forward)
        me = Self(
            node_id=self.node_id,
            address=address_of(self.node_id),
            machine_id=host.computer.machine_id,
            join_id=host.join_id,
            capacity=host.capacity,
            version=f"{host.release}.0",
            level=host.release,
        )
        computer = host.computer
        units = Units(computer)
        checks = GuestChecks(computer)
        lives = Lives(computer)
        self.agent = Agent(me, self.log, units, computer.builds, lives, host, checks=checks)
        self.is_open = True
        computer.hypervisor.changed = computer.builds.changed = self._step_soon
        computer.keeper.came_back = lambda: self.enter(units.tell_again)
        self._world.checks.opened(self)
        self._schedule(TURN_US)
        self._step_later()
        self._renew_and_later()
        self._stay_admitted()

    def _stay_admitted(self) -> None:
        """Ask to be admitted while the own log does not name this node, or members refuse it."""
        self._world.later(RETRY_US, lambda: self.enter(self._stay_admitted))
        status = self.log.status()
        shut_out = status.leader_id is None and self._refusals
        if self.node_id in status.members and not shut_out:
            return
        others = [node for node in sorted(self._world.hosts) if node != self.node_id]
        request = AddNode(
            self.node_id,
            address_of(self.node_id),
            self.host.computer.machine_id,
            self.host.join_id,
            level=self.host.release,
        )
        asked = self._world.random.choice(others)

        def answered(outcome: Any) -> None:
            if isinstance(outcome, Rejected) and not self.is_dead:
                self.enter(lambda: self._turned_away(outcome))

        self._world.network.call(
            self.node_id, asked, lambda node, reply: node.admit(request, reply), answered, CALL_MS
        )

    def _turned_away(self, rejected: Rejected) -> None:
        if rejected.code is not Code.BUSY:
            raise BlixardError(rejected.message, code=rejected.code)

    def admit(self, request: AddNode, reply: Callable[[Any], None]) -> None:
        """JoinCluster: the leader admits a node."""
        if self.is_open and self.log.status().is_leader:
            self.log.propose(request, reply)
        else:
            reply(None)

    # --- the loop -------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            if not self._is_writing:
                self._schedule(TURN_US)

    def _schedule(self, after_us: int) -> None:
        self._tick_token = token = self._tick_token + 1
        self._world.later(after_us, lambda: self._tick_if(token))

    def _tick_if(self, token: int) -> None:
        if token == self._tick_token and not self.is_dead:
            self.enter(lambda: self._tick(token))

    def _tick(self, token: int) -> None:
        if token != self._tick_token or self._is_writing:
            return
        self._is_woken = False
        turn = self.engine.begin()
        if turn.write is None:
            self._end(turn)
            return
        # What arrives while the disk works belongs to the next turn.
        self._is_writing = True
        self._world.later(self.host.disk.sync_us(), lambda: self.enter(lambda: self._write(turn)))

    def _write(self, turn: Turn) -> None:
        self.engine.write(turn)
        self._is_writing = False
        self._end(turn)

    def _end(self, turn: Turn) -> None:
        self.engine.end(turn)
        self._world.checks.ticked(self)
        self._schedule(TURN_US if self._is_woken else int(self.engine.pause_s * 1e6))

    def _step_later(self) -> None:
        self._world.later(STEP_US, lambda: self.enter(self._step_now_and_later))

    def _step_now_and_later(self) -> None:
        self._step_later()
        self.agent.step()

    def _renew_and_later(self) -> None:
        """Sleeps after each, as the daemon does."""
        self.agent.renew()
        self._world.later(RENEW_US, lambda: self.enter(self._renew_and_later))

    def _step_soon(self) -> None:
        if not self._is_stepping and not self.is_dead and self.is_open:
            self._is_stepping = True
            self._world.later(TURN_US, lambda: self.enter(self._step))

    def _step(self) -> None:
        self._is_stepping = False
        self.agent.step()

    def _told(self, batch: Batch) -> None:
        for event in batch.events:
            self._world.trace.aside(self.host.name, f"applied: {event.text}")
        if batch.events:
            self._step_soon()

    # --- messages -------------------------------------------------------------------------------

    def _send(self, receiver: int, address: str, envelope: RaftEnvelope) -> None:
        assert address == address_of(receiver)
        self.host.point("message")
        if envelope.HasField("snapshot"):
            self.host.point("snapshot")
        self._world.network.send(self, receiver, envelope)

    def refused(self, peer: int, reason: str) -> None:
        """A peer will not listen to this node."""
        if self._refusals.get(peer) != reason:
            self._world.trace.note(self.host.name, f"is refused by node-{peer}: {reason}")
        self._refusals[peer] = reason

    def _forward(self, address: str, entry: bytes, done: Done) -> None:
        """Carry an entry of this node to the leader."""
        leader = next(n for n in self._world.hosts if address_of(n) == address)

        def answered(outcome: Any) -> None:
            if outcome is None:
                outcome = Unavailable("the leader did not decide")
            if not self.is_dead:
                self.enter(lambda: done(outcome))

        self._world.network.call(
            self.node_id, leader, lambda node, reply: node.take(entry, reply), answered, CALL_MS
        )

    def take(self, entry: bytes, reply: Callable[[Any], None]) -> None:
        """SubmitReport: the leader proposes a node's own command."""
        if not self.is_open or not self.log.status().is_leader:
            reply(None)
            return
        command: Command = codec.decode_entry(entry).command
        assert isinstance(command, NodeCommand)

        def decided(outcome: Outcome | Unavailable) -> None:
            reply(outcome if isinstance(outcome, Accepted | Rejected) else None)

        self.log.submit(command, decided)
