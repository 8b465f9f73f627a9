"""A guard that does not keep one of its rules: `python -m drivers.broken_guard RULE ORDER LOCK_FD`.

Only a process of its own can be broken so: a guard is told nothing by whoever starts it."""

import sys
from typing import Final

from blixard.drivers import process_confinement, process_guard
from blixard.sim.sabotage import Change, Edit, Patch, changed


def _announce_nothing(_number: int) -> None:
    pass


RULES: Final[dict[str, tuple[Change, ...]]] = {
    "none": (),
    "its death is its VM's death": (
        Patch(process_guard, "on_parent_death", _announce_nothing),
        Patch(process_confinement, "on_parent_death", _announce_nothing),
        Edit(process_confinement, "_be_heir", "[guard, deadline]", "[deadline]"),
    ),
    "the anchor keeps the deadline": (
        Edit(
            process_confinement, "_be_first", "select.select([deadline], [], [])", "signal.pause()"
        ),
        Edit(process_confinement, "_be_heir", "[guard, deadline]", "[guard]"),
    ),
    "the guard keeps the deadline": (
        Edit(process_guard.Guard, "serve", "self._watch(self._lease.fd, self._fence)", "pass"),
    ),
}
"""Each rule, and what breaks it."""

if __name__ == "__main__":
    with changed(*RULES[sys.argv.pop(1)]):
        process_guard.main()
