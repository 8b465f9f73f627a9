"""pysyncobj as it is published: a second copy of the package that no correction has touched.

Only what drives it is ours: the transport, the clock and chance, through the library's own seams.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from gzip import compress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pysyncobj

from blixard.raft import library
from blixard.raft.wire import Change, from_library, to_library
from blixard.v1.raft_pb2 import SnapshotChunk
from schedules.subject import Subject, cut

NEVER: Final = 10**9


def _load() -> Any:
    folder = Path(pysyncobj.__file__).parent
    library.verify(folder)
    name = "stock_pysyncobj"
    spec = spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Clock:
    """Time by hand. Each look takes 20 us: the library has a loop that ends only by that."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        self.now_s += 20e-6
        return self.now_s


class _NoPoller:
    """There are no sockets to poll."""

    def poll(self, _timeout: float) -> None: ...


package: Any = _load()
syncobj: Any = package.syncobj
clock = Clock()
syncobj.monotonicTime = clock
syncobj.random = SimpleNamespace(random=lambda: 0.5)
syncobj.createPoller = lambda _: _NoPoller()
syncobj.PIPE_NOTIFIER_ENABLED = False


class Machine(package.SyncObj):  # type: ignore[misc]
    """A state machine that is its history."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.history: list[bytes] = []

    @package.replicated  # type: ignore[untyped-decorator]
    def put(self, entry: bytes) -> None:
        self.history.append(entry)


class _Wire(package.transport.Transport):  # type: ignore[misc]
    """Every node is connected, and what is sent is kept."""

    def __init__(self, sent: list[tuple[int, Any]], members: Sequence[int]) -> None:
        super().__init__(None, None, None)
        self._sent = sent
        self._members = members

    def connect(self) -> None:
        for member in self._members:
            self._onNodeConnected(syncobj.Node(member))

    def addNode(self, node: Any) -> None:  # noqa: N802
        self._onNodeConnected(node)

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        is_ours = "serialized" not in message and "transmission" not in message
        self._sent.append((node.id, from_library(message) if is_ours else message))
        return True


class Stock(Subject):
    """The library, with its own journal and dump in `folder`, or in memory."""

    def __init__(self, node_id: int, members: int, folder: Path | None, **conf: Any) -> None:
        super().__init__(node_id)
        self.folder = folder
        self._members = members
        files: dict[str, str] = {}
        if folder is not None:
            folder.mkdir(exist_ok=True)
            files = {"journalFile": str(folder / "journal"), "fullDumpFile": str(folder / "dump")}
        plain: dict[str, Any] = {
            "autoTick": False,
            "useFork": False,
            "dynamicMembershipChange": True,
            "raftMinTimeout": 1.0,
            "raftMaxTimeout": 2.0,
            "logCompactionMinEntries": NEVER,
            "logCompactionMinTime": NEVER,
        }
        self._conf = {**plain, **files, **conf}
        self.open()

    def _open(self) -> None:
        others = [member for member in range(1, self._members + 1) if member != self.node_id]
        self._wire = _Wire(self.sent, others)
        with warnings.catch_warnings():
            # It leaves the file of the vote for the garbage collector to close.
            warnings.simplefilter("ignore", ResourceWarning)
            self.library = Machine(
                syncobj.Node(self.node_id),
                [syncobj.Node(member) for member in others],
                package.SyncObjConf(**self._conf),
                transport=self._wire,
            )
        self._wire.connect()
        self._last_heard: tuple[int, dict[str, Any]] = (0, {})

    def private(self, name: str) -> Any:
        """A private part of the library."""
        return getattr(self.library, f"_SyncObj__{name}")

    def receive(self, sender: int, message: Any, term: int | None = None) -> None:
        self._receive(sender, to_library(message))

    def _receive(self, sender: int, message: dict[str, Any]) -> None:
        self._last_heard = (sender, message)
        self.receive_again()

    def receive_again(self) -> None:
        sender, message = self._last_heard
        self._wire._onMessageReceived(syncobj.Node(sender), message)

    def hear_chunk(self, sender: int, term: int, chunk: SnapshotChunk, commit: int = 1) -> None:
        message = {"type": "append_entries", "term": term, "commit_index": commit}
        serialized = (chunk.data, chunk.offset == 0, False)
        self._receive(sender, {**message, "serialized": serialized})
        if chunk.offset + len(chunk.data) == chunk.total:
            self._receive(sender, {**message, "serialized": (b"", False, True)})
        self.tick()

    def tick(self) -> None:
        self.library.doTick()

    def later(self, seconds: float) -> None:
        clock.now_s += seconds
        self.tick()

    def propose(self, entry: bytes, then: Callable[[], None] = lambda: None) -> None:
        def told(_: object, error: int) -> None:
            if error == package.FAIL_REASON.SUCCESS:
                self.acknowledged.append(entry)
                then()

        self.library.put(entry, callback=told)
        self.tick()

    def add(self, node_id: int) -> None:
        self.library.addNodeToCluster(syncobj.Node(node_id), self._told)

    def remove(self, node_id: int) -> None:
        self.library.removeNodeFromCluster(syncobj.Node(node_id), self._told)

    def _told(self, _: object, error: int) -> None:
        if error != package.FAIL_REASON.SUCCESS:
            self.refusals.append(f"error {error}")

    def compact(self) -> list[SnapshotChunk]:
        self.library.forceLogCompaction()
        self.tick()
        self.tick()
        if self.folder is not None:
            data = (self.folder / "dump").read_bytes()
        else:
            data = self.private("serializer")._Serializer__inMemorySerializedData
        return cut(data, *self.log[1])

    def _close(self) -> None:
        self.library.destroy()

    @property
    def term(self) -> int:
        return int(self.library.raftCurrentTerm)

    @property
    def leads(self) -> bool:
        return bool(self.library._isLeader())

    @property
    def log(self) -> list[tuple[int, int]]:
        return [(index, term) for _, index, term in self.private("raftLog")[:]]

    @property
    def applied(self) -> list[bytes]:
        return list(self.library.history)

    @property
    def voters(self) -> set[int]:
        return {node.id for node in self.library.otherNodes} | {self.node_id}

    def command(self, entry: bytes) -> bytes:
        put = self.library._methodToID["put_v0"]
        return b"\0" + bytes(syncobj.pickle.dumps((put, (entry,))))

    def membership(self, change: Change) -> bytes:
        kind = "add" if change.add else "rem"
        request = [kind, change.node_id, syncobj.Node(change.node_id)]
        return b"\2" + bytes(syncobj.pickle.dumps(request))

    def snapshot(self, index: int, term: int, state: Sequence[bytes]) -> list[SnapshotChunk]:
        nodes = {syncobj.Node(member) for member in range(1, self._members + 1)}
        entries = [(self.command(b""), place, term) for place in (index, index - 1)]
        data = syncobj.pickle.dumps(({"history": list(state)}, *entries, nodes))
        return cut(compress(data, mtime=0), index, term)
