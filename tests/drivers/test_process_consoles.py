"""The consoles of real guards: what a placement has written, and typing to it."""

import pytest

from blixard.drivers.process_consoles import ProcessConsoles
from blixard.errors import BlixardError
from blixard.ports import UnitState
from drivers.place import Place, started
from drivers.processes import wait_until

REPEATS = "echo up; while read -r said; do echo heard $said; done"


async def read(consoles: ProcessConsoles, limit: int, epoch: int | None) -> list[str]:
    batches = consoles.lines("web", limit, epoch, lambda: False)
    return [line.text async for batch in batches for line in batch]


async def test_a_placement_is_read_from_its_start_and_no_other_is(place: Place) -> None:
    units = await started(place, "seq 1 5; echo up; exec sleep 60")
    consoles = ProcessConsoles(place.directory)
    whole = ["1", "2", "3", "4", "5", "up"]
    assert await read(consoles, 0, 7) == whole
    assert await read(consoles, 2, None) == ["5", "up"]
    assert await read(consoles, 0, None) == []
    assert await read(consoles, 0, 8) == [], "it has not been started yet"
    units.stop("web", 0, kill=True)
    await place.reaches(units, UnitState.EXITED)
    assert await read(consoles, 100, None) == whole
    await units.close()


async def test_what_is_typed_is_read_and_the_end_of_a_guest_is_seen(place: Place) -> None:
    units = await started(place, REPEATS)
    consoles = ProcessConsoles(place.directory)
    first, second = await consoles.attach("web"), await consoles.attach("web")
    await first.write(b"one\n")
    seen = b""
    while b"heard one\n" not in seen:
        seen += await second.read()
    first.close()
    await wait_until(lambda: "heard one\n" in place.console())
    units.stop("web", 0, kill=True)
    await place.reaches(units, UnitState.EXITED)
    while data := await second.read():
        seen += data
    second.close()
    assert seen == b"up\nheard one\n"
    with pytest.raises(BlixardError, match="no console to attach to"):
        await consoles.attach("web")
    await units.close()
