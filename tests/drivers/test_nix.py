"""Builds with the real Nix, each in a fraction of a second."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from blixard.drivers.nix import NixBuilder
from blixard.drivers.nix_command import NixCommand
from blixard.ports import BuildState, SeenBuild
from blixard.source import FlakeSource, PackedSource, Source, StoreSource
from drivers.flakes import (
    OFFLINE,
    RUNNER,
    flake,
    flake_source,
    offline_nix,
    pack,
    packed_source,
)
from drivers.processes import alive_with, wait_until, wait_until_gone
from drivers.watch import Watch


async def result(builder: NixBuilder, watch: Watch, name: str = "web") -> SeenBuild:
    """What became of the build that is under way."""
    seen = builder.seen
    await watch.until(lambda: seen()[name].state is not BuildState.BUILDING, timeout_s=30)
    return seen()[name]


async def build(
    directory: Path, source: Source, content: bytes = b"", nix: NixCommand | None = None
) -> SeenBuild:
    """Build once, in a builder of its own."""
    watch = Watch()
    builder = NixBuilder(directory, nix or offline_nix(), wake=watch)
    await builder.open()
    builder.begin("web", 7, source, content)
    assert builder.seen()["web"] == SeenBuild(7, BuildState.BUILDING)
    try:
        return await result(builder, watch)
    finally:
        await builder.close()


def failure(seen: SeenBuild) -> tuple[str, str]:
    assert seen.state is BuildState.FAILED
    assert seen.runner is None
    assert seen.reason is not None
    assert len(seen.reason.text.encode()) <= 4096
    return seen.reason.code, seen.reason.text


# --- what succeeds ------------------------------------------------------------------------------


async def test_a_flake_becomes_a_runner_that_is_kept(tmp_path: Path) -> None:
    source = flake_source(tmp_path / "flake", flake(f"echo hello; {RUNNER}"))
    seen = await build(tmp_path / "nix", source)
    assert (seen.epoch, seen.state, seen.reason) == (7, BuildState.BUILT, None)
    assert seen.runner is not None
    assert os.access(f"{seen.runner}/bin/microvm-run", os.X_OK)
    assert (tmp_path / "nix/roots/web").readlink() == Path(seen.runner)
    roots = Path("/nix/var/nix/gcroots/auto").iterdir()
    assert tmp_path / "nix/roots/web" in {root.readlink() for root in roots}


async def test_a_folder_that_travelled_is_built_and_then_removed(tmp_path: Path) -> None:
    content = pack({"flake.nix": flake(RUNNER), "notes/readme": "hello"})
    directory = tmp_path / "a folder # with 100% odd ? characters"
    seen = await build(directory, packed_source(content), content)
    assert seen.state is BuildState.BUILT
    assert list((directory / "sources").iterdir()) == []


async def test_a_lone_module_is_wrapped_into_a_flake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wrapper that is shipped needs nixpkgs; this one shows where it and the module meet."""
    wrapper = tmp_path / "wrapper"
    text = flake(f"{RUNNER}; cp ${{./microvm.nix}} $out/module", attribute="vm")
    flake_source(wrapper, text)
    monkeypatch.setattr("blixard.drivers.nix._WRAPPER", wrapper)
    content = pack({"microvm.nix": "{ microvm.vcpu = 2; }"})
    seen = await build(tmp_path / "nix", packed_source(content), content)
    assert seen.runner is not None
    assert Path(seen.runner, "module").read_text() == "{ microvm.vcpu = 2; }"


async def test_a_runner_in_the_store_is_taken_as_it_is(tmp_path: Path) -> None:
    built = await build(tmp_path / "a", flake_source(tmp_path / "flake", flake(RUNNER)))
    assert built.runner is not None
    seen = await build(tmp_path / "b", StoreSource(built.runner))
    assert (seen.state, seen.runner) == (BuildState.BUILT, built.runner)


