"""The builds of one computer, as `ports.Builder` sees them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Final

from blixard.model import (
    Reason,
)
from blixard.ports import BuildState, SeenBuild
from blixard.source import Source

if TYPE_CHECKING:
    from blixard.sim.computer import Computer

BUILD_US: Final = (100_000, 6_000_000)
GIVE_UP_US: Final = 60_000_000


@dataclass(slots=True)
class _Build:
    seen: SeenBuild
    token: int = 0


class Builds:
    """One build a VM at a time. What was built outlives the daemon and the power."""

    def __init__(self, computer: "Computer") -> None:
        self._computer = computer
        self._world = computer.world
        self._builds: dict[str, _Build] = {}
        self._tokens = 0
        self.changed: Callable[[], None] = lambda: None
        """Told when a build has ended."""
        self.failing = 0
        """So many of the next builds fail."""
        self.hanging = 0

    def heal(self) -> None:
        """No further build goes wrong."""
        self.failing = self.hanging = 0

    def forget(self) -> None:
        """The daemon is gone, and with it the builds that it had begun."""
        for name in [n for n, b in self._builds.items() if b.seen.state is not BuildState.BUILT]:
            del self._builds[name]
        for build in self._builds.values():
            build.seen = replace(build.seen, epoch=0)

    # --- ports.Builder --------------------------------------------------------------------------

    def begin(self, name: str, epoch: int, source: Source, content: bytes) -> None:
        assert source is not None
        assert isinstance(content, bytes)
        computer, world = self._computer, self._world
        self._tokens += 1
        token = self._tokens
        self._builds[name] = _Build(SeenBuild(epoch, BuildState.BUILDING, line="building"), token)
        if self.hanging:
            self.hanging -= 1
            world.bit("build-hang")
            computer.later(GIVE_UP_US, lambda: self._fail(name, token, "timed out"))
        elif self.failing:
            self.failing -= 1
            world.bit("build-failure")
            computer.later(world.delay_us(BUILD_US), lambda: self._fail(name, token, "exit 1"))
        else:
            computer.later(world.delay_us(BUILD_US), lambda: self._built(name, token))

    def cancel(self, name: str) -> None:
        del self._builds[name]

    def release(self, name: str) -> None:
        del self._builds[name]

    def seen(self) -> Mapping[str, SeenBuild]:
        return {name: build.seen for name, build in self._builds.items()}

    def _built(self, name: str, token: int) -> None:
        runner = f"/nix/store/{'0' * 32}-{name}"
        volumes = volumes_of(name, self._world.plan.seed)
        self._end(name, token, BuildState.BUILT, runner=runner, volumes=volumes)

    def _fail(self, name: str, token: int, why: str) -> None:
        self._end(name, token, BuildState.FAILED, reason=Reason("build-failed", why))

    def _end(
        self,
        name: str,
        token: int,
        state: BuildState,
        runner: str | None = None,
        volumes: tuple[str, ...] | None = None,
        reason: Reason | None = None,
    ) -> None:
        build = self._builds.get(name)
        if build is not None and build.token == token:
            epoch = build.seen.epoch
            build.seen = SeenBuild(epoch, state, runner=runner, volumes=volumes, reason=reason)
            build.token = 0
            self.changed()


def volumes_of(name: str, seed: int) -> tuple[str, ...] | None:
    """What the runner of a VM writes to. Most have no volumes; of some nobody can tell."""
    chance = Random(f"volumes {seed} {name}").random()
    if chance < 0.7:
        return ()
    return ("data.img",) if chance < 0.85 else None
