"""One host of the simulated world: what outlives the daemon, and what outlives the host."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from blixard.agent import Agent, Self
from blixard.model import (
    Capacity,
    Cluster,
    Reason,
)
from blixard.ports import BuildState, Log, Run, SeenBuild, SeenUnit, UnitState
from blixard.source import Source

if TYPE_CHECKING:
    from core.world import World

BOOT_MS = 300
BUILD_MS = 900
SHUTDOWN_MS = 600


@dataclass
class Process:
    """A VM's unit on its host."""

    run: Run
    state: UnitState
    since_ms: int


@dataclass
class Host:
    """What outlives the daemon, and of that, what outlives the host."""

    world: "World"
    node_id: int
    units: dict[str, Process] = field(default_factory=dict)
    life: int | None = None
    builds: dict[str, SeenBuild] = field(default_factory=dict)
    build_ends_ms: dict[str, int] = field(default_factory=dict)
    applied: int = 0
    replica: Cluster = field(default_factory=Cluster)
    daemon: Agent | None = None
    reachable: bool = True
    lagging: bool = False
    blind: bool = False
    deaf_guests: set[str] = field(default_factory=set)
    stopped: list[str] = field(default_factory=list)
    received: dict[str, bytes] = field(default_factory=dict)
    wipes: int = 0
    release: int = 1
    deadline_ms: int = 0
    fences: int = 0
    """How often the fence has ended something."""
    volumes: tuple[str, ...] = ()
    """What every runner that is built here writes to."""

    @property
    def join_id(self) -> str:
        """The identity of its data directory."""
        return f"j{self.node_id}.{self.wipes}"

    def start_daemon(self, log: Log, applied: int = 0) -> None:
        """Its log is read again from the disk, which may hold less than was applied before."""
        assert self.daemon is None
        self.builds = {
            name: replace(build, epoch=0)
            for name, build in self.builds.items()
            if build.state is BuildState.BUILT
        }
        self.build_ends_ms = {}
        self.applied, self.replica = 0, Cluster()
        self.catch_up(applied)
        me = Self(
            node_id=self.node_id,
            address=f"host{self.node_id}:7001",
            machine_id=f"m{self.node_id}",
            join_id=self.join_id,
            capacity=Capacity(4, 4096),
            version=f"{self.release}.0",
            level=self.release,
        )
        self.daemon = Agent(me, log, Units(self), Builder(self), Lives(self), self.world)

    def kill_daemon(self) -> None:
        self.daemon = None

    def reboot(self) -> None:
        """Everything that ran is gone; what was built stays."""
        self.kill_daemon()
        self.units.clear()
        self.life = None
        self.deadline_ms = 0

    def catch_up(self, to_index: int) -> None:
        entries = self.world.law.entries
        apply = self.world.laws[self.release]
        while self.applied < min(to_index, len(entries)):
            self.applied += 1
            self.replica, _ = apply(self.replica, self.applied, entries[self.applied - 1])

    def start(self, name: str, run: Run) -> None:
        assert name not in self.units, "started twice"
        is_open = self.world.now_ms < self.deadline_ms
        state = UnitState.STARTING if is_open else UnitState.EXITED
        self.units[name] = Process(run, state, self.world.now_ms)
        self.world.check_at_most_one()

    def proceed(self) -> None:
        """Units and builds move on by themselves."""
        now = self.world.now_ms
        for name, unit in self.units.items():
            alive = unit.state is not UnitState.EXITED
            if alive and now >= self.deadline_ms and not unit.run.keep:
                self.fences += 1
                unit.state, unit.since_ms = UnitState.EXITED, now
            age = now - unit.since_ms
            if unit.state is UnitState.STARTING and age >= BOOT_MS:
                dies = name in self.world.dying_guests
                unit.state = UnitState.EXITED if dies else UnitState.ACTIVE
                unit.since_ms = now
            elif unit.state is UnitState.STOPPING and name not in self.deaf_guests:
                if age < SHUTDOWN_MS:
                    continue
                unit.state, unit.since_ms = UnitState.EXITED, now
        for name in sorted(self.build_ends_ms):
            if now >= self.build_ends_ms[name]:
                del self.build_ends_ms[name]
                self.builds[name] = self._built(name, self.builds[name].epoch)

    def _built(self, name: str, epoch: int) -> SeenBuild:
        if name in self.world.failing_builds:
            why = Reason("build-failed", "no such attribute")
            return SeenBuild(epoch, BuildState.FAILED, reason=why)
        runner = f"/nix/store/0-{name}"
        return SeenBuild(epoch, BuildState.BUILT, runner=runner, volumes=self.volumes)


class Units:
    def __init__(self, host: Host) -> None:
        self.host = host

    guaranteed = False

    def renew(self, deadline_ms: int) -> None:
        self.host.deadline_ms = max(self.host.deadline_ms, deadline_ms)

    def start(self, name: str, run: Run) -> None:
        assert run.runner == f"/nix/store/0-{name}"
        self.host.start(name, run)

    def stop(self, name: str, grace_ms: int, kill: bool) -> None:
        unit = self.host.units[name]
        assert unit.state is not UnitState.EXITED
        if kill:
            unit.state = UnitState.EXITED
        elif unit.state is not UnitState.STOPPING:
            assert grace_ms >= 0
            self.host.stopped.append(name)
            unit.state, unit.since_ms = UnitState.STOPPING, self.host.world.now_ms

    def discard(self, name: str) -> None:
        assert self.host.units.pop(name).state is UnitState.EXITED

    def seen(self) -> Mapping[str, SeenUnit] | None:
        if self.host.blind:
            return None
        now_ms = self.host.world.now_ms
        return {
            name: SeenUnit(
                unit.run.uid,
                unit.run.epoch,
                unit.state,
                now_ms - unit.since_ms,
                "it ended",
                unit.run.keep,
            )
            for name, unit in self.host.units.items()
        }


class Builder:
    def __init__(self, host: Host) -> None:
        self.host = host

    def begin(self, name: str, epoch: int, source: Source, content: bytes) -> None:
        assert source is not None
        if content:
            self.host.received[name] = content
        self.host.builds[name] = SeenBuild(epoch, BuildState.BUILDING, line="compiling")
        self.host.build_ends_ms[name] = self.host.world.now_ms + BUILD_MS

    def cancel(self, name: str) -> None:
        del self.host.builds[name], self.host.build_ends_ms[name]

    def release(self, name: str) -> None:
        del self.host.builds[name]

    def seen(self) -> Mapping[str, SeenBuild]:
        return dict(self.host.builds)


class Lives:
    def __init__(self, host: Host) -> None:
        self.host = host

    def load(self) -> int | None:
        return self.host.life

    def save(self, incarnation: int) -> None:
        self.host.life = incarnation
