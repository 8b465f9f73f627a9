"""What a node exports, and the listener that answers."""

import socket
import struct
import subprocess
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from blixard.errors import BlixardError, Code
from blixard.machine.changes import Batch
from blixard.metrics import Metrics
from blixard.metrics.catalog import METRICS
from blixard.metrics.listener import Listener
from blixard.model import (
    Accepted,
    Capacity,
    Cluster,
    Health,
    HealthState,
    Holder,
    Membership,
    Node,
    Reason,
    Rejected,
    State,
    Vm,
    VmSpec,
    Wanted,
)
from blixard.ports import LogStatus, SeenUnit, Timed, Unavailable, UnitState
from blixard.source import StoreSource
from cluster.loopback import BLIXARD, free_port

MIB = 1024 * 1024
NODE = Node(1, "a:1", "m", "j", Membership.MEMBER, incarnation=4, capacity=Capacity(8, 8192))
NODES = {1: NODE, 2: Node(2, "b:1", "n", "k", Membership.MEMBER, incarnation=5, is_down=True)}


class Time:
    """Moves when told to."""

    now_ms = 100_000

    def boot_ms(self) -> int:
        return self.now_ms

    def wall_ms(self) -> int:
        return self.now_ms


def vm(name: str, state: State, node: int | None = 1, code: str = "x") -> Vm:
    holder = None if node is None else Holder(node, 4, 7)
    health = Health(HealthState.OK, "200", 1) if name == "web" else None
    spec = VmSpec(StoreSource("/nix/store/x"), 2, 512)
    return Vm(
        name, 6, spec, Wanted.RUNNING, state, Reason(code, ""), 5_000, 1, holder, health=health
    )


class World:
    """A log and an agent, as the daemon hands them over."""

    def __init__(self, vms: list[Vm]) -> None:
        self.vms = {each.name: each for each in vms}
        self.role = "leader"
        self.lease_left_ms = 7_000

    def status(self) -> LogStatus:
        members = {1: "a:1", 2: "b:1", 3: "c:1"}
        return LogStatus("c", 1, self.role, 3, 1, 20, 19, members, {2: 100})

    def cluster(self) -> Cluster:
        return Cluster(vms=self.vms, nodes=NODES)

    def lag(self) -> Mapping[int, int]:
        return {2: 4, 3: 20}

    def leads_in(self, term: int) -> bool:
        return term == 3


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def metrics(tmp_path: Path, time: Time) -> Metrics:
    (tmp_path / "raft.db").write_bytes(b"x" * 300)
    return Metrics(1, "0.1.0", tmp_path, time)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"blixard_{name}", labels)


def test_what_is_now_is_what_the_last_step_left(metrics: Metrics, time: Time) -> None:
    metrics.meters.saw(
        {
            "web": SeenUnit(6, 7, UnitState.ACTIVE),
            "old": SeenUnit(5, 3, UnitState.STOPPING),
        }
    )
    assert value(metrics, "raft_term") is None, "before the first step nothing is known"
    lost = vm("lost", State.PENDING, None, "no-room")
    metrics.look(World([vm("web", State.RUNNING), vm("db", State.STARTING), lost]), World([]))
    assert value(metrics, "build_info", version="0.1.0") == 1
    assert value(metrics, "journal_size_bytes") == 300
    assert (value(metrics, "raft_term"), value(metrics, "raft_applied_index")) == (3, 19)
    assert value(metrics, "raft_quorum_margin") == 0, "node-3 is silent"
    assert value(metrics, "raft_peer_lag_entries", peer="node-3") == 20
    assert value(metrics, "vms", state="running") == 1
    assert value(metrics, "vms_unplaceable") == 1
    since = "vm_not_as_wanted_since_timestamp_seconds"
    assert value(metrics, since, vm="lost", state="pending") == 5
    assert value(metrics, since, vm="web", state="running") is None
    assert value(metrics, "nodes", state="down") == 1
    assert value(metrics, "node_memory_reserved_bytes") == 1024 * MIB
    assert value(metrics, "node_cpu_reserved") == 4
    ups = [value(metrics, "vm_up", vm=name) for name in ("web", "db", "old", "lost")]
    assert ups == [1, 0, 1, None]
    assert value(metrics, "vm_healthy", vm="web") == 1
    time.now_ms += 3_000
    assert value(metrics, "lease_remaining_seconds") == 4, "it runs out between two steps as well"
    time.now_ms += 9_000
    assert value(metrics, "lease_remaining_seconds") == 0


def test_only_the_leader_speaks_of_the_cluster(metrics: Metrics) -> None:
    world = World([vm("web", State.RUNNING)])
    metrics.look(world, world)
    names = [metric.name for metric in METRICS.values() if metric.leader_only]
    world.role = "follower"
    before = {family.name for family in metrics.registry.collect() if family.samples}
    metrics.look(world, world)
    after = {family.name for family in metrics.registry.collect() if family.samples}
    assert before - after == set(names) - {"blixard_vm_not_as_wanted_since_timestamp_seconds"}
    assert value(metrics, "raft_elections_won_total") == 1


def test_what_happens_is_counted(metrics: Metrics) -> None:
    meters = metrics.meters
    meters.renewed(Accepted(1), None)
    meters.renewed(Accepted(2), 6_900)
    meters.renewed(Unavailable("no leader"), 6_000)
    for deadline_ms in (5, 5, 6):
        meters.lapsed(deadline_ms)
    meters.landed(Rejected(Code.STALE, "late"))
    meters.landed(Unavailable("lost", maybe_applied=True))
    meters.built("build-timeout")
    assert value(metrics, "lease_renewals_total", outcome="accepted") == 2
    assert value(metrics, "lease_renewals_total", outcome="unavailable") == 1
    assert value(metrics, "lease_renewal_margin_seconds_sum") == pytest.approx(6.9)
    assert value(metrics, "lease_expirations_total") == 2
    assert value(metrics, "agent_errors_total", code="BLX-3031") == 1
    assert value(metrics, "agent_errors_total", code="BLX-5010") == 1
    assert value(metrics, "nix_builds_total", outcome="build-timeout") == 1


