"""Replicas that come to different states, or to rules they do not know, stop."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from blixard import codec, machine
from blixard.commands import AttestState, CreateVm, Entry, RaiseLevel, RegisterNode
from blixard.errors import Code
from blixard.machine.changes import Batch
from blixard.model import (
    Capacity,
    Cluster,
    Outcome,
    VmSpec,
    Wanted,
)
from blixard.raft import replica as replicas
from blixard.raft.engine import RaftTimings
from blixard.raft.replica import Law, ReleaseTooOld, Replica, ReplicatedCluster, StateDiffers
from blixard.source import StoreSource
from raft.lab import CLUSTER, Lab

EVERY = 10
SPEC = VmSpec(StoreSource("/nix/store/0-vm"), 1, 256)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "DIGEST_EVERY", EVERY)


def flipped(cluster: Cluster, index: int, entry: Entry) -> tuple[Cluster, Outcome]:
    """The law on a host whose memory has lost a bit."""
    after, outcome = machine.apply(cluster, index, entry)
    vms = {name: replace(vm, created_ms=vm.created_ms | 1) for name, vm in after.vms.items()}
    return replace(after, vms=vms), outcome


class Wall:
    def boot_ms(self) -> int:
        return 0

    def wall_ms(self) -> int:
        return 2


class Fleet(Lab):
    """Nodes whose machine is the cluster's state; one that raises is gone, until it is started."""

    def __init__(self, *different: int, **lab: Any) -> None:
        self.different = different
        super().__init__(machines=self._machine, **lab)
        self.logs: dict[int, Replica] = {}
        self.stopped: dict[int, StateDiffers | ReleaseTooOld] = {}
        self.found(3)

    def _machine(self, node_id: int) -> ReplicatedCluster:
        law: Law = flipped if node_id in self.different else machine.apply
        return ReplicatedCluster(lambda _: None, law)

    def state(self, node_id: int) -> ReplicatedCluster:
        state: Any = self.nodes[node_id].machine
        assert isinstance(state, ReplicatedCluster)
        return state

    def start(self, node_id: int) -> Any:
        node = super().start(node_id)
        forward: Any = None
        log = Replica(node.engine, self.state(node_id), CLUSTER, Wall(), forward)
        self.logs[node_id] = log
        node.engine.tick = partial(self._tick, node_id, node.engine.tick)  # type: ignore[method-assign]
        self.stopped.pop(node_id, None)
        return node

    def _tick(self, node_id: int, tick: Any) -> None:
        try:
            tick()
        except (StateDiffers, ReleaseTooOld) as stop:
            self.stopped[node_id] = stop
            self.crash(node_id)

    def fill(self, upto: int) -> None:
        """Create VMs until the log has come to an index."""
        while (index := self.nodes[self.lead()].engine.status().last_index) < upto:
            self.commit(codec.encode_entry(Entry(CreateVm(f"vm{index}", SPEC, Wanted.STOPPED), 2)))

    def attest(self) -> tuple[int, bytes]:
        """The leader tells the digest of its state; the others have heard it when this returns."""
        leader = self.lead()
        attested = self.logs[leader].status().state_digest
        assert attested is not None
        self.commit(codec.encode_entry(Entry(AttestState(*attested), 2)))
        self.run(0.5)
        return attested


def names(fleet: Fleet, node_id: int) -> set[str]:
    return set(fleet.state(node_id).cluster.vms)


def test_equal_states_are_attested_and_all_go_on() -> None:
    fleet = Fleet()
    fleet.fill(EVERY * 2 + 5)
    assert fleet.attest()[0] == EVERY * 2
    assert fleet.stopped == {}
    digests = {fleet.state(node_id).state_digest for node_id in (1, 2, 3)}
    assert len(digests) == 1
    assert {fleet.state(node_id).cluster.attested_index for node_id in (1, 2, 3)} == {EVERY * 2}


def test_a_node_that_differs_stops_and_the_others_go_on() -> None:
    fleet = Fleet(3)
    assert fleet.lead() != 3
    fleet.fill(EVERY * 2 + 5)
    fleet.attest()
    assert list(fleet.stopped) == [3]
    stop = fleet.stopped[3]
    assert stop.code is Code.STATE_DIFFERS
    assert f"as of entry {EVERY * 2} differs from the leader's" in stop.message
    assert "empty its data directory" in stop.remedy
    fleet.fill(EVERY * 4 + 5)
    fleet.attest()
    assert list(fleet.stopped) == [3]


def test_a_node_that_is_started_again_is_right_until_the_next_digest() -> None:
    fleet = Fleet(3)
    fleet.fill(EVERY + 5)
    fleet.attest()
    fleet.start(3)
    fleet.run(2)
    assert fleet.stopped == {}
    assert names(fleet, 3) == names(fleet, fleet.lead())
    fleet.fill(EVERY * 3 + 5)
    fleet.attest()
    assert list(fleet.stopped) == [3]


