"""The consoles of VMs that guards run: a file each, and a socket."""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from blixard.drivers import console_socket, process_record
from blixard.drivers.console_lines import lines_of
from blixard.drivers.console_socket import ConsoleSocket
from blixard.ports import OutputLine


class ProcessConsoles:
    """Implements `ports.Consoles`; `directory` is that of `ProcessUnits`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def lines(
        self, name: str, limit: int, epoch: int | None, follows: Callable[[], bool]
    ) -> AsyncGenerator[list[OutputLine], None]:
        folder = self._directory / name
        record = process_record.load(folder / process_record.RECORD)
        # The guard begins a new file, and then writes its record.
        is_new = record is not None and record.epoch == epoch
        begin = limit if epoch is None else None
        return lines_of(folder / process_record.CONSOLE, begin, is_new, follows)

    async def attach(self, name: str) -> ConsoleSocket:
        return await console_socket.attach(self._directory / name, process_record.CONSOLE_SOCKET)