def test_a_start_ends_when_its_unit_is_active_or_has_exited(metrics: Metrics) -> None:
    world = World([vm("web", State.STARTING), vm("db", State.STARTING)])
    for name in world.vms:
        metrics.meters.starts_vm(name)
    metrics.meters.saw(None)
    metrics.meters.saw({name: SeenUnit(6, 7, UnitState.STARTING) for name in world.vms})
    assert not metrics.meters.starts
    for _ in range(2):
        metrics.meters.saw(
            {
                "web": SeenUnit(6, 7, UnitState.ACTIVE),
                "db": SeenUnit(6, 7, UnitState.EXITED),
            }
        )
    metrics.look(world, world)
    assert value(metrics, "vm_starts_total", vm="web", outcome="active") == 1
    assert value(metrics, "vm_starts_total", vm="db", outcome="exited") == 1
    assert value(metrics, "vm_start_duration_seconds_count") == 1
    del world.vms["db"]
    metrics.look(world, world)
    assert value(metrics, "vm_starts_total", vm="db", outcome="exited") is None


@pytest.mark.parametrize(("role", "counted"), [("leader", 1), ("follower", 0)])
def test_a_failover_lasts_from_the_loss_to_the_run(
    metrics: Metrics, time: Time, role: str, counted: int
) -> None:
    world = World([])
    world.role = role
    metrics.look(world, world)
    for state, code in (
        (State.PENDING, "host-lost"),
        (State.PENDING, "no-room"),
        (State.STARTING, "placed"),
        (State.RUNNING, "active"),
        (State.RUNNING, "active"),
    ):
        node = None if state is State.PENDING else 2
        world.vms = {"web": vm("web", state, node, code)}
        metrics.changed(Batch(9, vms=("web",)), world.cluster())
        time.now_ms += 2_000
    assert value(metrics, "failovers_total", reason="host-lost") == counted
    assert value(metrics, "failover_duration_seconds_count") == counted
    assert value(metrics, "failover_duration_seconds_sum") == counted * 6


def test_stopwatches_measure_what_they_say(metrics: Metrics) -> None:
    for what in Timed:
        metrics.meters.timed(what)()
    assert value(metrics, "leader_step_duration_seconds_count") == 1
    assert value(metrics, "nix_build_duration_seconds_count") == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_the_listener_answers_until_it_is_closed(metrics: Metrics, host: str) -> None:
    bind = f"{host}:{free_port()}"
    listener = Listener(metrics.registry, bind)
    try:
        with urllib.request.urlopen(f"http://{bind}/metrics", timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        assert "blixard_build" in {family.name.removesuffix("_info") for family in families}
    finally:
        listener.close()
    Listener(metrics.registry, bind).close()


@pytest.mark.parametrize("bind", ["192.0.2.1:9101", "nowhere.invalid:9101"])
def test_an_address_that_is_not_this_hosts_is_refused(metrics: Metrics, bind: str) -> None:
    with pytest.raises(BlixardError, match=f"cannot serve metrics at {bind}: ") as caught:
        Listener(metrics.registry, bind)
    assert caught.value.code is Code.ADDRESS_IN_USE
    assert "--metrics-bind" in caught.value.remedy


def test_a_port_in_use_ends_the_start_with_its_reason(tmp_path: Path) -> None:
    places = ["--data-dir", str(tmp_path), "--socket", str(tmp_path / "api.sock")]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        node = [*BLIXARD, "node", "--id", "1", "--bind", f"127.0.0.1:{free_port()}"]
        ran = subprocess.run(
            [*node, *places, "--driver", "process", "--metrics-bind", bind],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ran.returncode == Code.ADDRESS_IN_USE.exit_status
    assert f"error[BLX-1031]: cannot serve metrics at {bind}: Address already in use" in ran.stderr
    assert "fix: see who listens with `ss -ltnp`, or choose another --metrics-bind" in ran.stderr


def test_no_name_is_looked_up_to_listen(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_up(name: str) -> str:
        raise AssertionError(f"{name} is looked up, which may take longer than a lease")

    monkeypatch.setattr("socket.getfqdn", looked_up)
    port = free_port()
    listener = Listener(metrics.registry, f"127.0.0.1:{port}")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            assert b"blixard_build_info" in answer.read()
    finally:
        listener.close()


def test_who_only_knocks_leaves_no_traceback(
    metrics: Metrics, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    listener = Listener(metrics.registry, f"127.0.0.1:{port}")
    with socket.create_connection(("127.0.0.1", port)) as knocking:
        # As load balancers do: the connection is reset.
        knocking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        answer.read()
    listener.close()
    assert capsys.readouterr().err == ""


def test_what_is_kept_of_deleted_vms_is_dropped(metrics: Metrics) -> None:
    for number in range(3):
        lost = replace(vm(f"vm-{number}", State.PENDING, None, "host-lost"), uid=number)
        metrics.look(World([lost]), World([]))
        metrics.changed(Batch(9, vms=(lost.name,)), Cluster(vms={lost.name: lost}))
    metrics.look(World([]), World([]))
    assert metrics.meters._homeless_ms == {}
