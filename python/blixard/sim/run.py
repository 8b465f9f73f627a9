"""One simulated history: a safety phase with faults, then a liveness phase without new ones.

In the liveness phase a quorum is healed, whatever else is broken stays so for good, and the cluster
must come to run what it was told to (TigerBeetle's simulator ends its histories so).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from unittest.mock import patch

from blixard import machine
from blixard.machine.rules import free_capacity
from blixard.model import Membership, State, Vm, Wanted
from blixard.ports import UnitState
from blixard.raft import replica
from blixard.sim import linearizability, releases
from blixard.sim.administrator import Administrator
from blixard.sim.canon import Canon
from blixard.sim.checks import Checks, Violation
from blixard.sim.clients import Client
from blixard.sim.execution import Execution
from blixard.sim.faults import Faults
from blixard.sim.host import Host
from blixard.sim.network import OUTSIDE, Network
from blixard.sim.operations import Call, Verb
from blixard.sim.plan import Plan
from blixard.sim.world import World

FOUNDING_S: Final = 60.0
SETTLE_S: Final = 3.0
"""After the last fault, before it is decided which hosts come back."""
DOWN_S: Final = 45.0
"""How long a lost host may count as up: an election after all that was, and a lease."""
CONVERGENCE_S: Final = 120.0
"""How long the cluster may take to come to rest. A start that hangs takes a minute of it."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a history."""

    plan: Plan
    trace_hash: str
    events: int
    violations: tuple[Violation, ...]
    tail: tuple[str, ...]
    """The last lines of the trace."""
    struck: dict[str, int]
    """How often each kind of fault took effect, and other things that should happen sometimes."""
    simulated_s: float
    acknowledged: int
    committed: int


