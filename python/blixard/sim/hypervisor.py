"""A simulated host as its VMs see it: units, builds and the incarnation file.

It outlives the daemon, so it is the oracle of what truly runs. It follows the contracts of `ports`,
not the drivers behind them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from blixard.model import Reason, Source
from blixard.ports import BuildState, Run, SeenBuild, SeenUnit, UnitState

if TYPE_CHECKING:
    from blixard.sim.world import World

START_US: Final = (50_000, 2_000_000)
STOP_US: Final = (50_000, 5_000_000)
BUILD_US: Final = (100_000, 6_000_000)
GIVE_UP_US: Final = 60_000_000
"""A start that comes to nothing ends within a minute (`ports.Units.start`)."""


@dataclass(slots=True)
class Process:
    """A VM on its host."""

    run: Run
    state: UnitState
    since_us: int
    detail: str = ""


@dataclass(slots=True)
class Build:
    seen: SeenBuild
    token: int = 0


class Hypervisor:
    """All that runs on one host, and what its daemon left behind."""

    def __init__(self, world: "World", node_id: int) -> None:
        self._world = world
        self._node_id = node_id
        self.processes: dict[str, Process] = {}
        self.builds: dict[str, Build] = {}
        self.life: int | None = None
        self.changed: Callable[[], None] = lambda: None
        """Told when something here moved by itself."""
        self.blind_until_us = 0
        """Until then systemd does not answer."""
        self.failing_starts = 0
        self.failing_builds = 0
        self.hanging_builds = 0
        self.hanging_starts = 0
        self._tokens = 0
        self.deadline_ms = 0

    def runs(self, name: str, uid: int | None = None) -> bool:
        """Whether anything of a VM is alive here; of the one that `uid` tells, if it is given."""
        process = self.processes.get(name)
        if process is None or uid not in (None, process.run.uid):
            return False
        return process.state is not UnitState.EXITED

    def lose_power(self) -> None:
        """Everything that ran is gone; what was built stays."""
        self.processes.clear()
        self.life = None
        self.deadline_ms = 0
        self.forget_builds()

    def forget_builds(self) -> None:
        """The daemon is gone, and with it the builds that it had begun."""
        for name in [n for n, b in self.builds.items() if b.seen.state is not BuildState.BUILT]:
            del self.builds[name]
        for build in self.builds.values():
            build.seen = replace(build.seen, epoch=0)

    def crash_guest(self, name: str) -> None:
        process = self.processes[name]
        process.state, process.detail = UnitState.EXITED, "the guest died"
        self.changed()

    # --- ports.Units ----------------------------------------------------------------------------

    def renew(self, deadline_ms: int) -> None:
        self.deadline_ms = max(self.deadline_ms, deadline_ms)
        host = self._world.hosts[self._node_id]
        self._world.later((self.deadline_ms - host.boot_ms()) * 1005, self._fence)

    def _fence(self) -> None:
        if self._world.hosts[self._node_id].boot_ms() < self.deadline_ms:
            return
        for process in self.processes.values():
            if process.state is not UnitState.EXITED and not process.run.keep:
                process.state, process.detail = UnitState.EXITED, "fenced"
                self._world.bit("fenced")
                self.changed()

    def start(self, name: str, run: Run) -> None:
        assert run.runner
        assert name not in self.processes, "a VM is started where nothing of it is seen"
        world = self._world
        process = Process(run, UnitState.STARTING, world.now_us)
        self.processes[name] = process
        if world.hosts[self._node_id].boot_ms() >= self.deadline_ms:
            process.state = UnitState.EXITED
            return
        world.checks.started(self._node_id, name, run.uid, run.epoch)
        if self.hanging_starts:
            self.hanging_starts -= 1
            world.bit("driver-hang")
            world.later(GIVE_UP_US, lambda: self._move(name, process, UnitState.EXITED))
            return
        state = UnitState.ACTIVE
        if self.failing_starts:
            self.failing_starts -= 1
            world.bit("start-failure")
            state = UnitState.EXITED
        world.later(world.delay_us(START_US), lambda: self._move(name, process, state))

    def stop(self, name: str, grace_ms: int, kill: bool) -> None:
        process = self.processes[name]
        self._world.checks.stopped(self._node_id, name, process.run.uid, process.run.epoch)
        if kill:
            process.state = UnitState.EXITED
            self._world.later(0, self.changed)
        elif process.state is not UnitState.STOPPING:
            process.state, process.since_us = UnitState.STOPPING, self._world.now_us
            after_us = min(self._world.delay_us(STOP_US), grace_ms * 1000)
            self._world.later(after_us, lambda: self._move(name, process, UnitState.EXITED))

    def discard(self, name: str) -> None:
        assert self.processes.pop(name).state is UnitState.EXITED

    def seen_units(self) -> Mapping[str, SeenUnit] | None:
        now_us = self._world.now_us
        if now_us < self.blind_until_us:
            self._world.bit("driver-hang")
            return None
        return {
            name: SeenUnit(
                p.run.uid, p.run.epoch, p.state, (now_us - p.since_us) // 1000, p.detail, p.run.keep
            )
            for name, p in self.processes.items()
        }

    def _move(self, name: str, process: Process, state: UnitState) -> None:
        """A start or a stop has come to its end, unless something else did before."""
        if self.processes.get(name) is not process or process.state is UnitState.EXITED:
            return
        if process.state is UnitState.STOPPING and state is UnitState.ACTIVE:
            return
        process.state, process.since_us = state, self._world.now_us
        self.changed()

    # --- ports.Builder --------------------------------------------------------------------------

    def begin(self, name: str, epoch: int, source: Source, content: bytes) -> None:
        assert source is not None
        assert isinstance(content, bytes)
        world = self._world
        self._tokens += 1
        token = self._tokens
        self.builds[name] = Build(SeenBuild(epoch, BuildState.BUILDING, line="building"), token)
        if self.hanging_builds:
            self.hanging_builds -= 1
            world.bit("build-hang")
            world.later(GIVE_UP_US, lambda: self._fail(name, token, "timed out"))
        elif self.failing_builds:
            self.failing_builds -= 1
            world.bit("build-failure")
            world.later(world.delay_us(BUILD_US), lambda: self._fail(name, token, "exit 1"))
        else:
            world.later(world.delay_us(BUILD_US), lambda: self._built(name, token))

    def cancel(self, name: str) -> None:
        del self.builds[name]

    def release(self, name: str) -> None:
        del self.builds[name]

    def seen_builds(self) -> Mapping[str, SeenBuild]:
        return {name: build.seen for name, build in self.builds.items()}

    def _built(self, name: str, token: int) -> None:
        build = self.builds.get(name)
        if build is not None and build.token == token:
            runner = f"/nix/store/{'0' * 32}-{name}"
            build.seen = SeenBuild(build.seen.epoch, BuildState.BUILT, runner=runner, volumes=())
            build.token = 0
            self.changed()

    def _fail(self, name: str, token: int, why: str) -> None:
        build = self.builds.get(name)
        if build is not None and build.token == token:
            reason = Reason("build-failed", why)
            build.seen = SeenBuild(build.seen.epoch, BuildState.FAILED, reason=reason)
            build.token = 0
            self.changed()

    # --- ports.Lives ----------------------------------------------------------------------------

    def load(self) -> int | None:
        return self.life

    def save(self, incarnation: int) -> None:
        self.life = incarnation


class Units:
    """`ports.Units` of one host."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self.guaranteed = False
        self.renew = hypervisor.renew
        self.start = hypervisor.start
        self.stop = hypervisor.stop
        self.discard = hypervisor.discard
        self.seen = hypervisor.seen_units


class Builder:
    """`ports.Builder` of one host."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self.begin = hypervisor.begin
        self.cancel = hypervisor.cancel
        self.release = hypervisor.release
        self.seen = hypervisor.seen_builds