async def test_the_last_line_is_shown_while_it_builds(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    script = f"printf 'one\\n\\033[1;31mtwo\\033[0m\\n\\n'; read line < {gate}; {RUNNER}"
    watch = Watch()
    builder = NixBuilder(tmp_path / "nix", offline_nix(), wake=watch)
    await builder.open()
    builder.begin("web", 7, flake_source(tmp_path / "flake", flake(script)), b"")
    await watch.until(lambda: builder.seen()["web"].line == "runner> two")
    gate.write_text("go\n")
    assert (await result(builder, watch)).state is BuildState.BUILT
    await builder.close()
    assert b"one" in (tmp_path / "nix/logs/web.log").read_bytes()


# --- what fails ---------------------------------------------------------------------------------


async def test_a_builder_that_fails(tmp_path: Path) -> None:
    noise = "for i in $(seq 300); do echo noise $i; done"
    source = flake_source(tmp_path / "flake", flake(f"{noise}; echo disk on fire; exit 3"))
    seen = await build(tmp_path / "nix", source)
    code, text = failure(seen)
    assert code == "build-failed"
    assert text.startswith("the runner does not build\n")
    assert "disk on fire" in text
    assert "failed with exit code 3" in text
    assert len(text.splitlines()) <= 21
    assert seen.line.startswith("error: builder for '/nix/store/")
    log = (tmp_path / "nix/logs/web.log").read_text()
    assert "noise 1\n" in log
    assert "noise 300\n" in log


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (flake(RUNNER, attribute="other"), "does not provide attribute"),
        ("{ outputs = { self }: ; }", "syntax error"),
        ("{ outputs = { self }: { nixosConfigurations = throw ''not today''; }; }", "not today"),
    ],
    ids=["unknown-attribute", "syntax", "throw"],
)
async def test_a_flake_that_does_not_evaluate(tmp_path: Path, text: str, words: str) -> None:
    code, told = failure(await build(tmp_path / "nix", flake_source(tmp_path / "flake", text)))
    assert code == "evaluation-failed"
    assert words in told


async def test_inputs_that_are_not_locked_are_refused(tmp_path: Path) -> None:
    """Each host would choose its own, and a failover could start different software."""
    flake_source(tmp_path / "input", "{ outputs = { self }: { }; }")
    text = flake(RUNNER).replace("{ self }", "{ self, input }", 1)
    text = text.replace("{", f'{{ inputs.input.url = "path:{tmp_path}/input";', 1)
    source = flake_source(tmp_path / "flake", text)
    code, told = failure(await build(tmp_path / "nix", source))
    assert code == "evaluation-failed"
    assert "requires lock file changes" in told


@pytest.mark.parametrize(
    "script",
    ["mkdir $out", "mkdir -p $out/bin; echo > $out/bin/microvm-run", "echo > $out"],
    ids=["nothing", "not-executable", "a-file"],
)
async def test_what_is_built_is_no_runner(tmp_path: Path, script: str) -> None:
    source = flake_source(tmp_path / "flake", flake(script))
    code, text = failure(await build(tmp_path / "nix", source))
    assert code == "not-a-runner"
    assert "bin/microvm-run" in text
    assert not (tmp_path / "nix/roots/web").is_symlink()


MISSING = "/nix/store/00000000000000000000000000000000-runner"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (FlakeSource("path:/nowhere", "web", ""), "could not be fetched"),
        (StoreSource(MISSING), f"does not have {MISSING}"),
        (StoreSource("/etc/passwd"), "is no path in the Nix store"),
        (StoreSource(f"{MISSING}/../../../etc"), "is no path in the Nix store"),
        (StoreSource("--help"), "is no path in the Nix store"),
        (PackedSource("0" * 64, "web"), "does not have the digest"),
    ],
    ids=["flake", "store", "outside", "traversal", "option", "damaged"],
)
async def test_a_source_that_cannot_be_read(tmp_path: Path, source: Source, words: str) -> None:
    code, text = failure(await build(tmp_path / "nix", source, b"damaged"))
    assert code == "source-unreadable"
    assert words in text