class Simulation:
    """A cluster, its clients and what goes wrong."""

    def __init__(
        self, plan: Plan, tell: Callable[[str], None] | None = None, awaited: str | None = None
    ) -> None:
        self.plan = plan
        self.world = world = World(plan, tell)
        canon = Canon(
            releases.LAWS[2 if plan.mixed_releases else 1],
            lambda node_id, name, uid: any(
                one.hypervisor.may_run(name, uid) for one in world.hosts[node_id].computers
            ),
            lambda node: world.execution.renewed(node),  # noqa: PLW0108 - it is made later
        )
        world.checks = self.checks = Checks(lambda: world.now_us, canon, awaited)
        world.network = Network(world)
        world.execution = Execution(world)
        for node_id in range(1, plan.nodes + 1):
            world.hosts[node_id] = Host(world, node_id, release=1)
        world.administrator = Administrator(world)
        names = [f"vm{number}" for number in range(plan.vms)]
        self.clients = [Client(world, number, names) for number in range(1, plan.clients + 1)]
        self.faults = Faults(world)
        self.clients.append(self.faults.operator)

    def run(self) -> Result:
        """Live through both phases, or until an invariant is broken."""
        with (
            patch.object(machine, "OUTCOMES_KEPT", self.plan.outcomes_kept),
            patch.object(replica, "DIGEST_EVERY", self.plan.digest_every),
        ):
            self._live()
        if self.checks.canon.cluster.level > 1:
            self.world.bit("level-raised")
        return self._result()

    def _live(self) -> None:
        self.found()
        if self.checks.is_broken:
            return
        for client in self.clients[: self.plan.clients]:
            client.begin()
        self.world.administrator.relocate()
        self.faults.begin()
        self.world.run(self.plan.fault_minutes * 60)
        if not self.checks.is_broken:
            self._converge()
        if not self.checks.is_broken:
            self._check_history()

    def found(self) -> None:
        """Start all hosts, and wait until all are members."""
        for host in self.world.hosts.values():
            host.start()
        if not self.world.run(FOUNDING_S, self._is_founded) and not self.checks.is_broken:
            self.checks.violate("convergence", "the cluster was never founded")

    def _is_founded(self) -> bool:
        nodes = self.checks.canon.cluster.nodes
        return len(nodes) == self.plan.nodes and all(
            node.membership is Membership.MEMBER and node.incarnation for node in nodes.values()
        )

    # --- the liveness phase ---------------------------------------------------------------------

    def _converge(self) -> None:
        world = self.world
        world.trace.note("phase", "liveness")
        self.faults.end()
        # What is on its way, a removal above all, arrives before it is decided who comes back.
        world.administrator.keep(world.hosts)
        world.run(SETTLE_S)
        core = self._core()
        world.administrator.keep(core)
        if not core:
            # A member's disk lies while another is being replaced: only a person could go on.
            world.bit("no-quorum-left")
            return
        rest = [node for node in world.hosts if node not in core]
        world.network.block(*((a, b) for a, b in self.faults.pairs() if (a in rest) != (b in rest)))
        world.network.block(*((OUTSIDE, node) for node in rest))
        for node_id in rest:
            if world.random.random() < 0.5:
                world.hosts[node_id].lose_power()
        for node_id in core:
            self._heal(world.hosts[node_id])
        for client in self.clients:
            client.stop()
        probe = Client(world, 0, ["probe"])
        self.clients.append(probe)
        probe.ask("probe", Call(Verb.CREATE), lambda _answer: None)
        if not world.run(DOWN_S, lambda: not self._undeclared(rest)):
            lost = self._undeclared(rest)
            self.checks.violate("failover", f"nodes {lost} are lost, but not declared down")
        if not world.run(CONVERGENCE_S, lambda: not self._unrest(core)):
            self.checks.violate("convergence", f"nodes {core}: {self._unrest(core)}")

    def _undeclared(self, rest: list[int]) -> list[int]:
        """Which lost hosts still count as up."""
        nodes = self.checks.canon.cluster.nodes
        return [i for i in rest if i in nodes and nodes[i].incarnation and not nodes[i].is_down]

    def _core(self) -> list[int]:
        """A majority of the members, with and without those who are about to leave; the others
        need not come back."""
        world = self.world
        members = self._members()
        sound = [node for node in members if not world.hosts[node].is_unfit]
        staying = self._full_members(members)
        wanted = [node for node in staying if node in sound]
        needed = len(staying) // 2 + 1
        if len(wanted) < needed:
            return []
        core = world.random.sample(wanted, needed)
        rest = [node for node in sound if node not in core]
        missing = len(members) // 2 + 1 - len(core)
        if len(rest) < missing:
            return []
        return sorted([*core, *world.random.sample(rest, max(0, missing))])

    def _members(self) -> list[int]:
        """The configuration of the newest leader."""
        nodes = [h.node for h in self.world.hosts.values() if h.node is not None and h.node.is_open]
        if not nodes:
            return sorted(self.checks.canon.cluster.nodes)
        newest = max(nodes, key=lambda n: (n.engine.journal.last_term, n.engine.journal.last_index))
        return sorted(newest.engine.journal.members())

    def _full_members(self, among: list[int]) -> list[int]:
        """Those who neither join nor leave."""
        nodes = self.checks.canon.cluster.nodes
        return [n for n in among if n in nodes and nodes[n].membership is Membership.MEMBER]

    def _heal(self, host: Host) -> None:
        host.disk.full = host.disk.failing = False
        host.disk.slow = 1
        host.slowness = 1
        host.paused_until_us = 0
        host.fuse = None
        host.computer.builds.heal()
        host.hypervisor.heal()
        if not host.is_on:
            host.switch_on()
        host.start()

    def _unrest(self, core: list[int]) -> str:
        """What is not yet as it should be."""
        hosts = [self.world.hosts[node] for node in core]
        waiting = [client for client in self.clients if not client.is_idle]
        if waiting:
            return "a client is not answered"
        for host in hosts:
            if host.node is None or not host.node.is_open:
                return f"{host.name} does not run"
            if host.node.engine.applied_index < self.checks.acknowledged_index:
                return f"{host.name} is behind"
        cluster = self.checks.canon.cluster
        for vm in cluster.vms.values():
            trouble = self._trouble(vm, core)
            if trouble:
                return f"{vm.name} {trouble}"
        for host in hosts:
            for name in host.hypervisor.units:
                kept = cluster.vms.get(name)
                if kept is None or kept.holder is None or kept.holder.node_id != host.node_id:
                    return f"{host.name} still has {name}"
        return ""

    def _trouble(self, vm: Vm, core: list[int]) -> str:
        """Why a VM is not yet where and what it should be, if a healed host could change that."""
        cluster = self.checks.canon.cluster
        if vm.holder is not None and vm.holder.node_id not in core:
            return "" if vm.keeps else f"is {vm.state} on node-{vm.holder.node_id}, which is lost"
        if vm.wanted is not Wanted.RUNNING or vm.state is State.FAILED:
            return "" if vm.holder is None else f"is still {vm.state}"
        if vm.holder is None:
            spec = vm.spec
            members = [n for n in self._full_members(core) if vm.tied_to in (None, n)]
            free = [free_capacity(cluster, n) for n in members]
            fits = [f for f in free if f.vcpus >= spec.vcpus and f.memory_mib >= spec.memory_mib]
            return "is pending, and there is room" if fits else ""
        unit = self.world.hosts[vm.holder.node_id].hypervisor.units.get(vm.name)
        right = (vm.uid, vm.holder.epoch)
        if vm.state is State.RUNNING and unit is not None:
            active = unit.state is UnitState.ACTIVE and (unit.run.uid, unit.run.epoch) == right
            return "" if active else "is not active"
        return f"is {vm.state}"

    # --- the end --------------------------------------------------------------------------------

    def _check_history(self) -> None:
        history = [operation for client in self.clients for operation in client.history]
        found = linearizability.check(history)
        if isinstance(found, linearizability.Violation):
            self.checks.violate("linearizability", str(found))
        elif found is not None:
            self.world.bit("undecided")

    def _result(self) -> Result:
        trace = self.world.trace
        return Result(
            plan=self.plan,
            trace_hash=trace.digest,
            events=trace.events,
            violations=tuple(self.checks.violations.values()),
            tail=tuple(trace.tail),
            struck=dict(sorted(self.world.struck.items())),
            simulated_s=self.world.now_us / 1e6,
            acknowledged=self.checks.acknowledgements,
            committed=self.checks.committed_index,
        )
