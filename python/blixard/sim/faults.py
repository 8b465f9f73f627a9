"""Everything that goes wrong in a simulated history, by name.

A fault of each kind strikes now and then, for a while. It counts as having struck only when it
truly changed what happened: a connection that was open was broken, a message was held back, a
process died between two steps of its journal.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from blixard.model import Membership
from blixard.sim import (
    faults_cuts,
    faults_disks,
    faults_hosts,
    faults_leases,
    faults_network,
    faults_vms,
)
from blixard.sim.clients import Client
from blixard.sim.host import Host
from blixard.sim.world import World

Strike = Callable[["Faults"], bool | None]
"""False: there was nothing that it could strike."""
AGAIN_US: Final = 1_000_000
"""So much later it is looked for again."""
CALM: Final = 0.6
"""How often a fault that takes long is left alone."""


class Faults:
    """The faults of one history."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = Random(f"faults {world.plan.seed}")
        self.network = world.network
        self.operator = Client(world, world.plan.clients + 1, [])
        """Asks nothing by himself: for faults that consist of what somebody asks."""
        self._is_over = False
        self._calm_until_us = 0
        self._endings: dict[int, Callable[[], None]] = {}
        self._count = 0

    def begin(self) -> None:
        """Let each kind of the plan strike again and again."""
        for kind in self.world.plan.faults:
            self._wait(kind)

    def end(self) -> None:
        """No more faults, and an end to those in force."""
        self._is_over = True
        endings, self._endings = self._endings, {}
        for ending in endings.values():
            ending()

    def _wait(self, kind: str) -> None:
        after_s = self.random.expovariate(1 / self.world.plan.faults[kind])
        self.world.later(after_s * 1e6, lambda: self._strike(kind))

    def _strike(self, kind: str, waited: str = "") -> None:
        if self._is_over:
            return
        if self.world.now_us < self._calm_until_us:
            self.world.at(self._calm_until_us, lambda: self._wait(kind))
            return
        if not waited:
            self.world.trace.note("fault", kind)
        if KINDS[kind](self) is False:
            self.world.later(AGAIN_US, lambda: self._strike(kind, ", at last"))
            return
        if waited:
            self.world.trace.note("fault", kind + waited)
        self._wait(kind)

    def lasting(self, seconds: tuple[float, float], ending: Callable[[], None]) -> None:
        """Something that is in force goes on for a while."""
        self._count += 1
        number = self._count
        self._endings[number] = ending

        def end() -> None:
            if number in self._endings:
                self._endings.pop(number)()

        self.world.later(self.random.uniform(*seconds) * 1e6, end)

    def calm(self, seconds: float) -> None:
        """Now and then let nothing else strike for a while: what takes long seldom comes to its
        end among other faults."""
        if self.random.random() < CALM:
            self._calm_until_us = self.world.now_us + int(seconds * 1e6)

    def host(self) -> Host:
        """Any host."""
        return self.random.choice(list(self.world.hosts.values()))

    def running(self) -> Iterator[Host]:
        """The hosts whose daemon runs, in random order."""
        hosts = [host for host in self.world.hosts.values() if host.node is not None]
        self.random.shuffle(hosts)
        yield from hosts

    def hold(self, kind: str, pairs: list[tuple[int, int]], seconds: tuple[float, float]) -> None:
        """Let nothing pass in some directions for a while."""
        before = self.network.stalled
        self.network.block(*pairs)

        def ending() -> None:
            if self.network.stalled > before:
                self.world.bit(kind)
            self.network.release(*pairs)

        self.lasting(seconds, ending)

    def is_whole(self) -> bool:
        """Whether every host is a member, with a sound journal."""
        nodes = self.world.checks.canon.cluster.nodes
        hosts = self.world.hosts
        return (
            len(hosts) >= 3
            and not any(host.is_unfit for host in hosts.values())
            and all(i in nodes and nodes[i].membership is Membership.MEMBER for i in hosts)
        )

    def pairs(self) -> list[tuple[int, int]]:
        """All directions between hosts."""
        ids = list(self.world.hosts)
        return [(a, b) for a in ids for b in ids if a != b]


KINDS: Final[dict[str, Strike]] = {
    "reset": faults_network.reset,
    "delay": faults_network.delay,
    "clog": faults_network.clog,
    "one-way": faults_network.one_way,
    "partition": faults_network.partition,
    "partial-partition": faults_network.partial_partition,
    "swizzle": faults_network.swizzle,
    "lost-reply": faults_network.client_cut,
    "crash": faults_hosts.crash,
    "crash-several": faults_hosts.crash_several,
    "crash-all": faults_hosts.crash_all,
    "crash-at-message": faults_hosts.crash_at_message,
    "crash-at-journal": faults_hosts.crash_at_journal,
    "crash-at-snapshot": faults_hosts.crash_at_snapshot,
    "pause": faults_hosts.pause,
    "slow-node": faults_hosts.slow_node,
    "reboot": faults_hosts.reboot,
    "power-cut": faults_hosts.power_cut,
    "wipe": faults_disks.wipe,
    "lost-tail": faults_disks.lost_tail,
    "bit-flip": faults_disks.bit_flip,
    "full-disk": faults_disks.full_disk,
    "fsync-error": faults_disks.fsync_error,
    "slow-fsync": faults_disks.slow_fsync,
    "clock-step": faults_hosts.clock_step,
    "build-failure": faults_vms.build_failure,
    "build-hang": faults_vms.build_hang,
    "start-failure": faults_vms.start_failure,
    "vm-crash": faults_vms.vm_crash,
    "driver-hang": faults_vms.driver_hang,
    "guest-stall": faults_vms.guest_stall,
    "agent-pause": faults_leases.agent_pause,
    "daemon-dead": faults_leases.daemon_dead,
    "keeper-dead": faults_leases.keeper_dead,
    "keeper-stopped": faults_leases.keeper_stopped,
    "freeze": faults_leases.freeze,
    "suspend": faults_leases.suspend,
    "self-restart": faults_leases.self_restart,
    "late-start": faults_leases.late_start,
    "queued-start": faults_leases.queued_start,
    "unkillable": faults_leases.unkillable,
    "two-reboots": faults_leases.two_reboots,
    "disk-moved": faults_leases.disk_moved,
    "confirm-down": faults_leases.confirm_down,
    "late-register": faults_leases.late_register,
    "deposed-leader": faults_cuts.deposed_leader,
    "recreate-cut-off": faults_cuts.recreate_cut_off,
    "policy-cut-off": faults_cuts.policy_cut_off,
    "remove-cut-off": faults_cuts.remove_cut_off,
    "membership": faults_hosts.membership,
    "transfer": faults_hosts.transfer,
    "upgrade": faults_hosts.upgrade,
}
"""What `--faults` may name. Clocks drift, and lost messages stray, as the plan says."""
