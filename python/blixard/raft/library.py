"""pysyncobj, pinned to the sources that the corrections in `core` were written against.

The release is driven by hand: no thread, no socket, no file, no fork and no pickle of its own. Two
of its module globals are replaced so that what it would create is handed in through its
configuration instead, which lets several engines live in one process.
"""

import hashlib
from pathlib import Path
from typing import Any, Final

import pysyncobj
from pysyncobj import syncobj
from pysyncobj.config import SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from blixard.errors import BlixardError

AUDITED: Final = {
    "config.py": "fbbc7ff9f18e4d15a7fd563376e42f5bd192956879d4b810b056d5248b955698",
    "fast_queue.py": "8477fe5fdf36d9766df933310d3d66ee953d1afc195b1e6482b3a1498fc517bd",
    "journal.py": "9cf1eaf6acc704581a4cf7d3de330a404403913107adc91c929778b7e3f35edf",
    "node.py": "e4a3f027cd8291f558334bb9c977e952f6b6989e7e1fa1588d3005ef0b990e2c",
    "serializer.py": "4d39fde2f15000ad8f507ec229ebd4f6a86371b6f84d4dc1439a9cccd52857ee",
    "syncobj.py": "e8bdf06797085d734df86e24ab4802fe87893dff77268565ec036f7ad4a1cfe4",
    "transport.py": "0c9d89f9c4781ec9772df8011d7975a1a4a1a5f541357e12eae85a813e92b50b",
}
"""sha256 of the sources of pysyncobj 0.3.17 that take part."""


def verify(folder: Path) -> None:
    """Raises `BlixardError` if the sources in `folder` are not the audited ones."""
    for name, expected in AUDITED.items():
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != expected:
            raise BlixardError(
                f"pysyncobj is not the audited release 0.3.17: {folder / name} differs",
                remedy="install exactly pysyncobj 0.3.17; the corrections to its consensus "
                "algorithm hold for no other source",
            )


if not __debug__:
    raise BlixardError(
        "Python runs without assertions, and with them this node stops before it breaks a promise",
        remedy="start it without -O and without PYTHONOPTIMIZE",
    )
verify(Path(pysyncobj.__file__).parent)

SyncObj: Any = syncobj.SyncObj
FOLLOWER: Final[int] = 0
CANDIDATE: Final[int] = 1
LEADER: Final[int] = 2


class _NoPoller:
    """There are no sockets to poll."""

    def poll(self, _timeout: float) -> None: ...


def _handed_in(thing: Any) -> Any:
    return thing


syncobj.createJournal = _handed_in
syncobj.createPoller = _handed_in
syncobj.pickle = None  # Whatever would reach for it is a path that must not be taken.


def lend_clock(clock: Any) -> None:
    """The library reads time from a module global: whoever enters it lends it a clock first."""
    syncobj.monotonicTime = clock


def configuration(journal: Any, heartbeat_s: float, election_s: tuple[float, float]) -> Any:
    """The library's configuration for an engine that is driven by hand."""
    return SyncObjConf(
        autoTick=False,
        useFork=False,
        journalFile=journal,
        pollerType=_NoPoller(),
        # Changes of the configuration are followed by `core`, from the log alone.
        dynamicMembershipChange=False,
        appendEntriesUseBatch=True,
        appendEntriesPeriod=heartbeat_s,
        raftMinTimeout=election_s[0],
        raftMaxTimeout=election_s[1],
        connectionTimeout=election_s[1],
        # A leader that hears no majority for as long as others wait for it steps down.
        leaderFallbackTimeout=election_s[1],
    )


__all__ = [
    "CANDIDATE",
    "FOLLOWER",
    "LEADER",
    "Node",
    "SyncObj",
    "Transport",
    "configuration",
    "lend_clock",
]
