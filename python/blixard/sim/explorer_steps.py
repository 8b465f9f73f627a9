"""What a cluster does in one step: an input to one node, a tick, and the messages that leave.

A cluster's state is a value made of numbers. Each stands for a node state, a message or a past that
is kept once, so that a step is a look-up unless its node is in this state, with this input, for the
first time.

A crash takes the links of the node along. That loses nothing: what it sent before may have arrived
earlier as well, and what a crash in the middle of a tick leaves undone is what a crash before the
tick, or after it, leaves: nothing leaves a node before all is written. Only the crash between the
transaction and its high-water mark is different; it is `torn`.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from blixard.raft import wire
from blixard.sim import explorer_rules as rules
from blixard.sim.explorer_node import Input, Process
from blixard.sim.explorer_rules import Broken, Facts, Past
from blixard.sim.explorer_state import NodeState, founded
from blixard.v1.raft_pb2 import RaftEnvelope


class Link(NamedTuple):
    """What is under way from one node to another."""

    old: tuple[int, ...] = ()
    """Left over from the connection before this one, and still able to arrive."""
    is_overtaken: bool = False
    """Something of the connection of now has arrived before what is left over."""
    new: tuple[int, ...] = ()
    is_seen: bool = False
    """The first of `new` has arrived, and will once more."""


EMPTY = Link()


class Outcome(NamedTuple):
    """What a node did with an input."""

    after: int
    torn: int | None
    """Its state if it had crashed before its mark was written; None if it wrote nothing."""
    letters: tuple[tuple[int, int], ...]
    """Receivers and messages."""
    told: tuple[tuple[int, bytes], ...]
    fault: str | None
    """What it died of."""


class Violated(Exception):
    """An invariant does not hold."""

    def __init__(self, broken: Broken) -> None:
        super().__init__(broken.what)
        self.broken = broken


class Interned:
    """Values that are kept once, each under a number."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def number(self, value: Any) -> int:
        """The number of a value."""
        number = self._numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number


