"""What may be in a packed source, and what is refused."""

import gzip
import io
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from blixard.drivers.archive import ArchiveError, unpack
from blixard.source import MAX_SOURCE_FILES, MAX_UNPACKED_BYTES
from drivers.flakes import pack

Fill = Callable[[tarfile.TarFile], None]


def archive(*fill: Fill) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT) as opened:
        for add in fill:
            add(opened)
    return packed.getvalue()


def file(name: str, text: str = "evil", mode: int = 0o644) -> Fill:
    def add(opened: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(text), mode
        opened.addfile(member, io.BytesIO(text.encode()))

    return add


def special(name: str, kind: bytes, linkname: str = "") -> Fill:
    def add(opened: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, linkname
        opened.addfile(member)

    return add


def link(name: str, target: str) -> Fill:
    return special(name, tarfile.SYMTYPE, target)


def unpacked(content: bytes, target: Path) -> None:
    target.mkdir()
    unpack(content, sha256(content).hexdigest(), target)


def test_files_folders_and_links_within_arrive(tmp_path: Path) -> None:
    content = archive(
        special(".", tarfile.DIRTYPE),
        file("./run", "#!/bin/sh", 0o4755),
        file("a/b/c.nix", "1"),
        link("a/link", "b/c.nix"),
        link("up", "a/../a/b"),
        special("same", tarfile.LNKTYPE, "a/b/c.nix"),
        special("pax\u00e4\u00f6\u00fc", tarfile.DIRTYPE),
    )
    target = tmp_path / "target"
    unpacked(content, target)
    assert (target / "run").stat().st_mode & 0o7777 == 0o755
    assert (target / "a/b/c.nix").stat().st_mode & 0o7777 == 0o644
    assert [(target / name).read_text() for name in ("a/link", "up/c.nix", "same")] == ["1"] * 3


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        ([file("../outside")], "is outside of it"),
        ([file("a/../../outside")], "is outside of it"),
        ([file("/outside")], "is outside of it"),
        ([link("out", "../outside")], "links out of it"),
        ([link("out", "/etc/passwd")], "links out of it"),
        ([link("here", "."), link("out", "here/here/../../outside")], "links out of it"),
        ([link("loop", "loop")], "links out of it"),
        ([link("out", ".."), file("out/outside")], "lies behind another member"),
        ([file("out/outside"), link("out", "..")], "lies behind another member"),
        ([file("plain"), file("plain/below")], "lies behind another member"),
        ([link("out", "../outside"), file("out")], "is in the packed source twice"),
        ([special("out", tarfile.LNKTYPE, "../../etc/passwd")], "cannot be unpacked"),
        ([link("out", "/etc/passwd"), special("copy", tarfile.LNKTYPE, "out")], "cannot be unp"),
        ([special("tty", tarfile.CHRTYPE)], "is a device or a pipe"),
        ([special("disk", tarfile.BLKTYPE)], "is a device or a pipe"),
        ([special("pipe", tarfile.FIFOTYPE)], "is a device or a pipe"),
        (
            [file(f"{n}", "") for n in range(MAX_SOURCE_FILES + 1)],
            f"more than {MAX_SOURCE_FILES} files",
        ),
        ([file("zeros", "\0" * (MAX_UNPACKED_BYTES + 1))], "unpacks to more than"),
        (
            [file("zeros", "\0" * (MAX_UNPACKED_BYTES // 2))]
            + [special(f"{n}", tarfile.LNKTYPE, "zeros") for n in range(2)],
            "unpacks to more than",
        ),
    ],
)
def test_an_attack_is_refused(tmp_path: Path, fill: list[Fill], words: str) -> None:
    before = Path("/etc/passwd").read_bytes()
    with pytest.raises(ArchiveError, match=words):
        unpacked(archive(*fill), tmp_path / "target")
    assert {path.name for path in tmp_path.iterdir()} == {"target"}, "nothing was written outside"
    assert Path("/etc/passwd").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cut short"),
        (b"no archive", "cannot be unpacked"),
        (gzip.compress(b"no archive"), "cannot be unpacked"),
        (pack({"a": "text"})[:-12], "cut short"),
        (gzip.compress(b"\0" * 64 * 1024 * 1024), "unpacks to more than"),
        (b"\0" * (256 * 1024 + 1), "is larger than"),
    ],
    ids=["empty", "text", "no-tar", "cut", "bomb", "large"],
)
def test_damage_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(ArchiveError, match=words):
        unpacked(content, tmp_path / "target")


def test_another_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="digest"):
        unpack(pack({"a": "text"}), sha256(b"").hexdigest(), tmp_path)
    assert list(tmp_path.iterdir()) == []
