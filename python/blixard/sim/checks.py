"""What must hold whatever happens, checked outside the code that it is about.

Each check bears the name of its invariant. The checkers see every transaction of every disk, every
commit and every applied entry of every node, every start of a VM and every answer to a client. A
violation ends the history.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from blixard import codec
from blixard.commands import ConfirmDown, RegisterNode, ReportVm
from blixard.errors import BlixardError
from blixard.model import Accepted, HealthState, Holder, Outcome, RequestId, Vm
from blixard.ports import Run
from blixard.raft import snapshot as snapshots
from blixard.raft.replica import StateDiffers
from blixard.raft.store import Batch, CorruptJournal
from blixard.raft.wire import Entry
from blixard.sim.canon import Canon

if TYPE_CHECKING:
    from blixard.sim.host import Host
    from blixard.sim.node import Node

INVARIANTS: Final = {
    "election-safety": "a term has at most one leader",
    "log-matching": "logs with the same entry at an index are the same up to it",
    "leader-completeness": "a leader has every entry that was committed before",
    "state-machine-safety": "all nodes apply the same entry at an index, to the same effect",
    "quorum-durability": "what is committed was written by a majority of the members",
    "durability": "an acknowledged command is never lost",
    "exactly-once": "a repeated request takes effect once",
    "linearizability": "answers are those of a table of VMs that does one thing at a time",
    "monotone-epochs": "a VM is started under a newer epoch than ever before",
    "holder-last": "a host is no longer a VM's holder only when nothing of it runs there",
    "undisturbed": "a VM that its host is to run is not stopped",
    "one-holder": "a VM is placed only where no host holds it",
    "capacity": "a host is never given more than it has",
    "at-most-one": "a VM never runs on two hosts",
    "kept": "a VM that is to be kept is ended and freed by no loss of its host, only by its host's "
    "word or a person's",
    "fence-in-time": "no VM but those to be kept executes after the lease of its host",
    "gate": "a VM is let start only before the fence of its host begins",
    "failover": "a host that is lost is declared down soon after its lease has ended",
    "corruption": "a damaged journal is refused, and no other",
    "convergence": "when the faults end, what the log says is what runs",
    "fail-stop": "no assertion of the shipped code fires, and nothing unforeseen is raised",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold."""

    invariant: str
    what: str
    at_s: float


@dataclass(slots=True)
class _Written:
    """What one journal has made durable, whatever became of the disk."""

    terms: dict[int, int] = field(default_factory=dict)
    first: int = 1
    last: int = 0
    snapshot_index: int = 0

    def has(self, index: int, term: int) -> bool:
        return index <= self.snapshot_index or self.terms.get(index) == term


