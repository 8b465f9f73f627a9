"""The person who looks after the hosts: replaces damaged journals, lets nodes leave and join, moves
VMs and drains nodes.

A node whose journal is damaged, or that was wiped, comes back only as a new member: it is removed,
its data directory is emptied, and it is started again. Where VMs are to be kept, the person says
that a host is down, but only once all machines are off on which they can run.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from blixard.commands import Command, ConfirmDown, DrainNode, MoveVm, RemoveNode, ResumeNode
from blixard.errors import Code
from blixard.model import Accepted, Rejected
from blixard.sim.network import OUTSIDE

if TYPE_CHECKING:
    from blixard.sim.host import Host
    from blixard.sim.node import Node
    from blixard.sim.world import World

LOOK_US: Final = 2_000_000
CALL_MS: Final = 5_000
NEEDS_A_PERSON: Final = frozenset(
    {Code.DATA_CORRUPT, Code.NODE_TAKEN, Code.NOT_A_MEMBER, Code.STATE_DIFFERS}
)
"""Ways for a daemon to end that starting it again does not mend."""
NOTICES: Final = 0.25
"""How likely the person sees at a look that a host is not let in."""


class Administrator:
    """Looks at all hosts every two seconds."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._asked: set[int] = set()
        self._kept: frozenset[int] = frozenset()
        self._relocates = False
        world.later(LOOK_US, self._look)

    def relocate(self) -> None:
        """From now on, now and then, move VMs and drain nodes."""
        self._relocates = True

    def keep(self, nodes: Iterable[int]) -> None:
        """From now on remove none of these, also where it was asked before, and drain none."""
        self._kept = frozenset(nodes)
        self._relocates = False

    def _look(self) -> None:
        self._world.later(LOOK_US, self._look)
        for host in self._world.hosts.values():
            if host.node is None and host.verdict in NEEDS_A_PERSON:
                self._care_for(host)
            elif _is_turned_away(host) and self._world.random.random() < NOTICES:
                self.switch_off_old(host)
                self.confirm(host, 0.5)
        self._relocate()

    def _relocate(self) -> None:
        """Now and then move a VM, or drain a node or end its drain; at last, end all drains."""
        world, cluster = self._world, self._world.checks.canon.cluster
        drained = sorted(i for i, node in cluster.nodes.items() if node.drain is not None)
        nodes = sorted(cluster.nodes)
        held = sorted(name for name, vm in cluster.vms.items() if vm.holder is not None)
        if not self._relocates:
            for node_id in drained:
                self._propose(ResumeNode(node_id, "operator"), "resumed")
        elif drained and world.random.random() < 0.3:
            self._propose(ResumeNode(world.random.choice(drained), "operator"), "resumed")
        elif nodes and world.random.random() < 0.1:
            until_restart = world.random.random() < 0.5
            drain = DrainNode(world.random.choice(nodes), "operator", until_restart=until_restart)
            self._propose(drain, "drained")
        elif held and world.random.random() < 0.4:
            name, to = world.random.choice(held), world.random.choice(nodes)
            self._propose(MoveVm(name, to, "operator", grace_ms=1_000), "moved")

    def _propose(self, command: Command, bit: str) -> None:
        """Ask whoever may lead, once; `bit` is noted if it is accepted."""

        def told(outcome: Any) -> None:
            if isinstance(outcome, Accepted):
                self._world.bit(bit)

        leader = self._leader()
        if leader is not None:
            serve = _proposing(command)
            self._world.network.call(OUTSIDE, leader, serve, told, CALL_MS)

    def _care_for(self, host: "Host") -> None:
        known = self._world.checks.canon.cluster.nodes.get(host.node_id)
        if known is None:
            self._begin_anew(host)
        elif host.node_id not in self._asked:
            self._asked.add(host.node_id)
            self.remove(host.node_id, lambda outcome: self._removed(host, outcome))

    def _removed(self, host: "Host", outcome: Any) -> None:
        """A host that is lost for good may still run what is to be kept."""
        self._asked.discard(host.node_id)
        known = self._world.checks.canon.cluster.nodes.get(host.node_id)
        holds = isinstance(outcome, Rejected) and outcome.code is Code.NODE_HOLDS_VMS
        if holds and host.node is None and known is not None and known.is_down:
            self.switch_off_old(host)
            host.lose_power()
            self.confirm(host, 2)

    def switch_off_old(self, host: "Host") -> None:
        """All machines in which its disk was before."""
        for computer in host.computers:
            if computer.is_on and computer is not host.computer:
                computer.lose_power()

    def _begin_anew(self, host: "Host") -> None:
        if host.is_unfit:
            self._world.bit("replaced")
        host.wipe()
        host.is_unfit = False
        host.verdict = None
        host.switch_on()

    def confirm(self, host: "Host", seconds: float) -> None:
        """`blixard node confirm-down`, again and again while the host is off, or for a while."""
        empty = host.computer if _is_turned_away(host) else None
        if seconds <= 0 or any(one.is_on for one in host.computers if one is not empty):
            return
        known = self._world.checks.canon.cluster.nodes.get(host.node_id)
        if known is None:
            return
        serve = _proposing(ConfirmDown(host.node_id, known.incarnation, "operator"))

        def told(outcome: Any) -> None:
            match outcome:
                case Accepted():
                    self._world.bit("confirm-down")
                    return
                case Rejected():
                    self._world.bit("confirm-refused")
            self._world.later(1e6, lambda: self.confirm(host, seconds - 1))

        leader = self._leader()
        if leader is not None:
            self._world.network.call(OUTSIDE, leader, serve, told, CALL_MS)

    def _leader(self) -> int | None:
        """A node that leads, as far as anybody can tell."""
        leaders = [
            host.node_id
            for host in self._world.hosts.values()
            if host.node is not None and host.node.is_open and host.node.engine.leads
        ]
        return self._world.random.choice(leaders) if leaders else None

    def remove(self, node_id: int, done: Callable[[Any], None]) -> None:
        """`blixard cluster leave --node`: asked of a node that may lead; not repeated here."""
        leader = self._leader()
        if leader is None:
            done(None)
            return

        def serve(node: "Node", reply: Callable[[Any], None]) -> None:
            may_go = node.is_open and node.engine.leads and node_id not in self._kept
            if may_go and len(node.engine.journal.members()) > 2:
                node.log.propose(RemoveNode(node_id), reply)
            else:
                reply(None)

        def told(outcome: Any) -> None:
            match outcome:
                case Accepted():
                    self._world.bit("node-removed")
                    self._world.trace.note("operator", f"removes node-{node_id}")
                case Rejected():
                    self._world.trace.note("operator", f"cannot: {outcome.message}")
            done(outcome)

        self._world.network.call(OUTSIDE, leader, serve, told, CALL_MS)


def _proposing(command: Command) -> Callable[["Node", Callable[[Any], None]], None]:
    """How a node serves the wish for a command, if it leads."""

    def serve(node: "Node", reply: Callable[[Any], None]) -> None:
        if node.is_open and node.engine.leads:
            node.log.propose(command, reply)
        else:
            reply(None)

    return serve


def _is_turned_away(host: "Host") -> bool:
    """Whether it is registered on another machine, so that this one has never run anything."""
    node = host.node
    refusal = node.agent.refusal if node is not None and node.is_open else None
    return refusal is not None and refusal.code is Code.NODE_TAKEN
