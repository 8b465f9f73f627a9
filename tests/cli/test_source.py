"""What `--config` may name, what of it travels, and that its bytes depend on its content alone."""

import gzip
import os
import socket
import subprocess
import tarfile
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest

from blixard.cli import pack
from blixard.cli.failure import Failure
from blixard.cli.pack import pack_file, pack_folder
from blixard.cli.source import complete
from blixard.cli.terminal import Options
from blixard.drivers.archive import unpack
from blixard.errors import Code
from blixard.v1 import blixard_pb2 as pb

STORE = f"/nix/store/{'a' * 32}-microvm-web"


def named(what: str) -> pb.CreateVmRequest:
    return completed("web", what)


def completed(name: str, what: str) -> pb.CreateVmRequest:
    request = pb.CreateVmRequest(name=name, vcpus=1, memory_mib=512)
    complete(request, what, Options())
    return request


def refused(what: str) -> Failure:
    with pytest.raises(Failure) as caught:
        named(what)
    return caught.value


def members(content: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=BytesIO(content)) as archive:
        return {member.name: member for member in archive.getmembers()}


@pytest.fixture
def flake(tmp_path: Path) -> Path:
    """A folder with a flake, as people have them."""
    root = tmp_path / "infra"
    (root / "modules").mkdir(parents=True)
    (root / "flake.nix").write_text("{ outputs = _: { }; }\n")
    (root / "modules" / "web.nix").write_text("{ }\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o700)
    (root / "current").symlink_to("modules/web.nix")
    (root / ".git").mkdir()
    (root / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (root / "result").symlink_to(STORE)
    (root / "result-doc").symlink_to(STORE)
    return root


# --- references ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "url", "attribute"),
    [
        ("github:me/infra#server", "github:me/infra", "server"),
        ("github:me/infra", "github:me/infra", "web"),
        ("git+https://host/repo?ref=main#x", "git+https://host/repo?ref=main", "x"),
        ("nixpkgs:x#y", "nixpkgs:x", "y"),
    ],
)
def test_a_flake_reference_is_sent_as_it_is(what: str, url: str, attribute: str) -> None:
    request = named(what)
    assert (request.flake.url, request.flake.attribute) == (url, attribute)


@pytest.mark.parametrize(
    "what",
    [
        "-foo",
        "--help#x",
        "-",
        "github:a;reboot",
        "github:a b",
        "github:a/$(id)",
        "github:a`id`",
        "github:a|b",
        "github:a\nb",
        "github:a/b#x;y",
        "github:a/b#-x",
        "foo;reboot",
        "no-such-file.nix",
        "./nowhere#web",
        "path:./nowhere",
        "/nix/store/abc",
        f"{STORE}/bin/microvm-run",
        f"{STORE};x",
    ],
)
def test_what_could_be_taken_for_something_else_is_refused(what: str) -> None:
    failed = refused(what)
    assert failed.rejected.code is Code.BAD_ARGUMENT
    assert failed.rejected.fixes


@pytest.mark.parametrize(
    "name", ["", "Web", "-web", "web-", "a.b", "a_b", "ä", "a" * 64, "a b", "a\n"]
)
def test_a_name_is_a_dns_label(name: str) -> None:
    with pytest.raises(Failure) as caught:
        completed(name, STORE)
    assert caught.value.rejected.code is Code.BAD_ARGUMENT


@pytest.mark.parametrize("name", ["a", "7", "a" * 63, "web-1", "a--b"])
def test_dns_labels_are_names(name: str) -> None:
    assert completed(name, STORE).name == name


def test_a_runner_is_named_by_its_store_path_or_a_link_to_it(flake: Path) -> None:
    assert named(STORE).store.path == STORE
    assert named(f"{STORE}/").store.path == STORE
    assert named(str(flake / "result")).store.path == STORE


# --- what is packed -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{}", "{}#web", "path:{}", "{}/"])
def test_a_folder_travels_with_its_files_and_links(flake: Path, form: str) -> None:
    request = named(form.format(flake))
    assert request.packed.attribute == "web"
    found = members(request.packed.content)
    assert list(found) == ["current", "flake.nix", "modules", "modules/web.nix", "run.sh"]
    assert found["current"].linkname == "modules/web.nix"
    assert {name: oct(member.mode) for name, member in found.items()} == {
        "current": "0o777",
        "flake.nix": "0o644",
        "modules": "0o755",
        "modules/web.nix": "0o644",
        "run.sh": "0o755",
    }


def test_a_name_may_be_given_to_a_folder(flake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert named(f"{flake}#server").packed.attribute == "server"
    monkeypatch.chdir(flake)
    assert named(".#server").packed == named(f"{flake}#server").packed
    assert refused(f"{flake}#a b").rejected.code is Code.BAD_ARGUMENT


def test_a_module_travels_alone_under_its_usual_name(tmp_path: Path) -> None:
    module = tmp_path / "web.nix"
    module.write_text("{ }\n")
    (tmp_path / "secret").write_text("secret")
    request = named(str(module))
    assert list(members(request.packed.content)) == ["microvm.nix"]
    (tmp_path / "link.nix").symlink_to(module)
    assert named(str(tmp_path / "link.nix")).packed == request.packed


def test_a_folder_with_a_module_is_enough(tmp_path: Path) -> None:
    (tmp_path / "microvm.nix").write_text("{ }\n")
    assert named(str(tmp_path)).packed.attribute == "web"


def test_what_is_no_source_says_what_one_needs(tmp_path: Path) -> None:
    assert "flake.nix or a microvm.nix" in refused(str(tmp_path)).rejected.why
    (tmp_path / "web.txt").write_text("")
    assert "NAME.nix" in refused(str(tmp_path / "web.txt")).rejected.why


def test_what_is_packed_is_what_is_unpacked(flake: Path, tmp_path: Path) -> None:
    """The builder takes what the command line packs, and finds the same."""
    content = pack_folder(flake).content
    target = tmp_path / "unpacked"
    target.mkdir()
    unpack(content, sha256(content).hexdigest(), target)
    assert (target / "current").read_text() == "{ }\n"
    assert os.access(target / "run.sh", os.X_OK)


# --- the same bytes -----------------------------------------------------------------------------


def test_the_bytes_depend_on_the_content_alone(flake: Path, tmp_path: Path) -> None:
    content = pack_folder(flake).content
    copy = tmp_path / "copy"
    names = sorted(str(path.relative_to(flake)) for path in flake.rglob("*"))
    copy.mkdir(0o700)
    for name in reversed(names):
        path, source = copy / name, flake / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            path.symlink_to(source.readlink())
        elif source.is_file():
            path.write_bytes(source.read_bytes())
            path.chmod(0o755 if os.access(source, os.X_OK) and name == "run.sh" else 0o600)
            os.utime(path, (1, 1))
            os.chown(path, 1234, 1234)
    assert pack_folder(copy).content == content
    (copy / "flake.nix").write_text("{ outputs = _: { x = 1; }; }\n")
    assert pack_folder(copy).content != content


def test_nothing_of_the_machine_is_in_the_bytes(flake: Path) -> None:
    content = pack_folder(flake).content
    for member in members(content).values():
        owner = (member.uid, member.gid, member.uname, member.gname)
        assert (member.mtime, *owner, member.pax_headers) == (0, 0, 0, "", "", {})
    assert content[4:8] == b"\0\0\0\0"  # gzip's own time stamp (RFC 1952, section 2.3)
    assert str(flake).encode() not in gzip.decompress(content)


# --- attacks ------------------------------------------------------------------------------------


def pipe(root: Path) -> None:
    os.mkfifo(root / "pipe")


def listener(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "s"))


def absolute(root: Path) -> None:
    (root / "passwd").symlink_to("/etc/passwd")


def upwards(root: Path) -> None:
    (root / "modules" / "out").symlink_to("../../secret")


def in_and_out(root: Path) -> None:
    """A link that stays inside by its words, and leaves by way of another."""
    (root / "here").symlink_to(".")
    (root / "out").symlink_to("here/../secret")


def out_and_in(root: Path) -> None:
    (root / "round").symlink_to(f"../{root.name}/flake.nix")


def disguised(root: Path) -> None:
    """Named like the result of a build, and no link into the store."""
    (root / "result-fake").symlink_to("/etc")


@pytest.mark.parametrize(
    "attack", [pipe, listener, absolute, upwards, in_and_out, out_and_in, disguised]
)
def test_only_what_lies_within_travels(flake: Path, attack: Callable[[Path], None]) -> None:
    (flake.parent / "secret").write_text("secret")
    attack(flake)
    failed = refused(str(flake))
    assert failed.rejected.code is Code.BAD_ARGUMENT
    assert "cannot be packed" in failed.rejected.message


def test_a_file_that_nobody_may_read_is_named(flake: Path) -> None:
    """Root reads everything, so the packing is left to somebody else."""
    flake.chmod(0o755)
    for parent in (flake.parent, flake.parent.parent, flake.parent.parent.parent):
        parent.chmod(0o755)
    (flake / "flake.nix").chmod(0o000)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        failed = refused(str(flake))
    finally:
        os.seteuid(0)
        os.setegid(0)
    assert "flake.nix" in failed.rejected.message
    assert failed.rejected.why == "Permission denied"


def test_what_is_too_large_names_the_way_out(flake: Path) -> None:
    (flake / "image.raw").write_bytes(os.urandom(300 * 1024))
    failed = refused(str(flake))
    assert failed.rejected.code is Code.SOURCE_TOO_LARGE
    assert "301 KiB packed; 256 KiB may travel" in failed.rejected.message
    assert "--config git+https://HOST/REPOSITORY#NAME" in [f.command for f in failed.rejected.fixes]


def test_a_huge_folder_is_given_up_early(flake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "MAX_SOURCE_FILES", 3)
    assert "more than 3 files" in refused(str(flake)).rejected.message
    monkeypatch.setattr(pack, "MAX_SOURCE_FILES", 100)
    monkeypatch.setattr(pack, "MAX_UNPACKED_BYTES", 1024 * 1024)
    with (flake / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 40)
    assert "sparse alone" in refused(str(flake)).rejected.message


def test_256_kib_may_travel(tmp_path: Path) -> None:
    module = tmp_path / "microvm.nix"
    module.write_bytes(os.urandom(255 * 1024))
    assert len(pack_file(module).content) <= 256 * 1024


def test_a_repository_of_git_is_packed_without_its_history(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "flake.nix").write_text("{ }\n")
    assert list(members(pack_folder(tmp_path).content)) == ["flake.nix"]
