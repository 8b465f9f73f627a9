"""Pinning references with the real Nix."""

import subprocess
from pathlib import Path

import pytest

from blixard.drivers.flake_lock import NixLocker, pinned
from blixard.errors import BlixardError, Code
from drivers.flakes import RUNNER, flake, flake_source, offline_nix


def repository(folder: Path) -> str:
    flake_source(folder, flake(RUNNER))
    for command in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "one"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    ended = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    )
    return ended.stdout.strip()


async def test_a_repository_is_pinned_to_its_revision(tmp_path: Path) -> None:
    revision = repository(tmp_path / "flake")
    locked = await NixLocker(offline_nix()).lock(f"git+file://{tmp_path}/flake", "web")
    assert locked.url.startswith(f"git+file://{tmp_path}/flake?")
    assert f"rev={revision}" in locked.url
    assert locked.nar_hash.startswith("sha256-")
    assert locked.attribute == "web"


async def test_a_folder_is_pinned_to_its_content(tmp_path: Path) -> None:
    source = flake_source(tmp_path / "flake", flake(RUNNER))
    locker = NixLocker(offline_nix())
    before = await locker.lock(source.url, "web")
    assert "narHash=" in before.url
    (tmp_path / "flake/more").write_text("more")
    after = await locker.lock(source.url, "web")
    assert before.nar_hash != after.nar_hash


def test_a_tarball_gets_its_content_hash_and_a_git_repository_does_not() -> None:
    nar_hash = "sha256-4UFJOVGpaYtHW5yasSv80MaJxTBYdk2zyf3jhKtt0wA="
    github = {"type": "github", "narHash": nar_hash}
    quoted = "sha256-4UFJOVGpaYtHW5yasSv80MaJxTBYdk2zyf3jhKtt0wA%3D"
    assert pinned("github:me/infra/abc", github) == f"github:me/infra/abc?narHash={quoted}"
    assert pinned("github:me/infra/abc?dir=a", github).endswith(f"?dir=a&narHash={quoted}")
    url = "git+https://host/repo?rev=abc"
    assert pinned(url, {"type": "git", "rev": "abc", "narHash": nar_hash}) == url


async def test_changes_that_are_not_committed_are_refused(tmp_path: Path) -> None:
    repository(tmp_path / "flake")
    (tmp_path / "flake/flake.nix").write_text("{ outputs = { self }: { }; }")
    with pytest.raises(BlixardError, match="not committed") as refused:
        await NixLocker(offline_nix()).lock(f"git+file://{tmp_path}/flake", "web")
    assert refused.value.code is Code.SOURCE_UNREADABLE
    assert "commit" in refused.value.remedy


async def test_what_cannot_be_fetched_is_told_in_the_words_of_nix(tmp_path: Path) -> None:
    with pytest.raises(BlixardError, match="getting status of") as refused:
        await NixLocker(offline_nix()).lock(f"path:{tmp_path}/nowhere", "web")
    assert refused.value.code is Code.SOURCE_UNREADABLE
    assert not refused.value.message.startswith("error")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "-",
        "--help",
        "a b",
        "a;b",
        "a$(b)",
        "a`b`",
        "a'b",
        'a"b',
        "a|b",
        "a\nb",
        "a#b",
        ".",
        "./a",
    ],
)
async def test_what_is_no_reference_never_reaches_nix(url: str) -> None:
    with pytest.raises(BlixardError, match="is no flake reference") as refused:
        await NixLocker(offline_nix()).lock(url, "web")
    assert refused.value.code is Code.BAD_ARGUMENT


@pytest.mark.parametrize("attribute", ["", "-web", 'we"b', "we b", "web#", "${web}", "../web"])
async def test_what_is_no_attribute_never_reaches_nix(attribute: str) -> None:
    with pytest.raises(BlixardError, match="is no name under") as refused:
        await NixLocker(offline_nix()).lock("github:me/infra", attribute)
    assert refused.value.code is Code.BAD_ARGUMENT


async def test_a_source_that_does_not_answer(tmp_path: Path) -> None:
    locker = NixLocker(offline_nix(), timeout_ms=1)
    with pytest.raises(BlixardError, match="did not answer within") as refused:
        await locker.lock(f"path:{tmp_path}", "web")
    assert refused.value.code is Code.SOURCE_UNREADABLE
