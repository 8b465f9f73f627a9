"""Realises runners with Nix (nix3-build(1)), one `nix build` for each VM."""

import asyncio
import contextlib
import os
import re
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blixard.drivers import nix_volumes
from blixard.drivers.archive import unpack
from blixard.drivers.console import RotatedFile, plain, tail
from blixard.drivers.nix_command import NixCommand, NixMissingError, OnOutput
from blixard.drivers.nix_volumes import Volumes
from blixard.drivers.tasks import Tasks
from blixard.errors import BlixardError
from blixard.model import (
    Reason,
)
from blixard.ports import UNMEASURED, BuildState, Meters, SeenBuild, Timed
from blixard.source import FlakeSource, PackedSource, Source, StoreSource

# Evaluating a NixOS configuration takes about a GiB of memory.
_BUILDS_AT_ONCE = 2
_LOG_LIMIT_BYTES = 4 * 1024 * 1024
_LINE_LIMIT = 200
_LINE_WAKE_S = 0.25
_SEARCHED_LINES = 200
_SHOWN_LINES = 20
_REASON_LIMIT_BYTES = 4096
_REST_LIMIT_BYTES = 65_536

_STORE_PATH = re.compile(r"/nix/store/[0-9a-z]{32}-[0-9A-Za-z+._?=-]+")
_WRAPPER = Path(__file__).with_name("wrapper")
_WRAPPED_ATTRIBUTE = "vm"
_RUNNER = "declaredRunner"
_VOLUMES_S = 20

# Nix has one exit status for everything that goes wrong; only its words tell.
_BUILDER_FAILED = re.compile(
    r"builder for '|Cannot build '|build of '|dependencies of derivation|hash mismatch in fixed"
)
_FETCH_FAILED = re.compile(
    r"unable to download|getting status of '|no substituter|is not valid|NAR hash mismatch"
    r"|[Cc]ould not read from remote|not found in the flake registry|[Ff]ailed to fetch"
    r"|does not contain a '.*/flake\.nix'"
)
_WRONG = re.compile(r"error|fail", re.IGNORECASE)

_LOG_ONLY = SeenBuild(0, BuildState.FAILED, reason=Reason("build-failed", "only its log is kept"))


class _FailedError(Exception):
    """A build that leads to no runner."""

    def __init__(self, code: str, headline: str) -> None:
        super().__init__(headline)
        self.code = code
        self.headline = headline


@dataclass(eq=False)
class _Build:
    """A build under way, with what it has written so far."""

    epoch: int
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_SEARCHED_LINES))
    rest: bytes = b""
    """The beginning of a line whose end has not come yet."""
    task: asyncio.Task[None] | None = None

    @property
    def line(self) -> str:
        """The last line that says something."""
        return next((line for line in reversed(self.lines) if line.strip()), "")[:_LINE_LIMIT]

    def add(self, output: bytes) -> None:
        *lines, rest = (self.rest + output).split(b"\n")
        self.rest = rest[-_REST_LIMIT_BYTES:]
        self.lines.extend(plain(line) for line in lines)

    def explain(self, headline: str) -> str:
        """The headline, and the end of the output. If it speaks of an error before that, its lines
        from there on come first: what is named first is the cause as often as not."""
        lines = list(self.lines)
        first = next((i for i, line in enumerate(lines) if _WRONG.search(line)), len(lines))
        if first < len(lines) - _SHOWN_LINES:
            half = _SHOWN_LINES // 2
            lines = [*lines[first : first + half - 1], "...", *lines[-half:]]
        limit_bytes = _REASON_LIMIT_BYTES - len(headline.encode()) - 1
        excerpt = tail(lines, _SHOWN_LINES, limit_bytes)
        return f"{headline}\n{excerpt}" if excerpt else headline


