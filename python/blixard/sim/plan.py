"""What a seed decides before anything happens: sizes, speeds, faults and how often they strike.

The options themselves are drawn (swarm testing: Groce et al., "Swarm Testing", 2012): a history in
which everything goes wrong at once seldom gets far enough for the rare combinations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from blixard.raft.engine import RaftTimings


@dataclass(frozen=True, slots=True)
class Plan:
    """One history's options. Times are in microseconds unless the name says otherwise."""

    seed: int
    nodes: int = 3
    fault_minutes: float = 2.0
    """For how long faults strike, in simulated minutes; then comes the liveness phase."""
    vms: int = 6
    clients: int = 3
    think_ms: int = 700
    """How long a client waits between two requests, on average."""
    latency_us: tuple[int, int] = (100, 600)
    fsync_us: tuple[int, int] = (150, 800)
    stray: float = 0.0
    """How likely a message of a lost connection still arrives, late."""
    lost_answers: float = 0.0
    """How likely the answer of a call is lost with its connection."""
    late_calls: float = 0.0
    """How likely a call arrives seconds late, when nobody may wait for its answer any more."""
    snapshot_entries: int = 1_000
    outcomes_kept: int = 4_096
    digest_every: int = 1_000
    """At each index that this divides, the states of all nodes are compared."""
    vcpus: int = 8
    """What each host offers to VMs, with a GiB of memory for each."""
    drift: float = 0.0
    """How much faster or slower each clock may run, as a part of one."""
    guaranteed: float = 0.5
    """How likely a host has a watchdog."""
    faults: dict[str, float] = field(default_factory=dict)
    """How many seconds lie between two strikes of each kind, on average."""
    mixed_releases: bool = False
    """Whether some nodes begin one release behind and are upgraded on the way."""

    @property
    def timings(self) -> RaftTimings:
        """The engine's options: as shipped, but for the size of the log."""
        return RaftTimings(snapshot_entries=self.snapshot_entries)


def draw(
    seed: int,
    kinds: Sequence[str],
    *,
    nodes: int | None = None,
    minutes: float = 2.0,
    chosen: Sequence[str] | None = None,
) -> Plan:
    """The plan of a seed. `kinds` are all kinds of faults; `chosen` pins those that strike."""
    random = Random(f"plan {seed}")
    if chosen is None:
        share = random.choice((0.2, 0.4, 0.7))
        chosen = [kind for kind in kinds if random.random() < share]
    fast = random.random() < 0.7
    pressure_s = random.choice((2.0, 5.0, 10.0, 20.0)) * max(1, len(chosen))
    drawn_nodes = random.choice((3, 3, 3, 5))
    nodes = nodes or drawn_nodes
    faults = {kind: pressure_s * random.uniform(0.5, 1.5) for kind in sorted(chosen)}
    if "upgrade" in faults:
        faults["upgrade"] /= nodes  # It takes as many strikes until all are upgraded.
    cuts = "crash-at-snapshot" in faults
    return Plan(
        seed=seed,
        nodes=nodes,
        fault_minutes=minutes,
        vms=random.randint(2, 12),
        clients=random.randint(1, 4),
        think_ms=random.choice((150, 400, 1_000, 4_000)),
        latency_us=(100, 600) if fast else (500, random.choice((5_000, 30_000))),
        fsync_us=(150, 800) if random.random() < 0.7 else (1_000, 15_000),
        stray=random.choice((0.0, 0.2, 0.7)),
        lost_answers=random.choice((0.0, 0.02, 0.15)),
        late_calls=random.choice((0.0, 0.02, 0.1)),
        snapshot_entries=random.choice((20, 60) if cuts else (20, 60, 200, 1_000)),
        outcomes_kept=random.choice((20, 4_096)),
        digest_every=random.choice((50, 1_000)),
        vcpus=random.choice((2, 4, 8)),
        drift=random.choice((0.0, 0.001, 0.005)),
        guaranteed=random.choice((0.0, 0.5, 1.0)),
        faults=faults,
        mixed_releases="upgrade" in chosen,
    )