class Checks:
    """All checkers of one history."""

    def __init__(self, now_us: Callable[[], int], canon: Canon, awaited: str | None = None) -> None:
        """`awaited` is the only invariant whose violation ends the history; None means any."""
        self._now_us = now_us
        self._awaited = awaited
        self.is_broken = False
        self._stamps = 0
        self.canon = canon
        self.violations: dict[str, Violation] = {}
        """The first of each invariant."""
        self._leaders: dict[int, int] = {}
        self._log: dict[int, tuple[int, bytes]] = {}
        """Committed entries: term and data by index."""
        self._commit_terms: dict[int, int] = {}
        """In which term each was committed."""
        self.committed_index = 0
        self._seen_commits: dict[int, int] = {}
        self._written: dict[int, _Written] = {}
        self._rows: dict[tuple[int, int], tuple[bytes, int | None]] = {}
        self._epochs: dict[tuple[str, int], tuple[int, int]] = {}
        self.acknowledged_index = 0
        self.acknowledgements = 0

    def violate(self, invariant: str, what: str) -> None:
        """Note that an invariant does not hold."""
        assert invariant in INVARIANTS, invariant
        found = Violation(invariant, what, self._now_us() / 1e6)
        self.violations.setdefault(invariant, found)
        self.is_broken |= self._awaited in (None, invariant)

    def stamp(self) -> int:
        """The next moment of the clients' history."""
        self._stamps += 1
        return self._stamps

    @property
    def newest_term(self) -> int:
        """The last term that has had a leader."""
        return max(self._leaders, default=0)

    # --- consensus ------------------------------------------------------------------------------

    def opened(self, node: "Node") -> None:
        """A process has accepted its journal."""
        host = node.host
        if host.disk.damage:
            self.violate("corruption", f"{host.name} starts with a journal: {host.disk.damage}")
        self._seen_commits[host.node_id] = node.engine.journal.base_index

    def ended(self, host: "Host", error: BlixardError) -> None:
        """A process has ended with a message."""
        if isinstance(error, CorruptJournal):
            host.world.bit("damage-refused")
        if isinstance(error, CorruptJournal) and not host.disk.damage:
            self.violate("corruption", f"{host.name} refuses a sound journal: {error}")
        if isinstance(error, StateDiffers):
            self.violate("state-machine-safety", f"{host.name}: {error}")

    def fail_stop(self, host: "Host", error: Exception) -> None:
        """A process has died of its own mistake."""
        self.violate("fail-stop", f"{host.name}: {type(error).__name__}: {error}")

    def committed(self, host: "Host", batch: Batch) -> None:
        """A transaction is durable."""
        written = self._written.setdefault(host.birth, _Written())
        for index in range(batch.keep_to + 1, written.last + 1):
            written.terms.pop(index, None)
        if batch.snapshot is not None:
            snapshot = snapshots.decode(batch.snapshot)
            assert snapshot is not None
            written.snapshot_index = snapshot.index
        for index in range(written.first, batch.base + 1):
            written.terms.pop(index, None)
        written.first = max(written.first, batch.base + 1)
        written.last = batch.rows[-1].index if batch.rows else min(written.last, batch.keep_to)
        for row in batch.rows:
            written.terms[row.index] = row.term
            before = written.terms.get(row.index - 1)
            data, known = self._rows.setdefault((row.index, row.term), (row.data, before))
            if data != row.data or (None not in (known, before) and known != before):
                self.violate("log-matching", f"two entries of term {row.term} at {row.index}")

    def ticked(self, node: "Node") -> None:
        """A process has done a turn."""
        engine = node.engine
        journal = engine.journal
        if engine.leads and self._leaders.get(engine.term) != node.node_id:
            self._leads(node, engine.term)
        seen = self._seen_commits[node.node_id]
        if journal.commit_index > seen:
            self._seen_commits[node.node_id] = journal.commit_index
            for index in range(max(seen, journal.base_index) + 1, journal.commit_index + 1):
                self._commits(node, journal[index - journal.base_index])

    def _leads(self, node: "Node", term: int) -> None:
        other = self._leaders.setdefault(term, node.node_id)
        if other != node.node_id:
            self.violate("election-safety", f"{other} and {node.node_id} lead in term {term}")
        journal = node.engine.journal
        for index in range(journal.base_index + 1, self.committed_index + 1):
            if self._commit_terms.get(index, term) >= term:
                continue  # A slow disk can tell of an election when later terms have come.
            if index > journal.last_index or self._differs(journal[index - journal.base_index]):
                what = f"{node.host.name} leads in term {term} without committed entry {index}"
                self.violate("leader-completeness", what)
                if index <= self.acknowledged_index:
                    self.violate("durability", what)
                return

    def _commits(self, node: "Node", entry: Entry) -> None:
        if entry.index not in self._log:
            self._log[entry.index] = (entry.term, entry.data)
            self._commit_terms[entry.index] = node.engine.term
            self.committed_index = max(self.committed_index, entry.index)
            self._has_quorum(node, entry)
        elif self._differs(entry):
            what = f"{node.host.name} commits another entry at {entry.index}"
            self.violate("state-machine-safety", what)

    def _differs(self, entry: Entry) -> bool:
        term, data = self._log.get(entry.index, (entry.term, entry.data))
        return term != entry.term or data != entry.data

    def _has_quorum(self, node: "Node", entry: Entry) -> None:
        """A leader counts by the last configuration of its log; a follower may not have it yet."""
        nothing = _Written()
        journal = node.engine.journal
        for members in (journal.members(), journal.members(entry.index)):
            holders = [
                number
                for number, member in members.items()
                if self._written.get(member.birth, nothing).has(entry.index, entry.term)
            ]
            if 2 * len(holders) > len(members):
                return
        what = f"{node.host.name} commits entry {entry.index}, which only {holders} have"
        self.violate("quorum-durability", f"{what} of {list(members)}")

    # --- the state machine ----------------------------------------------------------------------

    def applied(self, host: "Host", index: int, entry: bytes, outcome: Outcome) -> None:
        """A node has applied a command."""
        before = self.canon.cluster.vms
        for invariant, what in self.canon.applied(host.name, index, entry, outcome):
            self.violate(invariant, what)
        if before is not self.canon.cluster.vms:
            self._keeps(before, entry)

    def _keeps(self, before: Mapping[str, Vm], entry: bytes) -> None:
        """Who frees a VM that is to be kept, and that this is settled when it is placed."""
        for name, old in before.items():
            vm = self.canon.cluster.vms.get(name)
            if old.holder is None or vm is old:
                continue
            if vm is not None and vm.holder is not None and vm.holder.epoch == old.holder.epoch:
                if vm.keeps is not old.keeps:
                    self.violate("kept", f"what becomes of {name} is changed while it is placed")
            elif old.keeps:
                command = codec.decode_entry(entry).command
                if not isinstance(command, ReportVm | RegisterNode | ConfirmDown):
                    self.violate("kept", f"{name} is freed by {type(command).__name__}")

    def snapshot_taken(self, host: "Host", index: int, data: bytes) -> None:
        """A node's whole state as of `index`."""
        if not self.canon.is_state_at(index, data):
            self.violate("state-machine-safety", f"{host.name} has another state at {index}")

    def snapshot_restored(self, host: "Host", data: bytes) -> None:
        """A node has taken over a state."""
        if host.node is not None and host.node.is_open:
            host.world.bit("snapshot-installed")
        if not self.canon.is_known_state(data):
            self.violate("state-machine-safety", f"{host.name} restored a state nobody had")

    # --- hosts and clients ----------------------------------------------------------------------

    def started(self, node_id: int, name: str, run: Run) -> None:
        """A host begins to run a VM."""
        uid, epoch = run.uid, run.epoch
        vm = self.canon.cluster.vms.get(name)
        placed = vm is not None and vm.holder is not None and vm.holder.epoch == epoch
        if vm is not None and placed and vm.keeps is not run.keep:
            self.violate(
                "kept", f"{name} runs as if keep were {run.keep}, and was placed otherwise"
            )
        last, last_node = self._epochs.get((name, uid), (0, node_id))
        if epoch < last or (epoch == last and last_node != node_id):
            self.violate("monotone-epochs", f"{name} starts under {epoch} after {last}")
        self._epochs[name, uid] = epoch, node_id

    def stopped(self, node_id: int, name: str, uid: int, epoch: int) -> None:
        """A daemon begins to stop a VM."""
        vm = self.canon.cluster.vms.get(name)
        if vm is None or vm.uid != uid or vm.holder is None or vm.release is not None:
            return
        check = vm.policy.check
        failing = vm.health is not None and vm.health.state is HealthState.FAILING
        if failing and check is not None and check.restarts:
            return
        node = self.canon.cluster.nodes.get(node_id)
        if node is not None and vm.holder == Holder(node_id, node.incarnation, epoch):
            self.violate("undisturbed", f"node-{node_id} stops {name}, which it is to run")

    def acknowledged(self, accepted: Accepted, request: RequestId) -> None:
        """A client was told that its request took effect."""
        self.acknowledgements += 1
        self.acknowledged_index = max(self.acknowledged_index, accepted.index)
        if not self.canon.is_request_at(accepted.index, request):
            what = f"{request.key} was acknowledged at {accepted.index}, where it is not"
            self.violate("durability", what)
