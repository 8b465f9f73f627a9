"""The daemon: the only room that knows all others, and wires them.

One asyncio loop runs the consensus engine, the gRPC server and the agent's steps. Whatever could
block (systemd, Nix, name look-ups) lives in drivers that never hold the loop up. Stopping the
daemon leaves the VMs alone; a later one finds them again.
"""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import SystemRandom
from typing import Any, Final
from uuid import uuid4

from blixard import __version__, admission, equipment
from blixard.agent import Agent, Self
from blixard.config import Misconfigured, NodeConfig
from blixard.config.live import taken
from blixard.drivers import host, watchdog
from blixard.drivers.checks import GuestChecks
from blixard.drivers.console_lines import LogFiles
from blixard.drivers.flake_lock import NixLocker
from blixard.drivers.nix import NixBuilder
from blixard.drivers.nix_command import NixCommand
from blixard.drivers.systemd import SystemdUnits
from blixard.machine.changes import Batch
from blixard.metrics import Metrics
from blixard.notify import ServiceNotifier, log_event, set_up_logging
from blixard.ports import Units
from blixard.raft.engine import RaftEngine
from blixard.raft.recovery import bootstrap, identity_of, join
from blixard.raft.replica import Replica, ReplicatedCluster
from blixard.raft.runner import EngineRunner
from blixard.raft.store import SqliteStore
from blixard.raft.transport import GrpcTransport
from blixard.shutdown import hand_over, let_go
from blixard.v1 import blixard_pb2 as pb
from blixard.wire import peers
from blixard.wire.node_log import NodeLog
from blixard.wire.server import ClusterService, RaftService, Server

STEP_EVERY_S: Final = 0.5
"""The longest pause between two steps of the agent; whatever changes wakes it earlier."""
RETRY_S: Final = 1.0
DEFECT: Final = "defect in a driver"
"""How drivers tell the loop of a mistake of ours."""

_log = logging.getLogger("blixard")


def run(config: NodeConfig, reread: Callable[[], NodeConfig]) -> int:
    """Run one node until it is told to stop. `reread` gives its configuration anew, or raises
    `Misconfigured`. Raises `BlixardError` if it cannot go on."""
    set_up_logging(config.log_level)
    asyncio.run(Daemon(config, reread).run())
    return 0