async def test_an_archive_without_a_flake_or_a_module(tmp_path: Path) -> None:
    content = pack({"readme": "hello"})
    seen = await build(tmp_path / "nix", packed_source(content), content)
    assert failure(seen) == (
        "source-unreadable",
        "the packed source holds neither flake.nix nor microvm.nix",
    )
    assert list((tmp_path / "nix/sources").iterdir()) == []


async def test_a_host_without_nix(tmp_path: Path) -> None:
    nix = NixCommand(binary="nix-of-another-world")
    code, text = failure(await build(tmp_path / "nix", StoreSource(MISSING), nix=nix))
    assert code == "nix-missing"
    assert "nix-of-another-world" in text


async def test_a_store_whose_daemon_stays_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blixard.drivers.nix_command._PAUSES_S", (0, 0))
    monkeypatch.setenv("NIX_REMOTE", f"unix://{tmp_path}/nobody")
    source = flake_source(tmp_path / "flake", flake(RUNNER))
    code, text = failure(await build(tmp_path / "nix", source))
    assert code == "nix-lost"
    assert text.count("cannot connect to socket") == 3, text


# --- what is ended ------------------------------------------------------------------------------


def endless(mark: Path) -> str:
    """A builder that ignores SIGTERM, with a child."""
    return (
        f"trap : TERM; tail -f {mark} >/dev/null 2>&1 & echo $! > {mark}; while :; do sleep 1; done"
    )


