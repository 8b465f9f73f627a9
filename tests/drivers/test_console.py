"""Output kept within bounds, and shown plainly."""

import time
from pathlib import Path

import pytest

from blixard.drivers.console import RotatedFile, end_of_file, plain, tail


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (b"\x1b[1;31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07text", "text"),
        (b"\x1b]8;;http://x\x1b\\link", "link"),
        (b"\x1bPq\x1b\\\x1b(Bplain\x1b7\x1bc", "plain"),
        (b"\x1b[2J\x1b[H\x1b[?25lboot\r\n", "boot\n"),
        (b" 10%\r 50%\r100%\n", "100%\n"),
        (b"a\tb\x00\x07\x7f\xc2\x9b", "a\tb"),
        (b"caf\xc3\xa9 \xff", "caf\u00e9 \ufffd"),
    ],
)
def test_escape_codes_and_controls_are_left_out(output: bytes, text: str) -> None:
    assert plain(output) == text


@pytest.mark.parametrize("begun", [b"\x1bP", b"\x1b]", b"\x1b[", b"\x1b_x", b"\r\x1b^"])
def test_no_output_takes_long_to_be_made_plain(begun: bytes) -> None:
    began_s = time.thread_time()
    plain(begun * 16_000)
    assert time.thread_time() - began_s < 0.5, "it is quick, not quadratic"


def test_the_tail_is_bounded_in_lines_and_bytes() -> None:
    assert tail(["a", "", "b ", "c"], 2, 100) == "b\nc"
    assert tail(["\u00e9" * 10], 2, 5) == "\u00e9\u00e9", "no character is cut"


def test_a_file_is_rotated_and_begun_anew(tmp_path: Path) -> None:
    path, rotated = tmp_path / "log", tmp_path / "log.1"
    path.write_text("earlier")
    log = RotatedFile(path, 10)
    assert rotated.read_text() == "earlier"
    for _ in range(3):
        log.write(b"12345")
    assert (path.read_bytes(), rotated.read_bytes()) == (b"12345", b"1234512345")
    log.close()


def test_a_full_disk_stops_no_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    log = RotatedFile.__new__(RotatedFile)
    log._path, log._limit_bytes, log._size_bytes = path, 100, 0
    log._file = path.open("ab", buffering=0)
    log.write(b"lost")
    assert log._size_bytes == 0
    log.close()


def test_the_end_of_a_file(tmp_path: Path) -> None:
    assert end_of_file(tmp_path / "none", 3) == b""
    (tmp_path / "some").write_bytes(b"12345")
    assert end_of_file(tmp_path / "some", 3) == b"345"
    assert end_of_file(tmp_path / "some", 30) == b"12345"
