"""What shares a guest's serial port holds up neither the guest nor anybody else."""

import contextlib
import os
import selectors
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blixard.drivers.console import RotatedFile
from blixard.drivers.console_hub import ConsoleHub
from blixard.drivers.console_lines import FollowedFile

TURNS = 1_000


class Desk:
    """A hub, served as its guard serves it, and its clients."""

    def __init__(self, folder: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.path = str(folder / "console.sock")
        self.hub = ConsoleHub(self.selector, self.path)
        os.set_blocking(self.hub.stdin, False)
        self.clients: list[socket.socket] = []

    def close(self) -> None:
        """As the end of the guard does."""
        for client in self.clients:
            client.close()
        self.until(lambda: self.turn() == 0)
        for key in list(self.selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self.selector.close()

    def client(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.path)
        client.setblocking(False)
        self.clients.append(client)
        self.turn()
        return client

    def turn(self) -> int:
        """Serve what is ready; returns how much that was."""
        ready = self.selector.select(0)
        for key, _ in ready:
            key.data(key.fileobj)
        return len(ready)

    def until(self, holds: Callable[[], bool]) -> None:
        for _ in range(TURNS):
            if holds():
                return
            self.turn()
        raise AssertionError("it does not come to it")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def test_who_comes_late_sees_what_was_said_last(desk: Desk) -> None:
    desk.hub.show(b"x" * 10_000 + b"login: ")
    seen = desk.client().recv(65_536)
    assert len(seen) == 8_192
    assert seen.endswith(b"login: ")


def test_who_reads_nothing_holds_nobody_up(desk: Desk) -> None:
    idle, reader = desk.client(), desk.client()
    for number in range(2_000):
        desk.hub.show(b"%07d\n" % number * 128)
        assert reader.recv(65_536) == b"%07d\n" % number * 128
    idle.close()
    desk.until(lambda: desk.turn() == 0)
    desk.hub.show(b"more")
    assert reader.recv(100) == b"more"


def test_who_types_faster_than_the_guest_reads_waits_and_loses_nothing(desk: Desk) -> None:
    client = desk.client()
    text = b"".join(b"%07d\n" % number for number in range(100_000))
    sent, heard = 0, b""

    def send() -> bool:
        nonlocal sent
        try:
            sent += client.send(text[sent : sent + 65_536])
        except BlockingIOError:
            return desk.turn() == 0
        return sent == len(text)

    desk.until(send)
    assert sent < len(text), "it has to wait"
    while len(heard) < len(text):
        heard += os.read(desk.hub.stdin, 65_536)
        desk.turn()
        if sent < len(text):
            desk.until(send)
    assert heard == text


def test_a_fifth_client_is_turned_away(desk: Desk) -> None:
    clients = [desk.client() for _ in range(5)]
    assert clients[4].recv(1) == b""
    clients[0].close()
    desk.until(lambda: desk.turn() == 0)
    with pytest.raises(BlockingIOError):
        desk.client().recv(1)


def test_a_file_is_followed_into_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    written = RotatedFile(path, 100)
    followed = FollowedFile(path)
    written.write(b"".join(b"%03d\n" % number for number in range(30)))
    assert followed.last(3) == [b"027", b"028", b"029"]
    seen: list[bytes] = []
    for number in range(30, 300):
        written.write(b"%03d\n" % number)
        while (lines := followed.more()) is not None:
            seen += lines
    assert [int(line) for line in seen] == list(range(30, 300))
    anew = FollowedFile(path)
    assert anew.last(1_000)[-30:] == [b"%03d" % n for n in range(270, 300)]
    anew.close()
    written.write(b"login: ")
    assert followed.more() == []
    assert followed.end() == [b"login: "]
    followed.close()
    written.close()


def test_who_leaves_while_the_guest_writes_ends_nothing(desk: Desk) -> None:
    leaving, staying = desk.client(), desk.client()
    leaving.close()
    ready = desk.selector.select(0)
    assert len(ready) == 1
    desk.hub.show(b"more")
    for key, _ in ready:
        key.data(key.fileobj)
    assert staying.recv(100) == b"more"


def test_who_leaves_a_guest_that_reads_nothing_makes_room(desk: Desk) -> None:
    for _ in range(6):
        client = desk.client()
        with contextlib.suppress(BlockingIOError):
            while True:
                client.send(bytes(65_536))
                desk.turn()
        client.close()
        desk.until(lambda: desk.turn() == 0)
    with pytest.raises(BlockingIOError):
        desk.client().recv(1)
    with contextlib.suppress(BlockingIOError):
        while os.read(desk.hub.stdin, 65_536):
            desk.turn()


def test_no_line_is_longer_than_it_may_be(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"x" * 100_000 + b"\nshort\n\n" + b"y" * 200_000)
    followed = FollowedFile(path)
    sizes = [len(line) for line in followed.last(10)]
    followed.close()
    assert sizes == [65_536, 34_464, 5, 0, 65_536, 65_536, 65_536, 3_392]
