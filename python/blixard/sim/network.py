"""A simulated network: what the gRPC transport does with messages, and what networks do to it.

Between two nodes there are two links, one a direction, as in `raft.transport`: each is a stream
that keeps its order, may stall, and is opened anew after it broke. What was under way then is lost;
some of it may still arrive, late, because a server reads an old stream beside a new one.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from blixard.raft.transport import BACKOFF_FIRST_S, BACKOFF_LAST_S, CONNECT_S, QUEUE_MESSAGES
from blixard.sim.world import World
from blixard.v1.raft_pb2 import RaftEnvelope

if TYPE_CHECKING:
    from blixard.sim.node import Node

OUTSIDE: Final = 0
"""Where clients are."""
HELD_US: Final = 100_000
"""How often a call that is held back is tried."""
LATE_US: Final = (100_000, 10_000_000)
KEEPALIVE_US: Final = 4_000_000
"""A connection whose peer does not answer is given up after this long (`raft.transport`)."""


class Link:
    """The messages of one process to one peer."""

    def __init__(self, network: "Network", sender: "Node", receiver: int) -> None:
        self._network = network
        self._world = network.world
        self.sender = sender
        self.receiver = receiver
        self._peer: Node | None = None
        """The process at the other end of the open connection."""
        self._connection = 0
        self._queue: deque[bytes] = deque()
        self._held: deque[bytes] = deque()
        """What arrived in time, but may not pass yet."""
        self._last_us = 0
        self._attempt = 0
        self._is_opening = False

    @property
    def pair(self) -> tuple[int, int]:
        return self.sender.node_id, self.receiver

    def put(self, data: bytes) -> None:
        if self._peer is not None:
            self._launch(data)
            return
        if len(self._queue) < QUEUE_MESSAGES:
            self._queue.append(data)
        if not self._is_opening:
            self._open()

    def reset(self) -> bool:
        """The connection breaks, if there is one; what was under way is lost or late."""
        if self._peer is None:
            return False
        self._connection += 1
        self._peer = None
        self._held.clear()
        self._fail()
        return True

    def release(self) -> None:
        """What was held back may pass."""
        held, self._held = self._held, deque()
        for data in held:
            self._hand_over(data)

    def _open(self) -> None:
        self._is_opening = True
        self._world.later(self._network.round_trip_us(), self._opened)

    def _opened(self) -> None:
        if self.sender.is_dead:
            return
        self._is_opening = False
        peer = self._network.listener(self.receiver)
        if peer is None or self._network.is_stuck(*self.pair):
            stuck = self._network.is_stuck(*self.pair)
            self._fail(CONNECT_S * 1e6 if stuck else 0)
            return
        self._attempt = 0
        self._peer = peer
        self.sender.enter(lambda: self.sender.engine.connected(self.receiver))
        queue, self._queue = self._queue, deque()
        for data in queue:
            self._launch(data)

    def _fail(self, after_us: float = 0) -> None:
        """Forget what waits, and try again after a while that grows."""
        self._queue.clear()
        longest_s = min(BACKOFF_LAST_S, BACKOFF_FIRST_S * 2.0 ** min(self._attempt, 16))
        self._attempt += 1
        if not self._is_opening:
            self._is_opening = True
            pause_us = self._world.random.uniform(longest_s / 2, longest_s) * 1e6
            self._world.later(after_us + pause_us, self._opened)

    def _launch(self, data: bytes) -> None:
        network = self._network
        arrival_us = max(
            self._last_us, self.sender.host.busy_until_us, self._world.now_us
        ) + network.latency_us(*self.pair)
        self._last_us = arrival_us
        connection = self._connection
        self._world.at(arrival_us, lambda: self._arrive(data, connection))

    def _arrive(self, data: bytes, connection: int) -> None:
        network = self._network
        if connection != self._connection or self.sender.is_dead:
            if network.is_stuck(*self.pair) or self._world.random.random() >= network.stray:
                return
            self._world.bit("stray")
            peer = network.listener(self.receiver)
            if peer is not None:
                peer.enter(lambda: self._receive(peer, data))
            return
        if network.is_stuck(*self.pair) or self._held:
            if not self._held:
                self._world.later(KEEPALIVE_US, lambda: self._give_up(connection))
            self._held.append(data)
            network.stalled += 1
            return
        self._hand_over(data)

    def _give_up(self, connection: int) -> None:
        if self._held and connection == self._connection:
            self.reset()

    def _hand_over(self, data: bytes) -> None:
        peer = self._peer
        if peer is None or peer.is_dead:
            self.reset()
            return
        peer.enter(lambda: self._receive(peer, data))

    def _receive(self, peer: "Node", data: bytes) -> None:
        self._world.trace.mix(data)
        refusal = peer.engine.receive(RaftEnvelope.FromString(data))
        if refusal is not None and not self.sender.is_dead:
            self.sender.refused(self.receiver, refusal)
            self.reset()


@dataclass(slots=True)
class Detention:
    """What is done to the calls of a node."""

    late_us: int
    answered: Callable[[Any], object]
    """Told what they are answered, whoever waits for that."""
    calls: int = 0
    """How many are on their way, or were."""


class Network:
    """All links, and the faults that are in force."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.stray = world.plan.stray
        self.stalled = 0
        """How many messages were held back."""
        self.delayed = 0
        """How many were slowed."""
        self.blocked: dict[tuple[int, int], int] = {}
        """Directions in which nothing passes, with how many faults say so."""
        self.clogged: set[tuple[int, int]] = set()
        """Directions in which messages do not pass, but calls do: they have other connections."""
        self.slowed: dict[tuple[int, int], int] = {}
        """Directions that are slow, with their extra delay in microseconds."""
        self.asked: Counter[int] = Counter()
        """How many calls of clients each node has served."""
        self.detained: dict[int, Detention] = {}
        """Nodes whose calls arrive late."""
        self._links: dict[tuple[int, int], Link] = {}

    def send(self, sender: "Node", receiver: int, envelope: RaftEnvelope) -> None:
        """The engine's way out."""
        pair = sender.node_id, receiver
        link = self._links.get(pair)
        if link is None or link.sender is not sender:
            link = self._links[pair] = Link(self, sender, receiver)
        link.put(envelope.SerializeToString())

    def listener(self, node_id: int) -> "Node | None":
        """The process that answers at a node's address, if it takes part in consensus."""
        host = self.world.hosts.get(node_id)
        node = host.node if host is not None else None
        return node if node is not None and node.is_open else None

    def is_blocked(self, sender: int, receiver: int) -> bool:
        return (sender, receiver) in self.blocked

    def is_stuck(self, sender: int, receiver: int) -> bool:
        """Whether messages do not pass."""
        return (sender, receiver) in self.blocked or (sender, receiver) in self.clogged

    def latency_us(self, sender: int, receiver: int) -> int:
        """One way, this time."""
        us = self.world.delay_us(self.world.plan.latency_us)
        extra_us = self.slowed.get((sender, receiver), 0) if self.slowed else 0
        if extra_us:
            self.delayed += 1
            us += extra_us
        return us

    def round_trip_us(self) -> int:
        return 2 * self.world.delay_us(self.world.plan.latency_us)

    def block(self, *pairs: tuple[int, int]) -> None:
        """Nothing passes in these directions until each is released as often as it was blocked."""
        for pair in pairs:
            self.blocked[pair] = self.blocked.get(pair, 0) + 1

    def release(self, *pairs: tuple[int, int]) -> None:
        for pair in pairs:
            count = self.blocked.get(pair, 0)
            if count > 1:
                self.blocked[pair] = count - 1
            elif count:
                del self.blocked[pair]
                self._let_pass(pair)

    def clog(self, pair: tuple[int, int]) -> None:
        """Hold messages back in this direction."""
        self.clogged.add(pair)

    def unclog(self, pair: tuple[int, int]) -> None:
        self.clogged.discard(pair)
        self._let_pass(pair)

    def _let_pass(self, pair: tuple[int, int]) -> None:
        link = self._links.get(pair)
        if link is not None and not self.is_stuck(*pair):
            link.release()

    def reset(self, *pairs: tuple[int, int]) -> int:
        """Break connections; answers how many were open."""
        links = [link for pair in pairs if (link := self._links.get(pair)) is not None]
        return sum(link.reset() for link in links)

    def call(
        self,
        caller: int,
        callee: int,
        serve: "Callable[[Node, Callable[[Any], None]], None]",
        done: Callable[[Any], None],
        timeout_ms: int,
    ) -> None:
        """One RPC. `serve` runs in the process of `callee`, and answers by the function it is
        given; `done` gets that answer once, or None after `timeout_ms`."""
        world = self.world
        one = _Call(self, caller, callee, serve, done)
        delay_us = self.latency_us(caller, callee)
        if one.detention is not None:
            one.detention.calls += 1
            delay_us += one.detention.late_us
        if world.random.random() < world.plan.late_calls:
            world.bit("late-call")
            delay_us += world.delay_us(LATE_US)
        world.later(delay_us, one.arrive)
        world.later(timeout_ms * 1000, lambda: one.finish(None))


