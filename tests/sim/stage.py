"""A stage for short stories about leases: three simulated hosts on which nothing goes wrong but
what the story tells. The checkers of the simulator watch it."""

from collections.abc import Callable, Sequence
from typing import Final

from blixard.commands import Command, CreateVm
from blixard.machine.rules import free_capacity
from blixard.model import (
    Accepted,
    Outcome,
    State,
    Vm,
)
from blixard.model import Node as NodeOfLog
from blixard.policy import Failover, OnQuorumLoss, Policy, Strategy
from blixard.ports import Unavailable
from blixard.sim.clients import SPEC
from blixard.sim.host import Host
from blixard.sim.node import Node
from blixard.sim.plan import Plan
from blixard.sim.run import Simulation

LOOK_S: Final = 0.000_2
"""How often a condition is asked: less than a message takes."""


class Stage:
    """Raises `AssertionError` as soon as an invariant is broken, whose name comes first."""

    def __init__(
        self, *, guaranteed: bool = False, rates: Sequence[float] = (1, 1, 1), allows: str = ""
    ) -> None:
        """`rates` are those of the hosts' clocks. `allows` is an invariant that may be broken."""
        plan = Plan(seed=0, clients=0, guaranteed=float(guaranteed))
        # The history goes on after a violation that is allowed; `_check` ends it at any other.
        self.simulation = Simulation(plan, awaited="" if allows else None)
        self.world = self.simulation.world
        self.hosts = self.world.hosts
        self._allows = allows
        self._switch_on(rates)
        self.simulation.found()
        self._check()

    def _switch_on(self, rates: Sequence[float]) -> None:
        """One after another, so that their clocks differ: the first host's is the youngest."""
        for host in self.hosts.values():
            host.computer.lose_power()
        for host in reversed(self.hosts.values()):
            host.computer.rate = rates[host.node_id - 1]
            host.computer.switch_on()
            self.world.run(30)

    # --- time -----------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.world.run(seconds)
        self._check()

    def until(self, holds: Callable[[], object], within_s: float = 60.0) -> None:
        """Let time pass until something holds."""
        end_us = self.world.now_us + int(within_s * 1e6)
        while not holds():
            assert self.world.now_us < end_us, f"not within {within_s} s"
            self.run(LOOK_S)

    def until_ms(self, host: Host, boot_ms: int) -> None:
        """Let time pass until the clock of a host has come to a time."""
        self.run(max(0, host.computer.when_us(boot_ms) - self.world.now_us) / 1e6)

    def _check(self) -> None:
        for violation in self.simulation.checks.violations.values():
            if violation.invariant == self._allows:
                continue
            raise AssertionError(f"{violation.invariant}: {violation.what}")

    # --- the cluster ----------------------------------------------------------------------------

    @property
    def leader(self) -> Host:
        """The host that leads in the newest term."""
        leading = [host for host in self.hosts.values() if _leads(host)]
        assert leading, "nobody leads"
        return max(leading, key=lambda host: daemon(host).engine.term)

    def vm(self, name: str = "web") -> Vm:
        """As the log has it."""
        return self.simulation.checks.canon.cluster.vms[name]

    def node(self, host: Host) -> NodeOfLog:
        """As the log has it."""
        return self.simulation.checks.canon.cluster.nodes[host.node_id]

    def is_down(self, host: Host) -> bool:
        return self.node(host).is_down

    def runs_at(self, name: str = "web") -> list[int]:
        """The hosts on which a process of a VM can execute."""
        computers = self.world.computers
        return [one.node_id for one in computers if one.executes and one.hypervisor.executing(name)]

    def room_on(self, host: Host) -> bool:
        """Whether another VM fits on a host."""
        free = free_capacity(daemon(self.leader).log.cluster(), host.node_id)
        return free.vcpus >= SPEC.vcpus and free.memory_mib >= SPEC.memory_mib

    def ask(self, *commands: Command) -> Outcome:
        """Propose commands at the leader, all at once, and wait for the outcome of the last."""
        told: list[Outcome | Unavailable] = []
        node = daemon(self.leader)
        for command in commands:
            node.enter(lambda command=command: node.log.propose(command, told.append))  # type: ignore[misc]
        self.until(lambda: len(told) == len(commands))
        assert not isinstance(told[-1], Unavailable)
        return told[-1]

    def create(self, name: str = "web", *, keep: bool = False) -> Host:
        """Create a VM. It is placed on the first host, for there is room."""
        loss = OnQuorumLoss.KEEP if keep else OnQuorumLoss.STOP
        policy = Policy(loss, Failover.ALWAYS, strategy=Strategy.PACK)
        create = CreateVm(name, SPEC, policy=policy)
        assert isinstance(self.ask(create), Accepted)
        return self.hosts[1]

    def bring_up(self, name: str = "web", *, keep: bool = False) -> Host:
        """Create a VM, and wait until it runs and another host leads than its own."""
        host = self.create(name, keep=keep)
        self.until(lambda: self.vm(name).state is State.RUNNING)
        assert self.runs_at(name) == [host.node_id]
        self.let_another_lead(host)
        return host

    def let_lead(self, host: Host) -> None:
        """Ask whoever leads to hand over, until this host leads."""
        while self.leader is not host:
            self._hand_over()

    def let_another_lead(self, host: Host) -> None:
        """Ask this host to hand over, if it leads."""
        while self.leader is host:
            self._hand_over()

    def _hand_over(self) -> None:
        node = daemon(self.leader)
        node.enter(node.engine.transfer_leadership)
        self.run(1)  # Nothing comes of it while no other has the whole log.
        self.until(lambda: any(map(_leads, self.hosts.values())))
        self.run(1)  # All have heard of it.

    def hurry(self, host: Host) -> None:
        """From now on the daemon of a host misses no moment: it takes a step and renews its lease
        every hundredth of a second."""
        node = daemon(host)

        def act() -> None:
            node.enter(node.agent.step)
            node.enter(node.agent.renew)
            self.world.later(10_000, act)

        act()

    # --- what goes wrong ------------------------------------------------------------------------

    def cut_off(self, host: Host) -> None:
        """Nothing passes between a host and the others any more. Shortly after a renewal: none is
        under way, and the log has come."""
        keeper = host.computer.keeper
        earlier_ms = keeper.deadline_ms
        self.until(lambda: keeper.deadline_ms > earlier_ms)
        self.run(0.1)
        self.world.network.block(*self._pairs(host))

    def rejoin(self, host: Host) -> None:
        self.world.network.release(*self._pairs(host))

    def _pairs(self, host: Host) -> list[tuple[int, int]]:
        return [pair for pair in self.simulation.faults.pairs() if host.node_id in pair]


def daemon(host: Host) -> Node:
    """The daemon of a host, which runs."""
    assert host.node is not None
    return host.node


def _leads(host: Host) -> bool:
    return host.node is not None and host.node.is_open and host.node.engine.leads