class NixBuilder:
    """Implements `ports.Builder`. Below `directory` lie `roots/NAME`, the links that keep runners
    from collection, `logs/NAME.log`, `volumes/NAME.json`, and what packed sources are unpacked to
    while they are built.
    """

    def __init__(
        self,
        directory: Path,
        nix: NixCommand,
        *,
        wake: Callable[[], None],
        timeout_ms: int = 1_800_000,
        meters: Meters = UNMEASURED,
    ) -> None:
        self._roots = directory / "roots"
        self._logs = directory / "logs"
        self._sources = directory / "sources"
        self._volumes = directory / "volumes"
        self._nix = nix
        self._wake = wake
        self._meters = meters
        self.timeout_ms = timeout_ms
        """How long a build may take that begins from now on."""
        self._tasks = Tasks()
        self._slots = asyncio.Semaphore(_BUILDS_AT_ONCE)
        self._building: dict[str, _Build] = {}
        self._results: dict[str, SeenBuild] = {}
        self._kept: dict[str, SeenBuild] = {}
        self._line_wake: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Find what earlier lives of the daemon left. Builds end with the daemon: none is left."""
        self._kept = await asyncio.to_thread(self._find_kept)

    async def close(self) -> None:
        """End every build."""
        await self._tasks.close()
        if self._line_wake is not None:
            self._line_wake.cancel()

    def begin(self, name: str, epoch: int, source: Source, content: bytes) -> None:
        self.cancel(name)
        self._kept.setdefault(name, _LOG_ONLY)
        build = self._building[name] = _Build(epoch)
        build.task = self._tasks.begin(name, lambda: self._run(name, build, source, content))
        self._wake()

    def cancel(self, name: str) -> None:
        self._results.pop(name, None)
        build = self._building.pop(name, None)
        if build is not None and build.task is not None:
            build.task.cancel()
            self._wake()

    def release(self, name: str) -> None:
        self.cancel(name)
        self._kept.pop(name, None)
        self._tasks.begin(name, lambda: self._forget(name))
        self._wake()

    def seen(self) -> Mapping[str, SeenBuild]:
        under_way = {
            name: SeenBuild(build.epoch, BuildState.BUILDING, build.line)
            for name, build in self._building.items()
        }
        return {**self._kept, **self._results, **under_way}

    # --- one build ------------------------------------------------------------------------------

    async def _run(self, name: str, build: _Build, source: Source, content: bytes) -> None:
        try:
            async with self._slots:
                ended = self._meters.timed(Timed.BUILD)
                runner, volumes = await self._realise(name, build, source, content)
        except _FailedError as failed:
            self._meters.built(failed.code)
            reason = Reason(failed.code, build.explain(failed.headline))
            result = SeenBuild(build.epoch, BuildState.FAILED, build.line, reason=reason)
        else:
            self._meters.built("built")
            result = SeenBuild(build.epoch, BuildState.BUILT, build.line, runner, volumes=volumes)
            self._kept[name] = SeenBuild(0, BuildState.BUILT, runner=runner, volumes=volumes)
        ended()
        assert self._building[name] is build, "a build that was cancelled has ended by that"
        del self._building[name]
        self._results[name] = result
        self._wake()

    async def _realise(
        self, name: str, build: _Build, source: Source, content: bytes
    ) -> tuple[str, Volumes]:
        """The runner's store path and volumes, or `_FailedError` for whatever the world does."""
        try:
            async with (
                self._logged(name, build) as on_output,
                self._prepared(source, content) as (vm, installable, folder),
                self._asked(vm, folder) as asked,
            ):
                root = str(self._roots / name)
                finished = await self._nix.run(
                    ["build", installable, "-L", "--no-update-lock-file", "--out-link", root],
                    timeout_ms=self.timeout_ms,
                    directory=folder,
                    on_output=on_output,
                )
                volumes = await _told(asked) if finished.status == 0 else None
        except TimeoutError as late:
            headline = f"the build was ended after {self.timeout_ms // 1000} s"
            raise _FailedError("build-timeout", headline) from late
        except NixMissingError as missing:
            raise _FailedError("nix-missing", missing.message) from missing
        except BlixardError as unreadable:
            raise _FailedError("source-unreadable", unreadable.message) from unreadable
        except OSError as trouble:
            raise _FailedError("build-failed", f"this host could not build: {trouble}") from trouble
        if finished.lost_store:
            raise _FailedError("nix-lost", "the Nix daemon of this host refuses, or goes away")
        if finished.status != 0:
            raise _blame(source, "\n".join(build.lines))
        runner = await asyncio.to_thread(_checked_runner, self._roots / name)
        await asyncio.to_thread(nix_volumes.save, self._volumes / f"{name}.json", runner, volumes)
        return runner, volumes

    @contextlib.asynccontextmanager
    async def _asked(self, vm: str, folder: Path) -> AsyncIterator["asyncio.Task[Volumes]"]:
        """Asks for the volumes beside the build, while the folder is there."""
        asking = asyncio.create_task(nix_volumes.of(self._nix, vm, folder, self.timeout_ms))
        try:
            yield asking
        finally:
            asking.cancel()
            await asyncio.wait([asking])

    @contextlib.asynccontextmanager
    async def _logged(self, name: str, build: _Build) -> AsyncIterator[OnOutput]:
        """Keeps the log of one build. The disk may be slow, so it is written beside the loop."""
        path = self._logs / f"{name}.log"
        log = await asyncio.to_thread(RotatedFile, path, _LOG_LIMIT_BYTES)

        async def on_output(output: bytes) -> None:
            build.add(output)
            if self._line_wake is None:
                loop = asyncio.get_running_loop()
                self._line_wake = loop.call_later(_LINE_WAKE_S, self._wake_for_line)
            await asyncio.to_thread(log.write, output)

        try:
            yield on_output
        finally:
            log.close()

    def _wake_for_line(self) -> None:
        self._line_wake = None
        self._wake()

    @contextlib.asynccontextmanager
    async def _prepared(
        self, source: Source, content: bytes
    ) -> AsyncIterator[tuple[str, str, Path]]:
        """The VM's configuration (empty if there is none), what to build, and the folder to do so
        in."""
        match source:
            case FlakeSource():
                vm = f"{source.url}#{_output_path(source.attribute)}"
                yield vm, f"{vm}.{_RUNNER}", self._sources
            case StoreSource():
                if not _STORE_PATH.fullmatch(source.path):
                    raise BlixardError(f"'{source.path}' is no path in the Nix store")
                yield "", source.path, self._sources
            case PackedSource():
                folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._sources))
                try:
                    attribute = await asyncio.to_thread(_unpack_flake, folder, source, content)
                    # Relative: Nix 2.8 takes a path that needs escaping for a part of the URL.
                    vm = f"path:.#{_output_path(attribute)}"
                    yield vm, f"{vm}.{_RUNNER}", folder
                finally:
                    await asyncio.to_thread(shutil.rmtree, folder)

    # --- what lies on the disk ------------------------------------------------------------------

    def _find_kept(self) -> dict[str, SeenBuild]:
        for directory in (self._roots, self._logs, self._sources, self._volumes):
            directory.mkdir(parents=True, exist_ok=True)
        for scratch in sorted(self._sources.iterdir()):
            shutil.rmtree(scratch)
        kept = {log.stem: _LOG_ONLY for log in sorted(self._logs.glob("*.log"))}
        for root in sorted(self._roots.iterdir()):
            if root.exists():
                runner = str(root.readlink())
                volumes = nix_volumes.load(self._volumes / f"{root.name}.json", runner)
                kept[root.name] = SeenBuild(0, BuildState.BUILT, runner=runner, volumes=volumes)
            else:
                root.unlink()
        return kept

    async def _forget(self, name: str) -> None:
        files = (
            self._roots / name,
            self._logs / f"{name}.log",
            self._logs / f"{name}.log.1",
            self._volumes / f"{name}.json",
        )
        for path in files:
            with contextlib.suppress(
                OSError
            ):  # a later daemon finds it again, and releases it then
                await asyncio.to_thread(path.unlink, missing_ok=True)