class Steps:
    """All that nodes were seen to do."""

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes
        self.computed = 0
        """How many steps an engine took; the others were known."""
        self.states = Interned()
        self.messages = Interned()
        self.pasts = Interned()
        self.facts: list[Facts] = []
        self._outcomes: dict[tuple[int, Input], Outcome] = {}
        founders = [founded(node, nodes) for node in range(1, nodes + 1)]
        self.founders = tuple(self.number(state) for state in founders)
        self._processes = [Process(node, state) for node, state in enumerate(founders, 1)]
        self._known: dict[Any, Any] = {}

    def number(self, state: NodeState) -> int:
        number = self.states.number(state)
        if number == len(self.facts):
            self.facts.append(rules.facts(state))
        return number

    def runs(self, state: int) -> bool:
        memory: object = self.states.values[state].memory
        return memory is not None

    def outcome(self, node: int, state: int, given: Input) -> Outcome:
        """What a node in a state does with an input."""
        key = (state, given)
        known = self._outcomes.get(key)
        if known is None:
            known = self._outcomes[key] = self._compute(node, self.states.values[state], given)
        return known

    def _compute(self, node: int, state: NodeState, given: Input) -> Outcome:
        self.computed += 1
        if given[0] == "crash":
            return Outcome(self.number(NodeState(state.disk, None)), None, (), (), None)
        process = self._processes[node - 1]
        try:
            if given[0] == "start":
                process.sent.clear()
                process.told.clear()
                process.disk.put(state.disk)
                process.start()
            else:
                process.put(state)
                if given[0] == "deliver":
                    given = ("deliver", self.messages.values[given[1]], given[2])
                process.give(given)
            process.engine.tick()
            after = process.take()
        except Exception as error:  # noqa: BLE001 - whatever it is, the process would die of it
            return Outcome(0, None, (), (), f"{type(error).__name__}: {error}")
        wrote = process.disk.before_mark is not None
        return Outcome(
            self.number(after),
            self.number(process.take(torn=True)) if wrote else None,
            tuple(
                (envelope.receiver, self.messages.number(_stripped(envelope)))
                for envelope in process.sent
            ),
            tuple(process.told),
            None,
        )

    def recall(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """The answer of a pure function of numbers."""
        key = (question, arguments)
        if key not in self._known:
            self._known[key] = question(*arguments)
        return self._known[key]

    def past_after(
        self, past: int, node: int, before: int, after: int, told: tuple[tuple[int, bytes], ...]
    ) -> int | Broken:
        """The past once a node went from one state into another."""
        was, now = self.facts[before], self.facts[after]
        found: Past | Broken = self.pasts.values[past]
        assert isinstance(found, Past)
        if now.leads and now.leads != was.leads:
            found = rules.leading(found, node, now)
        if isinstance(found, Past):
            found = rules.committing(found, node, now)
        if isinstance(found, Past):
            found = rules.acknowledging(found, told)
        return found if isinstance(found, Broken) else self.pasts.number(found)

    def differ(self, one: int, other: int) -> str | None:
        return rules.log_matching(self.facts[one], self.facts[other])

    def kept(self, past: int, state: int) -> int:
        found = self.facts[state]
        return rules.holds(self.pasts.values[past], found.kept_base, found.kept)

    def durable(self, before: int, past: int, *held: int) -> Broken | None:
        pasts = self.pasts.values
        return rules.durable(pasts[before], pasts[past], list(held))


State = tuple[tuple[int, ...], tuple[Link, ...], int, tuple[int, ...]]
"""The numbers of the nodes' states; the links, by sender and receiver; the number of the past; and
what was spent of the bounds."""


class Situation:
    """A cluster that takes steps."""

    def __init__(self, steps: Steps, state: State, log: list[str] | None = None) -> None:
        self.steps = steps
        nodes, links, self.past, spent = state
        self.nodes = list(nodes)
        self.links = list(links)
        self.spent = list(spent)
        self.longest = 0
        """The most messages that were on one link at a time, of those that were sent to."""
        self._log = log

    def frozen(self) -> State:
        return tuple(self.nodes), tuple(self.links), self.past, tuple(self.spent)

    def runs(self, node: int) -> bool:
        return self.steps.runs(self.nodes[node - 1])

    def facts(self, node: int) -> Facts:
        return self.steps.facts[self.nodes[node - 1]]

    def others(self, node: int) -> Iterable[int]:
        return (other for other in range(1, self.steps.nodes + 1) if other != node)

    def link(self, sender: int, receiver: int) -> int:
        """Where the link between two nodes is."""
        return (sender - 1) * self.steps.nodes + receiver - 1

    def step(self, node: int, given: Input, what: str, *, torn: bool = False) -> None:
        """Give a node an input. Raises `Violated`."""
        before = self.nodes[node - 1]
        if self._log is not None:
            self._log.append(f"node {node}: {what}")
        outcome = self.steps.outcome(node, before, given)
        if outcome.fault is not None:
            raise Violated(Broken(rules.FAIL_STOP, f"node {node} stops: {outcome.fault}"))
        if torn:
            assert outcome.torn is not None
            self.nodes[node - 1] = outcome.torn
            self.cut(node)
            self._judge(node, before, outcome.torn, ())
            return
        self.nodes[node - 1] = outcome.after
        for receiver, message in outcome.letters:
            if self.runs(receiver):
                at = self.link(node, receiver)
                link = self.links[at]
                self.links[at] = link._replace(new=(*link.new, message))
                self.longest = max(self.longest, len(link.new) + 1)
        self._judge(node, before, outcome.after, outcome.told)

    def _judge(
        self, node: int, before: int, after: int, told: tuple[tuple[int, bytes], ...]
    ) -> None:
        if before == after:
            return
        steps = self.steps
        past = steps.recall(steps.past_after, self.past, node, before, after, told)
        if isinstance(past, Broken):
            raise Violated(past)
        was, now = steps.facts[before], steps.facts[after]
        if now.chains != was.chains:
            for other in self.nodes:
                difference = steps.recall(steps.differ, after, other)
                if difference is not None:
                    raise Violated(Broken(rules.LOG_MATCHING, difference))
        if past != self.past or (now.kept, now.kept_base) != (was.kept, was.kept_base):
            held = (steps.recall(steps.kept, past, state) for state in self.nodes)
            broken = steps.recall(steps.durable, self.past, past, *held)
            if broken is not None:
                raise Violated(broken)
        self.past = past

    def writes(self, sender: int, receiver: int) -> bool:
        """Whether the receiver would write something if the next message arrived."""
        link = self.links[self.link(sender, receiver)]
        given = ("deliver", link.new[0], link.is_seen)
        return self.steps.outcome(receiver, self.nodes[receiver - 1], given).torn is not None

    def deliver(
        self, sender: int, receiver: int, *, keep: bool = False, torn: bool = False
    ) -> None:
        """The next message of a connection arrives; once more later if `keep`."""
        at = self.link(sender, receiver)
        link = self.links[at]
        message = link.new[0]
        self.links[at] = Link(
            link.old,
            bool(link.old),
            link.new if keep else link.new[1:],
            keep,
        )
        self._receive(receiver, message, is_stale=link.is_seen, torn=torn)

    def deliver_late(self, sender: int, receiver: int) -> None:
        """The next message that an earlier connection has left over arrives."""
        at = self.link(sender, receiver)
        link = self.links[at]
        old = link.old[1:]
        self.links[at] = link._replace(old=old, is_overtaken=bool(old) and link.is_overtaken)
        self._receive(receiver, link.old[0], is_stale=link.is_overtaken, torn=False)

    def _receive(self, receiver: int, message: int, *, is_stale: bool, torn: bool) -> None:
        what = ""
        if self._log is not None:
            what = (
                ("hears, too late, " if is_stale else "hears ")
                + described(self.steps.messages.values[message])
                + (" and crashes between the transaction and its mark" if torn else "")
            )
        self.step(receiver, ("deliver", message, is_stale), what, torn=torn)

    def lose(self, sender: int, receiver: int) -> None:
        """What is under way is lost, and nobody notices."""
        at = self.link(sender, receiver)
        if self._log is not None and self.links[at] != EMPTY:
            self._log.append(f"all from node {sender} to node {receiver} is lost")
        self.links[at] = EMPTY

    def cut(self, node: int) -> None:
        """The links of a node are gone."""
        for other in self.others(node):
            self.links[self.link(node, other)] = self.links[self.link(other, node)] = EMPTY

    def connect(self, sender: int, receiver: int, *, leave: bool = False) -> None:
        """A new connection; what is under way over the old one may arrive later if `leave`."""
        at = self.link(sender, receiver)
        self.links[at] = Link(old=self.links[at].new if leave else ())
        what = f"has a new connection to node {receiver}; what the old one carried " + (
            "may come later" if leave else "is lost"
        )
        self.step(sender, ("connected", receiver), what)

    def crash(self, node: int) -> None:
        self.cut(node)
        self.step(node, ("crash",), "crashes")

    def start(self, node: int) -> None:
        self.step(node, ("start",), "starts")
        for other in self.others(node):
            if self.runs(other):
                self.connect(other, node)


def _stripped(envelope: RaftEnvelope) -> bytes:
    """The message without what only numbers it."""
    envelope.ClearField("epoch")
    envelope.ClearField("sequence")
    return envelope.SerializeToString(deterministic=True)


def described(message: bytes) -> str:
    """A message in words."""
    envelope = RaftEnvelope.FromString(message)
    where = f"from node {envelope.sender} in term {envelope.term}"
    if envelope.WhichOneof("payload") == "snapshot":
        chunk = envelope.snapshot
        end = chunk.offset + len(chunk.data)
        return f"snapshot {chunk.index}, bytes {chunk.offset} to {end} of {chunk.total}, {where}"
    return f"{wire.decode(envelope.message)} {where}"