async def test_a_cancelled_build_leaves_no_process(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    watch = Watch()
    builder = NixBuilder(tmp_path / "nix", offline_nix(), wake=watch)
    await builder.open()
    builder.begin("web", 7, flake_source(tmp_path / "flake", flake(endless(mark))), b"")
    await wait_until(lambda: mark.exists() and mark.read_text().strip())
    builder.cancel("web")
    assert builder.seen()["web"].epoch == 0, "only the log is left"
    await builder.close()
    await wait_until_gone(str(mark))


async def test_a_build_that_takes_too_long(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    watch = Watch()
    builder = NixBuilder(tmp_path / "nix", offline_nix(), wake=watch, timeout_ms=1_000)
    await builder.open()
    builder.begin("web", 7, flake_source(tmp_path / "flake", flake(endless(mark))), b"")
    code, text = failure(await result(builder, watch))
    assert (code, text.splitlines()[0]) == ("build-timeout", "the build was ended after 1 s")
    await wait_until_gone(str(mark))
    await builder.close()


async def test_another_placement_ends_the_build_before_it_begins(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    watch = Watch()
    builder = NixBuilder(tmp_path / "nix", offline_nix(), wake=watch)
    await builder.open()
    builder.begin("web", 7, flake_source(tmp_path / "endless", flake(endless(mark))), b"")
    await wait_until(lambda: mark.exists() and mark.read_text().strip())
    script = f"[ ! -e /proc/$(cat {mark})/exe ] || exit 1; {RUNNER}"
    builder.begin("web", 9, flake_source(tmp_path / "flake", flake(script)), b"")
    seen = await result(builder, watch)
    assert (seen.epoch, seen.state) == (9, BuildState.BUILT), seen.reason
    await builder.close()


async def test_a_daemon_that_is_killed_takes_its_build_along(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    flake_source(tmp_path / "flake", flake(endless(mark)))
    daemon = tmp_path / "daemon.py"
    daemon.write_text(f"""
import asyncio
from blixard.drivers.nix_command import NixCommand
from pathlib import Path

arguments = ["build", "--no-link", 'path:.#nixosConfigurations.web.config.microvm.declaredRunner']
nix = NixCommand(options={OFFLINE})
asyncio.run(nix.run(arguments, timeout_ms=60_000, directory=Path("{tmp_path}/flake")))
""")
    pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, str(daemon)])
    await wait_until(lambda: mark.exists() and mark.read_text().strip())
    assert alive_with(str(mark))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    await wait_until_gone(str(mark))


# --- what it writes to --------------------------------------------------------------------------

VOLUMES = '[ { image = "var.img"; size = 64; } { image = "/shared/db.img"; } ]'


@pytest.mark.parametrize(
    ("told", "volumes"),
    [
        (VOLUMES, ("var.img", "/shared/db.img")),
        ("[ ]", ()),
        (None, None),
        ("[ { } ]", None),
        ('throw "no answer"', None),
        ("[ { image = 1; } ]", None),
    ],
)
async def test_volumes_are_told_or_not_known(
    tmp_path: Path, told: str | None, volumes: tuple[str, ...] | None
) -> None:
    directory = tmp_path / "nix"
    source = flake_source(tmp_path / "flake", flake(RUNNER, volumes=told))
    built = await build(directory, source)
    assert (built.state, built.volumes) == (BuildState.BUILT, volumes)
    again = NixBuilder(directory, offline_nix(), wake=Watch())
    await again.open()
    assert again.seen()["web"].volumes == volumes, "it is remembered with the runner"
    await again.close()


async def test_volumes_of_a_folder_that_travelled(tmp_path: Path) -> None:
    content = pack({"flake.nix": flake(RUNNER, volumes=VOLUMES)})
    seen = await build(tmp_path / "a folder", packed_source(content), content)
    assert seen.volumes == ("var.img", "/shared/db.img")


async def test_a_question_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blixard.drivers.nix._VOLUMES_S", 0.1)
    mark = tmp_path / "asked"
    nix = tmp_path / "nix-that-hangs"
    nix.write_text(
        f"#!/bin/sh\ncase \"$*\" in *' eval '*) touch {mark}; exec sleep 600;; esac\n"
        'exec nix "$@"\n'
    )
    nix.chmod(0o755)
    source = flake_source(tmp_path / "flake", flake(RUNNER, volumes="[ ]"))
    seen = await build(tmp_path / "nix", source, nix=NixCommand(str(nix), OFFLINE))
    assert (seen.state, seen.volumes) == (BuildState.BUILT, None)
    assert mark.exists()


# --- what stays ---------------------------------------------------------------------------------


@pytest.fixture
def logged(tmp_path: Path) -> Callable[[], set[str]]:
    return lambda: {path.name for path in (tmp_path / "nix/logs").iterdir()}


async def test_runners_and_logs_are_found_again_and_released(
    tmp_path: Path, logged: Callable[[], set[str]]
) -> None:
    directory = tmp_path / "nix"
    built = await build(directory, flake_source(tmp_path / "flake", flake(RUNNER)))
    (directory / "logs/lost.log").write_text("it failed")
    (directory / "roots/gone").symlink_to(MISSING)
    (directory / "sources/half").mkdir()
    watch = Watch()
    builder = NixBuilder(directory, offline_nix(), wake=watch)
    await builder.open()
    seen = dict(builder.seen())
    assert seen.pop("web") == SeenBuild(0, BuildState.BUILT, runner=built.runner)
    assert (seen["lost"].epoch, seen["lost"].state) == (0, BuildState.FAILED)
    assert sorted(seen) == ["lost"]
    assert list((directory / "sources").iterdir()) == []
    builder.release("web")
    builder.release("lost")
    assert builder.seen() == {}
    await wait_until(lambda: logged() == set() and not (directory / "roots/web").is_symlink())
    await builder.close()


async def test_a_failure_keeps_the_runner_of_the_placement_before(tmp_path: Path) -> None:
    """It may be running."""
    directory = tmp_path / "nix"
    built = await build(directory, flake_source(tmp_path / "good", flake(RUNNER)))
    failure(await build(directory, flake_source(tmp_path / "bad", flake("exit 1"))))
    assert str((directory / "roots/web").readlink()) == built.runner
