"""A small deterministic world around real agents: a log, hosts and a clock in plain data.

Nothing here waits. `tick` moves the clock, delivers what is due in an order drawn from the seed and
lets every running agent take a step. A VM that runs on two hosts fails the test at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from blixard import machine
from blixard.agent import Agent
from blixard.commands import (
    AddNode,
    Command,
    CreateVm,
    Entry,
    RenewLeases,
)
from blixard.machine.leases import is_over
from blixard.model import (
    Accepted,
    Cluster,
    Membership,
    Outcome,
    Rejected,
    RequestId,
    State,
    Vm,
    VmSpec,
)
from blixard.ports import Done, LogStatus, Unavailable, UnitState
from blixard.source import StoreSource
from core.host import Host
from core.law import Apply, Law

TICK_MS = 200
RENEW_MS = 1_000
LAWS: Mapping[int, Apply] = {1: machine.apply}
SPEC = VmSpec(StoreSource("/nix/store/0-vm"), 2, 1024)
"""Two of these fill a host."""


@dataclass
class Appended:
    """A proposal in the leader's log, not yet committed."""

    act: Callable[[], Outcome | Unavailable]
    done: Done
    host: Host
    life: Agent | None


class Port:
    """One daemon's `Log`. Outcomes for a daemon that has died reach nobody."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.world = host.world

    def cluster(self) -> Cluster:
        return self.host.replica

    def status(self) -> LogStatus:
        world, me = self.world, self.host.node_id
        others = [other for other in world.members if other != me]
        leads = world.leader_id == me
        heard = {
            other: 100
            for other in others
            if leads and world.hosts[other].daemon is not None and world.hosts[other].reachable
        }
        return LogStatus(
            cluster_id="c",
            node_id=me,
            role="leader" if leads else "follower",
            term=world.term,
            leader_id=world.leader_id,
            commit_index=world.law.index,
            applied_index=self.host.applied,
            members=dict(world.members),
            heard_ms=heard,
        )

    def propose(
        self, command: Command, done: Done, request: RequestId | None = None, by: str = ""
    ) -> None:
        if self.world.leader_id != self.host.node_id:
            done(Unavailable("not the leader", self.world.leader_id))
            return
        entry = Entry(command, self.world.wall_ms(), request, by)
        self._append(lambda: self.world.law.apply(entry), done)

    def submit(self, command: Command, done: Done) -> None:
        def arrive() -> None:
            leader = self.world.hosts[self.world.leader_id]
            if not (self.host.reachable and leader.reachable and leader.daemon is not None):
                self.world.later(1, lambda: done(Unavailable("no answer", maybe_applied=True)))
                return
            entry = Entry(command, self.world.wall_ms())
            self._append(lambda: self._decide(entry), done)

        sender = self.host.daemon

        def travel() -> None:
            if self.host.daemon is sender:
                arrive()

        if self.world.detain(command):
            return
        if self.world.chance(self.world.loss):
            self.world.later(3, lambda: done(Unavailable("lost on its way", maybe_applied=True)))
        else:
            self.world.later(self.world.random.randint(0, 2), travel)

    def _decide(self, entry: Entry) -> Outcome | Unavailable:
        outcome = self.world.law.apply(entry)
        if isinstance(entry.command, RenewLeases) and isinstance(outcome, Rejected):
            (renewal,) = entry.command.renewals
            return outcome if is_over(self.world.cluster, renewal) else Unavailable("overtaken")
        return outcome

    def barrier(self, done: Done) -> None:
        """Answered once what is committed by then is applied on this host, however late."""
        daemon = self.host.daemon

        def passed() -> None:
            if self.host.daemon is not daemon:
                return
            if self.host.applied >= index:
                done(Accepted(index))
            else:
                self.world.later(1, passed)

        index = self.world.law.index
        passed()

    def add_member(self, node_id: int, address: str, done: Done) -> None:
        def add() -> Outcome:
            self.world.members[node_id] = address
            return Accepted(self.world.law.index)

        self._append(add, done)

    def remove_member(self, node_id: int, done: Done) -> None:
        assert node_id != self.world.leader_id, "a leader hands over before it goes"

        def remove() -> Outcome:
            self.world.members.pop(node_id, None)
            return Accepted(self.world.law.index)

        self._append(remove, done)

    def transfer_leadership(self) -> None:
        self.world.elect()

    def _append(self, act: Callable[[], Outcome | Unavailable], done: Done) -> None:
        self.world.appended.append(Appended(act, done, self.host, self.host.daemon))


class World:
    """Hosts with one log. The seed decides every order, delay and loss.

    `laws` are those of the releases that may be installed on a host; the first one is.
    """

    def __init__(
        self, seed: int, nodes: int = 3, loss: float = 0.0, laws: Mapping[int, Apply] = LAWS
    ) -> None:
        self.random = Random(seed)
        self.loss = loss
        self.now_ms = 0
        self.laws = laws
        self.law = Law(laws[max(laws)])
        self.members = {1: "host1:7001"}
        self.leader_id = 1
        self.appended: list[Appended] = []
        self.term = 1
        self.failing_builds: set[str] = set()
        self.dying_guests: set[str] = set()
        self.detain: Callable[[Command], bool] = lambda _command: False
        """Which of the nodes' own commands get stuck on their way."""
        self._due: list[tuple[int, Callable[[], None]]] = []
        self.hosts = {node_id: Host(self, node_id) for node_id in range(1, nodes + 1)}
        self._requests = 0
        self.start(1)
        self.until(lambda: 1 in self.cluster.nodes)
        for node_id in range(2, nodes + 1):
            self.join(node_id)

    # --- what agents ask of it ------------------------------------------------------------------

    def boot_ms(self) -> int:
        return self.now_ms

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + self.now_ms

    def later(self, ticks: int, act: Callable[[], None]) -> None:
        self._due.append((self.now_ms + ticks * TICK_MS, act))

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    # --- what a test asks of it -----------------------------------------------------------------

    @property
    def cluster(self) -> Cluster:
        """The committed state."""
        return self.law.cluster

    @property
    def said(self) -> int:
        """How many entries the log has, apart from those that only let things go on."""
        return sum(not isinstance(entry.command, RenewLeases) for entry in self.law.entries)

    def vm(self, name: str) -> Vm:
        return self.cluster.vms[name]

    def admission(self, node_id: int) -> AddNode:
        """What adds a node. One that left is wiped first, as it is told to."""
        host = self.hosts[node_id]
        if host.join_id in self.cluster.departed:
            host.wipes += 1
            host.life = None
            if host.daemon is not None:
                host.kill_daemon()
                self.start(node_id)
        return AddNode(node_id, f"host{node_id}:7001", f"m{node_id}", host.join_id)

    def join(self, node_id: int) -> None:
        self.ask(self.admission(node_id))
        self.start(node_id)
        self.until(lambda: self.cluster.nodes[node_id].incarnation)
        self.until(lambda: self.cluster.nodes[node_id].membership is Membership.MEMBER)

    def start(self, node_id: int, applied: int = 0) -> None:
        """Start a node's daemon, whose journal brings it up to `applied`."""
        host = self.hosts[node_id]
        host.start_daemon(Port(host), applied)

    def ask(self, command: Command) -> Outcome:
        """An operator's command, asked again under the same request id until it is answered."""
        self._requests += 1
        request = RequestId("operator", self._requests, self.law.index)
        answers: list[Outcome] = []

        def answered(outcome: Outcome | Unavailable) -> None:
            if not isinstance(outcome, Unavailable):
                answers.append(outcome)

        for _ in range(100):
            leader = self.hosts[self.leader_id]
            if leader.daemon is not None:
                Port(leader).propose(command, answered, request)
            for _ in range(5):
                self.tick()
                if answers:
                    return answers[0]
        raise AssertionError(f"never answered: {command}")

    def bring_up(self, name: str = "web") -> int:
        """Create a VM and wait until it runs; answers on which node."""
        assert isinstance(self.ask(CreateVm(name, SPEC)), Accepted)
        self.until(lambda: self.vm(name).state is State.RUNNING)
        (node_id,) = self.running(name)
        return node_id

    def tell(self, command: Command) -> None:
        """An operator's command, asked once, whose answer nobody awaits."""
        leader = self.hosts[self.leader_id]
        if leader.daemon is not None:
            Port(leader).propose(command, lambda _outcome: None)

    def crash_guest(self, host: Host, name: str) -> None:
        host.units[name].state = UnitState.EXITED

    def elect(self, node_id: int | None = None, *, caught_up: bool = True) -> None:
        """Another member leads. What the old leader had appended is committed in part, or lost.

        A new leader has every committed entry, but may not have applied it yet.
        """
        kept = self.random.randint(0, len(self.appended))
        self._commit(kept)
        alive = [
            other
            for other in sorted(self.members)
            if self.hosts[other].daemon is not None and self.hosts[other].reachable
        ]
        others = [other for other in alive if other != self.leader_id]
        if node_id is None and not others:
            return
        for lost in self.appended:
            self.later(1, self._answer(lost, Unavailable("deposed", maybe_applied=True)))
        self.appended.clear()
        self.term += 1
        self.leader_id = node_id if node_id is not None else self.random.choice(others)
        if caught_up:
            leader = self.hosts[self.leader_id]
            leader.lagging = False
            leader.catch_up(self.law.index)

    def until(self, condition: Callable[[], object], timeout_ms: int = 60_000) -> None:
        deadline_ms = self.now_ms + timeout_ms
        while not condition():
            if self.now_ms >= deadline_ms:
                raise AssertionError(f"not within {timeout_ms} ms; {self.cluster.vms}")
            self.tick()

    def run(self, duration_ms: int) -> None:
        for _ in range(duration_ms // TICK_MS):
            self.tick()

    def tick(self) -> None:
        self.now_ms += TICK_MS
        due = [act for at_ms, act in self._due if at_ms <= self.now_ms]
        self._due = [(at_ms, act) for at_ms, act in self._due if at_ms > self.now_ms]
        self.random.shuffle(due)
        for act in due:
            act()
        if self.hosts[self.leader_id].daemon is not None:
            self._commit(self.random.randint(0, len(self.appended)))
        hosts = list(self.hosts.values())
        self.random.shuffle(hosts)
        for host in hosts:
            self._let_proceed(host)
        self.check_at_most_one()

    def _let_proceed(self, host: Host) -> None:
        host.proceed()
        self.check_at_most_one()
        if host.daemon is None:
            return
        if host.node_id in self.members and host.reachable and not host.lagging:
            behind = self.law.index - host.applied
            host.catch_up(host.applied + self.random.randint(min(1, behind), behind))
        if self.now_ms % RENEW_MS == 0:
            host.daemon.renew()
        host.daemon.step()
        self.check_at_most_one()

    def _commit(self, count: int) -> None:
        committed, self.appended = self.appended[:count], self.appended[count:]
        for proposal in committed:
            answer = proposal.act()
            if self.chance(self.loss):
                answer = Unavailable("the answer was lost", maybe_applied=True)
            self.later(self.random.randint(0, 2), self._answer(proposal, answer))

    def _answer(self, proposal: Appended, answer: Outcome | Unavailable) -> Callable[[], None]:
        def tell() -> None:
            if proposal.host.daemon is proposal.life:
                proposal.done(answer)

        return tell

    def running(self, name: str) -> list[int]:
        """The hosts on which anything of a VM still runs."""
        return [
            host.node_id
            for host in self.hosts.values()
            if name in host.units and host.units[name].state is not UnitState.EXITED
        ]

    def check_at_most_one(self) -> None:
        for name in sorted({name for host in self.hosts.values() for name in host.units}):
            assert len(self.running(name)) <= 1, f"{name} runs on nodes {self.running(name)}"
