"""The daemon's end of a console."""

import asyncio
import select
import socket
from pathlib import Path

from blixard.drivers import console_socket


async def test_who_leaves_a_guest_that_reads_nothing_is_gone(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "console.sock"))
        listener.listen()
        line = await console_socket.attach(tmp_path, "console.sock")
        hub, _ = listener.accept()
    with hub:
        try:
            async with asyncio.timeout(0.3):
                while True:
                    await line.write(bytes(65_536))
        except TimeoutError:
            line.close()
        end = select.poll()
        end.register(hub, 0)
        async with asyncio.timeout(5):
            while not (seen := end.poll(0)):
                await asyncio.sleep(0.01)
        assert seen == [(hub.fileno(), select.POLLHUP)]
