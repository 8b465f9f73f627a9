"""A simulated host: power, clock, disk and VMs, and the daemon that runs on it or does not."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

from blixard.errors import BlixardError, Code
from blixard.model import Capacity
from blixard.sim.administrator import NEEDS_A_PERSON
from blixard.sim.computer import Computer
from blixard.sim.disk import Disk, PowerCut
from blixard.sim.hypervisor import Hypervisor
from blixard.sim.node import Node

if TYPE_CHECKING:
    from blixard.sim.world import World

BOOT_US: Final = (2_000_000, 20_000_000)
RESTART_US: Final = 1_000_000
"""systemd starts the daemon again after a second (RestartSec of the unit)."""
EPOCH_MS: Final = 1_800_000_000_000
"""The wall clock at the beginning of every history."""


class Host:
    """One machine. It can be on while its daemon is dead, paused or slow."""

    def __init__(self, world: "World", node_id: int, *, release: int) -> None:
        self.world = world
        self.node_id = node_id
        self.release = release
        """Which release of Blixard is installed: 2 has a changed rule, see `releases`."""
        self.capacity = Capacity(world.plan.vcpus, 1_024 * world.plan.vcpus)
        self._random = Random(f"host {world.plan.seed} {node_id}")
        self._moves = 0
        self.computer = self._new_computer()
        self.disk = Disk(
            random=Random(f"disk {world.plan.seed} {node_id}"),
            fsync_us=world.plan.fsync_us,
            bit=world.bit,
            committed=lambda batch: world.checks.committed(self, batch),
        )
        self.node: Node | None = None
        self.wipes = 0
        self.is_unfit = False
        """Its journal is damaged or gone: it counts for nothing until it is a new member."""
        self.verdict: Code | None = None
        """Why the daemon ended by itself, if a person has to look at that."""
        self.wall_offset_ms = 0
        self.paused_until_us = 0
        self.busy_until_us = 0
        self.slowness = 1.0
        self.fuse: tuple[str, int] | None = None
        """Die at the n-th moment from now whose kind begins so: `message` or `journal`."""

    @property
    def name(self) -> str:
        return f"node-{self.node_id}"

    @property
    def is_on(self) -> bool:
        return self.computer.is_on

    @property
    def hypervisor(self) -> Hypervisor:
        return self.computer.hypervisor

    @property
    def computers(self) -> list[Computer]:
        """All that its disk is or was in."""
        return [one for one in self.world.computers if one.node_id == self.node_id]

    @property
    def join_id(self) -> str:
        """The identity of its data directory."""
        return f"join-{self.node_id}.{self.wipes}"

    @property
    def birth(self) -> int:
        """What its journal draws when it begins anew."""
        return self.node_id * 1_000 + self.wipes + 1

    # --- ports.Clock ----------------------------------------------------------------------------

    def monotonic_s(self) -> float:
        """Never set, and not exact."""
        return self.computer.monotonic_s()

    def boot_ms(self) -> int:
        return self.computer.boot_ms()

    def wall_ms(self) -> int:
        return EPOCH_MS + self.world.now_us // 1000 + self.wall_offset_ms

    # --- the daemon -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start the daemon, if the host is on and it does not run."""
        if not self.is_on or self.node is not None or self.verdict in NEEDS_A_PERSON:
            return
        self.busy_until_us = self.paused_until_us = 0
        self.node = node = Node(self)
        self.world.trace.note(self.name, "starts")
        node.enter(node.begin)

    def stop(self, why: str, *, again: bool = True) -> None:
        """The daemon is gone at once; systemd starts it again if `again`."""
        if self.node is None:
            return
        self.world.trace.note(self.name, f"is gone: {why}")
        self.node.is_dead = True
        self.node = None
        self.fuse = None
        computer = self.computer
        computer.hypervisor.changed = computer.builds.changed = lambda: None
        computer.keeper.came_back = lambda: None
        computer.builds.forget()
        if again:
            self.world.later(RESTART_US, self.start)

    def wipe(self) -> None:
        """Its data directory is emptied."""
        self.disk.wipe()
        self.computer.life = None
        self.wipes += 1

    def lose_power(self) -> None:
        """The host is off, with all that ran on it."""
        self.stop("no power", again=False)
        if self.is_on:
            self.computer.lose_power()

    def switch_on(self) -> None:
        if not self.is_on:
            self.computer.switch_on()
        self.start()

    def move(self) -> None:
        """The disk is put into another computer; the old one goes on without it."""
        self.stop("its disk is moved", again=False)
        self.computer.reset = self.computer.lose_power
        self._moves += 1
        self.computer = self._new_computer()
        self.computer.lose_power()

    def _new_computer(self) -> Computer:
        plan = self.world.plan
        rate = 1.0 + self._random.uniform(-plan.drift, plan.drift)
        guaranteed = self._random.random() < plan.guaranteed
        computer = Computer(self.world, self.node_id, self._moves, rate=rate, guaranteed=guaranteed)
        computer.reset = self._reset
        self.world.computers.append(computer)
        if rate != 1.0:
            self.world.bit("clock-drift")
        return computer

    def _reset(self, why: str) -> None:
        self.world.trace.note(self.name, f"is reset: {why}")
        if self.computer.is_frozen and self.hypervisor.slice():
            self.world.bit(self.computer.kind_of_freeze)
        self.lose_power()
        self.world.later(self.world.delay_us(BOOT_US), self.switch_on)

    def enter(self, node: Node, act: Callable[[], object]) -> None:
        """Let the daemon act, as soon as it can. Whatever it raises ends it."""
        if node.is_dead:
            return
        now_us = self.world.now_us
        frozen_until_us = self.computer.frozen_until_us
        awake_us = max(self.paused_until_us, self.busy_until_us, frozen_until_us)
        if awake_us > now_us:
            if self.paused_until_us > max(now_us, frozen_until_us):
                self.world.bit("pause")
            self.world.at(awake_us, lambda: self.enter(node, act))
            return
        try:
            act()
        except PowerCut as cut:
            self.world.bit(f"crash-at-{cut.args[0]}")
            self.stop(f"died at {cut.args[1]}")
        except BlixardError as error:
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the process would be gone
            self.world.checks.fail_stop(self, error)
            self.stop(f"{type(error).__name__}: {error}")
        if self.slowness > 1 and not node.is_dead:
            self.world.bit("slow-node")
            self.spend(int(1_000 * self.slowness))

    def _failed(self, error: BlixardError) -> None:
        """The daemon ends with a message; a person or systemd may start it again."""
        self.world.checks.ended(self, error)
        self.verdict = error.code
        self.stop(f"{error.code.label} {error.message}")

    # --- what the disk asks ---------------------------------------------------------------------

    def point(self, kind: str) -> None:
        """A moment between two steps. Raises `PowerCut` if the fuse says so."""
        if self.fuse is None or not kind.startswith(self.fuse[0]):
            return
        wanted, count = self.fuse
        if count > 1:
            self.fuse = wanted, count - 1
            return
        self.fuse = None
        raise PowerCut(kind.partition(",")[0], kind)

    def spend(self, us: int) -> None:
        """Time passes on this host before it does anything else."""
        self.busy_until_us = max(self.busy_until_us, self.world.now_us) + us
