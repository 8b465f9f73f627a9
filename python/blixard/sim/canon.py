"""The one history that every node must follow: the commands in the order of the log, and their
effect on a state of the checkers' own."""

from collections.abc import Callable, Iterator
from hashlib import blake2b

from blixard import codec
from blixard.commands import Entry, PlaceVm, RenewLeases
from blixard.errors import Code
from blixard.model import Accepted, Cluster, Node, Outcome, Rejected, RequestId
from blixard.raft.replica import Law


def _is_forgotten(outcome: Outcome) -> bool:
    return isinstance(outcome, Rejected) and outcome.code is Code.REQUEST_FORGOTTEN


class Canon:
    """What was applied first at each index; whoever applies something else later is wrong."""

    def __init__(
        self,
        law: Law,
        runs: Callable[[int, str, int], bool],
        renewed: Callable[[Node], None],
    ) -> None:
        """`runs` says whether anything of a VM truly runs on a node, given its name and uid.
        `renewed` is told of each node whose renewal was taken."""
        self._law = law
        self._runs = runs
        self._renewed = renewed
        self.cluster = Cluster()
        self.index = 0
        """The last command's."""
        self._entries: dict[int, tuple[bytes, Outcome]] = {}
        self._requests: dict[int, str] = {}
        self._answers: dict[str, tuple[int, Outcome]] = {}
        self._states: dict[int, bytes] = {}

    def applied(
        self, who: str, index: int, data: bytes, outcome: Outcome
    ) -> Iterator[tuple[str, str]]:
        """A node has applied a command. Yields the invariants that this breaks, and how."""
        known = self._entries.get(index)
        if known is None:
            if index < self.index:
                yield "state-machine-safety", f"{who} applies a command at {index}, others none"
                return
            entry = codec.decode_entry(data)
            before = self.cluster
            self.cluster, expected = self._law(before, index, entry)
            self.index = index
            known = self._entries[index] = data, expected
            yield from self._effect(index, before, entry, expected)
        if known[0] != data:
            yield "state-machine-safety", f"{who} applies another command at {index}"
        elif known[1] != outcome:
            text = f"{who} gets {outcome} at {index}, others get {known[1]}"
            yield "state-machine-safety", text

    def _effect(
        self, index: int, before: Cluster, entry: Entry, outcome: Outcome
    ) -> Iterator[tuple[str, str]]:
        after = self.cluster
        if entry.request is not None:
            key = entry.request.key
            self._requests[index] = key
            changed = (before.vms, before.nodes, before.sources) != (
                after.vms,
                after.nodes,
                after.sources,
            )
            first_index, first = self._answers.setdefault(key, (index, outcome))
            if first_index != index and changed:
                yield "exactly-once", f"request {key} acts at {first_index} and at {index}"
            elif outcome != first and not _is_forgotten(outcome):
                yield "exactly-once", f"request {key} gets {first}, and repeated, {outcome}"
        if before.vms is not after.vms:
            yield from self._released(before)
        if isinstance(entry.command, RenewLeases):
            for node_id, node in after.nodes.items():
                if node is not before.nodes.get(node_id):
                    self._renewed(node)
        if isinstance(entry.command, PlaceVm) and isinstance(outcome, Accepted):
            yield from self._placed(before, entry.command)

    def _released(self, before: Cluster) -> Iterator[tuple[str, str]]:
        for name, old in before.vms.items():
            holder = old.holder
            new = self.cluster.vms.get(name)
            now = new.holder if new is not None else None
            if holder is None or now == holder:
                continue
            if now is not None and (now.node_id, now.epoch) == (holder.node_id, holder.epoch):
                continue  # It is to be kept, and its host began a new life with it.
            if self._runs(holder.node_id, name, old.uid):
                yield "holder-last", f"{name} is released, but runs on node-{holder.node_id}"

    def _placed(self, before: Cluster, command: PlaceVm) -> Iterator[tuple[str, str]]:
        vm = before.vms[command.name]
        if vm.holder is not None:
            yield "one-holder", f"{vm.name} is placed while node-{vm.holder.node_id} holds it"
        node_id = command.node_id
        held = [
            other.spec
            for other in self.cluster.vms.values()
            if other.holder is not None and other.holder.node_id == node_id
        ]
        capacity = self.cluster.nodes[node_id].capacity
        vcpus = sum(spec.vcpus for spec in held)
        memory_mib = sum(spec.memory_mib for spec in held)
        if vcpus > capacity.vcpus or memory_mib > capacity.memory_mib:
            text = f"node-{node_id} holds {vcpus} vCPUs and {memory_mib} MiB of {capacity}"
            yield "capacity", text

    def is_state_at(self, index: int, data: bytes) -> bool:
        """Whether `data` is the encoded state as of `index`, as far as that is known."""
        digest = blake2b(data, digest_size=16).digest()
        if index >= self.index and index not in self._states:
            mine = codec.encode_cluster(self.cluster)
            self._states[index] = blake2b(mine, digest_size=16).digest()
        return self._states.setdefault(index, digest) == digest

    def is_known_state(self, data: bytes) -> bool:
        """Whether a node had this state when it took a snapshot."""
        return blake2b(data, digest_size=16).digest() in self._states.values()

    def is_request_at(self, index: int, request: RequestId) -> bool:
        """Whether the command at `index` is that request."""
        return self._requests.get(index) == request.key