def _output_path(attribute: str) -> str:
    return f'nixosConfigurations."{attribute}".config.microvm'


async def _told(asked: "asyncio.Task[Volumes]") -> Volumes:
    """The answer, if it comes: it is never waited for longer than a moment after the build."""
    done, _ = await asyncio.wait([asked], timeout=_VOLUMES_S)
    return asked.result() if done else None


def _unpack_flake(folder: Path, source: PackedSource, content: bytes) -> str:
    """Unpack a source, make a flake of it if it is a lone module, and return the attribute."""
    unpack(content, source.digest, folder)
    if (folder / "flake.nix").exists():
        return source.attribute
    if not (folder / "microvm.nix").exists():
        raise BlixardError("the packed source holds neither flake.nix nor microvm.nix")
    shutil.copytree(_WRAPPER, folder, dirs_exist_ok=True)
    return _WRAPPED_ATTRIBUTE


def _checked_runner(root: Path) -> str:
    """The runner behind a root; a root that leads to no runner is removed."""
    runner = root.readlink()
    program = runner / "bin" / "microvm-run"
    if program.is_file() and os.access(program, os.X_OK):
        return str(runner)
    root.unlink()
    raise _FailedError(
        "not-a-runner", f"{runner} is no runner: it has no executable bin/microvm-run"
    )


def _blame(source: Source, output: str) -> _FailedError:
    if isinstance(source, StoreSource):
        headline = f"this host does not have {source.path}, and could not fetch it"
        return _FailedError("source-unreadable", headline)
    if _BUILDER_FAILED.search(output):
        return _FailedError("build-failed", "the runner does not build")
    if _FETCH_FAILED.search(output):
        return _FailedError(
            "source-unreadable", "the source or an input of it could not be fetched"
        )
    return _FailedError("evaluation-failed", "the source does not evaluate to a runner")