class _Call:
    """One RPC on its way."""

    def __init__(
        self,
        network: Network,
        caller: int,
        callee: int,
        serve: "Callable[[Node, Callable[[Any], None]], None]",
        done: Callable[[Any], None],
    ) -> None:
        self._network = network
        self._world = network.world
        self._caller = caller
        self._callee = callee
        self._serve = serve
        self._done: Callable[[Any], None] | None = done
        self._patience_us = KEEPALIVE_US
        self.detention = network.detained.get(caller)

    def arrive(self) -> None:
        """It may arrive when nobody waits for the answer any more."""
        host = self._world.hosts.get(self._callee)
        node = host.node if host is not None else None
        if self._network.is_blocked(self._caller, self._callee):
            if self._patience_us > 0:
                self._patience_us -= HELD_US
                self._world.later(HELD_US, self.arrive)
        elif node is None:
            self._reply(None)
        else:
            node.enter(lambda: self._enter(node))

    def _enter(self, node: "Node") -> None:
        if self._caller == OUTSIDE:
            self._network.asked[self._callee] += 1
        self._serve(node, self._reply)

    def _reply(self, answer: Any) -> None:
        network, world = self._network, self._world
        if self.detention is not None:
            self.detention.answered(answer)
        if network.is_blocked(self._callee, self._caller):
            world.bit("lost-reply")
            return
        if world.random.random() < world.plan.lost_answers:
            world.bit("lost-answer")
            answer = None
        world.later(network.latency_us(self._callee, self._caller), lambda: self.finish(answer))

    def finish(self, answer: Any) -> None:
        """Tell the caller, once."""
        done, self._done = self._done, None
        if done is not None:
            done(answer)