def test_a_leader_that_differs_is_left_by_the_others_and_they_go_on_without_it() -> None:
    fleet = Fleet(1)
    assert fleet.lead() == 1
    fleet.fill(EVERY + 5)
    acknowledged = names(fleet, 1)
    fleet.attest()
    assert sorted(fleet.stopped) == [2, 3]
    fleet.until(lambda: fleet.leaders() == [], within_s=5)
    # An operator decides: the leader is wrong.
    fleet.crash(1)
    for _ in range(2):
        for node_id in sorted(fleet.stopped):
            fleet.start(node_id)
        fleet.run(5)
    assert fleet.stopped == {}
    assert names(fleet, fleet.lead()) >= acknowledged
    fleet.fill(EVERY * 3 + 5)
    fleet.attest()
    assert fleet.stopped == {}


def test_a_node_that_came_by_a_snapshot_skips_what_it_cannot_know() -> None:
    fleet = Fleet(timings=RaftTimings(snapshot_entries=5))
    follower = next(node_id for node_id in (2, 3) if node_id != fleet.lead())
    fleet.crash(follower)
    fleet.fill(EVERY * 5 + 7)
    fleet.start(follower)
    fleet.until(lambda: names(fleet, follower) == names(fleet, fleet.lead()))
    assert fleet.attest()[0] == EVERY * 5
    assert fleet.state(follower).state_digest is None
    fleet.fill(EVERY * 7 + 2)
    assert fleet.attest() == fleet.state(follower).state_digest
    assert fleet.stopped == {}


# --- one state machine --------------------------------------------------------------------------


def created(name: str) -> bytes:
    return codec.encode_entry(Entry(CreateVm(name, SPEC, Wanted.STOPPED), 2))


def test_the_digest_is_that_of_the_round_index_though_no_command_has_it() -> None:
    one, other = (ReplicatedCluster(lambda _: None) for _ in range(2))
    one.apply(EVERY - 1, created("a"))
    one.apply(EVERY + 2, created("b"))
    other.apply(EVERY - 1, created("a"))
    other.apply(EVERY, created("no-entry-of-the-same-log"))
    other.apply(EVERY + 2, created("b"))
    assert one.state_digest is not None
    assert other.state_digest is not None
    assert one.state_digest[0] == other.state_digest[0] == EVERY
    assert one.state_digest[1] != other.state_digest[1]


def test_after_a_snapshot_of_an_unknown_index_no_digest_is_claimed() -> None:
    state = ReplicatedCluster(lambda _: None)
    state.apply(EVERY - 1, created("a"))
    later = ReplicatedCluster(lambda _: None)
    later.restore(state.snapshot(), EVERY - 1)
    later.apply(EVERY + 2, created("b"))
    assert later.state_digest is None
    later.apply(EVERY * 2 + 1, created("c"))
    assert later.state_digest is not None


def test_a_snapshot_is_told_as_a_gap() -> None:
    told: list[Batch] = []
    state, later = ReplicatedCluster(lambda _: None), ReplicatedCluster(told.append)
    state.apply(7, created("a"))
    later.restore(state.snapshot(), 7)
    later.apply(9, created("b"))
    assert [(batch.index, batch.is_gap, batch.vms) for batch in told] == [
        (7, True, ()),
        (9, False, ("b",)),
    ]


def test_only_the_last_digests_are_kept() -> None:
    state = ReplicatedCluster(lambda _: None)
    for round_index in range(EVERY, EVERY * 40, EVERY):
        state.apply(round_index + 1, created("a"))
    assert len(state._digests) == replicas.DIGESTS_KEPT
    assert state.state_digest is not None
    assert state.state_digest[0] == EVERY * 39


def test_a_release_that_does_not_know_the_level_stops() -> None:
    register = RegisterNode(1, "m", "j", "a:1", 0, Capacity(1, 1024), "2.0", level=2)
    states = [ReplicatedCluster(lambda _: None, level=level) for level in (1, 2)]
    for state in states:
        state.apply(1, codec.encode_entry(Entry(register, 2)))
    old, new = states
    raised = codec.encode_entry(Entry(RaiseLevel(2), 2))
    new.apply(2, raised)
    with pytest.raises(ReleaseTooOld, match="is at level 2, and this release supports 1") as stop:
        old.apply(2, raised)
    assert stop.value.code is Code.RELEASE_TOO_OLD
    with pytest.raises(ReleaseTooOld):
        ReplicatedCluster(lambda _: None, level=1).restore(new.snapshot(), 2)