class Daemon:
    """One node, from start to stop. To the gRPC services it is the node's way into a cluster."""

    def __init__(self, config: NodeConfig, reread: Callable[[], NodeConfig]) -> None:
        self._config = config
        self._reread = reread
        self._not_taken = ""
        """What of the configuration waits for a restart, or why none of it was taken."""
        self._clock = host.SystemClock()
        self._metrics = Metrics(config.node_id, __version__, config.data_dir / "raft", self._clock)
        self._meters = self._metrics.meters
        self._notifier = ServiceNotifier()
        self._wake = asyncio.Event()
        self._node = NodeLog(config.node_id, self._clock)
        self._state = ReplicatedCluster(told=self._told)
        self._transport = GrpcTransport()
        self._reporter = peers.Reporter(config.node_id)
        self._via = [address for _, address in config.peers]
        self.founding = config.founding
        self.cluster_id = ""
        self._changed = asyncio.Event()
        """That the configuration is to be read anew."""
        self._agent: Agent | None = None
        self._driver: Units | None = None
        self._belongs = asyncio.Event()
        self._leaving = asyncio.Event()

    async def run(self) -> None:
        """Live until a signal says to stop, then let go of everything but the VMs."""
        living = asyncio.ensure_future(self._live())
        loop = asyncio.get_running_loop()
        defects: list[BaseException] = []

        def failed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            loop.default_exception_handler(context)
            if context["message"].startswith(DEFECT):
                defects.append(context["exception"])
                living.cancel()

        loop.set_exception_handler(failed)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leaving.set)
        if self._notifier.enabled:
            # Elsewhere this signal means that the terminal is gone.
            loop.add_signal_handler(signal.SIGHUP, self._changed.set)
        leaving = asyncio.ensure_future(self._leave(living))
        try:
            await living
        except asyncio.CancelledError:
            if defects:
                # What a driver was about to do is lost; a new daemon begins from what it sees.
                raise defects[0] from None
            _log.info("%s", self._farewell())
        finally:
            leaving.cancel()

    def _farewell(self) -> str:
        held = len(self._held()) if self._node.opened else 0
        if self._agent is None or not held:
            return "stopped"
        left_s = self._agent.lease_left_ms / 1000
        return f"stopped; VMs here: {held}; they run on for {left_s:.1f} s, unless it is back"

    async def _leave(self, living: "asyncio.Future[None]") -> None:
        """End the daemon's life when a signal says so, after letting another member lead."""
        await self._leaving.wait()
        units = self._driver
        if self._node.opened:
            if isinstance(units, SystemdUnits) and await units.is_shutting_down():
                log = self._node.log
                if self._agent is not None:
                    self._agent.host_ends = True
                await let_go(self._config.node_id, log, units, self._notifier, self._held)
            await hand_over(self._node.log)
        living.cancel()

    async def _live(self) -> None:
        """Listen, belong to a cluster, and take one step after another."""
        config = self._config
        async with contextlib.AsyncExitStack() as closing:
            store = SqliteStore(config.data_dir / "raft", self._meters)
            closing.callback(store.close)
            nix = NixCommand(config.nix.binary, config.nix.options)
            builder = self._builder(nix)
            units = self._driver = equipment.units(config, self._wake.set, self._clock)
            for driver in (builder, units):
                await driver.open()
                closing.push_async_callback(driver.close)
            if config.watchdog_mode == "guaranteed":
                await watchdog.required(units, by_systemd=isinstance(units, SystemdUnits))
            closing.push_async_callback(self._reporter.close)
            consoles = equipment.consoles(config, units)
            service = ClusterService(
                self._node,
                self,
                lambda: self._transport,
                NixLocker(nix),
                consoles,
                LogFiles(config.data_dir / "builds" / "logs"),
            )
            server = Server(service, RaftService(self._node), self._meters)
            await server.start(config.bind, config.socket)
            closing.push_async_callback(server.stop)
            await closing.enter_async_context(self._metrics.served(config.metrics_bind))
            self._notifier.ready()
            closing.callback(self._notifier.stopping)
            join_id = _join_id(config.data_dir / "raft")
            await self._belong(store)
            engine = self._engine(store)
            runner = EngineRunner(engine, self._transport, leads=self._wake.set)
            carry = self._reporter.carry
            clock, meters = self._clock, self._meters
            log = Replica(engine, self._state, self.cluster_id, clock, carry, meters)
            self._node.open(log)
            closing.callback(self._node.close)
            await server.serving(belongs=True)
            me = equipment.self_of(self._config, join_id)
            lives = equipment.lives(config)
            checks = GuestChecks(consoles, self._wake.set)
            closing.push_async_callback(checks.close)
            agent = self._agent = Agent(me, log, units, builder, lives, clock, meters, checks)
            await _together(
                runner.run(),
                self._stay_admitted(log, me),
                self._renewals(agent),
                self._steps(agent, log),
                self._reloads(agent, nix, builder, join_id),
            )

    async def _reloads(
        self, agent: Agent, nix: NixCommand, builder: NixBuilder, join_id: str
    ) -> None:
        """Read the configuration anew whenever a signal has said so, also before this node was in
        its cluster."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._reload(agent, nix, builder, join_id)

    def _reload(self, agent: Agent, nix: NixCommand, builder: NixBuilder, join_id: str) -> None:
        """Take what can change of the configuration, and say what cannot."""
        self._notifier.reloading()
        try:
            self._config, waiting = taken(self._config, self._reread())
        except Misconfigured as wrong:
            said = "; ".join(problem.rejected.message for problem in wrong.problems)
            self._not_taken = f"configuration not taken: {said}"
            _log.error("%s", self._not_taken)
        else:
            set_up_logging(self._config.log_level)
            nix.configure(self._config.nix.binary, self._config.nix.options)
            builder.timeout_ms = self._config.nix.build_timeout_s * 1_000
            agent.become(equipment.self_of(self._config, join_id))
            self._not_taken = f"needs a restart: {', '.join(waiting)}" if waiting else ""
            _log.info("configuration taken%s", f"; {self._not_taken}" if waiting else "")
        self._notifier.ready()
        self._wake.set()

    # --- what it is wired of --------------------------------------------------------------------

    def _builder(self, nix: NixCommand) -> NixBuilder:
        timeout_ms = self._config.nix.build_timeout_s * 1_000
        directory = self._config.data_dir / "builds"
        wake, meters = self._wake.set, self._meters
        return NixBuilder(directory, nix, wake=wake, timeout_ms=timeout_ms, meters=meters)

    def _engine(self, store: SqliteStore) -> RaftEngine:
        return RaftEngine(
            self._config.node_id,
            store,
            self._state,
            send=self._transport.send,
            clock=time.monotonic,
            random=SystemRandom(),
        )

    # --- the way into a cluster -----------------------------------------------------------------

    async def _belong(self, store: SqliteStore) -> None:
        """Return once the store says to which cluster this node belongs."""
        config = self._config
        while (identity := identity_of(store)) is None:
            answers = await self._greet_peers()
            match admission.choose(config.node_id, self.founding, self._via, answers):
                case admission.Found():
                    bootstrap(store, uuid4().hex, config.node_id, config.advertise)
                    _log.info("founded a cluster")
                case admission.Join(cluster_id):
                    join(store, cluster_id, config.node_id)
                    _log.info("joins cluster %s", cluster_id)
                case admission.Wait(why):
                    self._notifier.status(f"waits to join a cluster: {why}")
                    await asyncio.sleep(RETRY_S)
        self.cluster_id = identity.cluster_id
        self._belongs.set()

    async def _greet_peers(self) -> list[pb.GreetResponse]:
        node_id = self._config.node_id
        greetings = [peers.greet(via, node_id=node_id, founding=self.founding) for via in self._via]
        return [answer for answer in await asyncio.gather(*greetings) if answer is not None]

    async def join_through(self, address: str) -> str:
        """Try one more address, until this node belongs to a cluster."""
        if address not in self._via:
            self._via.append(address)
        await self._belongs.wait()
        return self.cluster_id

    async def _stay_admitted(self, log: Replica, me: Self) -> None:
        """Ask the cluster to admit this node until its own log names it, and again whenever the
        members refuse it. Raises `BlixardError` once the cluster says that it was removed."""
        request = pb.JoinClusterRequest(
            node_id=me.node_id,
            bind_address=me.address,
            machine_id=me.machine_id,
            join_id=me.join_id,
            level=me.level,
        )
        while True:
            status = log.status()
            shut_out = status.leader_id is None and self._transport.refusals
            if me.node_id not in status.members or shut_out:
                others = [at for node, at in status.members.items() if node != me.node_id]
                trouble = await peers.join([*self._via, *others], request)
                if trouble:
                    self._notifier.status(f"waits to be admitted: {trouble}")
            await asyncio.sleep(RETRY_S)

    # --- the loop -------------------------------------------------------------------------------

    async def _steps(self, agent: Agent, log: Replica) -> None:
        """Step whenever something has changed or is due, and every half second."""
        while True:
            self._wake.clear()
            due_ms = agent.step()
            self._metrics.look(log, agent)
            self._node.leases.look(log.cluster())
            self._notifier.alive()
            self._notifier.status(self._status_line(log, agent))
            with contextlib.suppress(TimeoutError):
                longest_s = STEP_EVERY_S if due_ms is None else min(STEP_EVERY_S, due_ms / 1000)
                async with asyncio.timeout(longest_s):
                    await self._wake.wait()

    async def _renewals(self, agent: Agent) -> None:
        """Renew the lease on a timer of its own: no step, build or bus is waited for."""
        while True:
            agent.renew()
            await asyncio.sleep(self._config.lease.renew_ms / 1000)

    def _status_line(self, log: Replica, agent: Agent) -> str:
        """What `systemctl status` shows."""
        if agent.refusal is not None:
            return f"not accepted by the cluster: {agent.refusal.message}"
        status, cluster = log.status(), log.cluster()
        leader = f"node-{status.leader_id} leads" if status.leader_id else "no leader"
        vms = f"{len(self._held())} of {len(cluster.vms)} VMs here"
        lease = f"lease {agent.lease_left_ms / 1000:.1f} s" if agent.lease_left_ms else "no lease"
        said = f"{status.role}, term {status.term}, {leader}; {lease}; {vms}"
        return f"{said}; {self._not_taken}" if self._not_taken else said

    def _held(self) -> list[str]:
        """The VMs that the cluster has placed here."""
        return [
            name
            for name, vm in self._node.log.cluster().vms.items()
            if vm.holder is not None and vm.holder.node_id == self._config.node_id
        ]

    def _told(self, batch: Batch) -> None:
        """The state has changed: write it down, and let everyone look who waits for it."""
        for event in batch.events:
            log_event(_log, event)
        self._metrics.changed(batch, self._state.cluster)
        self._node.tell(batch)
        self._wake.set()


async def _together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all parts until one fails; raises what that one raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for part in parts:
                tasks.create_task(part)
    except ExceptionGroup as group:
        raise group.exceptions[0] from group


def _join_id(directory: Path) -> str:
    """The identity of this data directory: made once, and gone when it is wiped."""
    path = directory / "join-id"
    if not path.exists():
        path.write_text(uuid4().hex)
    return path.read_text()
