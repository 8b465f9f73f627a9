"""The whole outside world on one page.

The agent and the servers reach time, consensus, builds and units only through these protocols. The
daemon plugs in the drivers; a simulator plugs in its own. Nothing here waits: work is *begun*, and
what became of it is *seen* at a later step.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from blixard.commands import (
    Command,
)
from blixard.health import Tally
from blixard.model import (
    Cluster,
    Outcome,
    Reason,
    RequestId,
)
from blixard.policy import GuestCheck
from blixard.source import FlakeSource, Source


class Clock(Protocol):
    """Time as an argument."""

    def boot_ms(self) -> int:
        """CLOCK_BOOTTIME in milliseconds: runs on through suspend, never set by anyone."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch; for display only."""
        ...


SILENT_AFTER_MS: Final = 3_000
"""A node that was not heard from for so long is called silent, in milliseconds."""


@dataclass(frozen=True, slots=True)
class LogStatus:
    """What this node knows about consensus right now."""

    cluster_id: str
    node_id: int
    role: str
    """`leader`, `follower` or `candidate`."""
    term: int
    leader_id: int | None
    commit_index: int
    applied_index: int
    members: Mapping[int, str]
    """The consensus configuration: node id -> address."""
    heard_ms: Mapping[int, int]
    """Milliseconds since each other member was last heard from; a member never heard is absent."""
    state_digest: tuple[int, bytes] | None = None
    """An index, the last that there is one for, and the digest of the state here as of then."""

    @property
    def is_leader(self) -> bool:
        """Whether this node believes that it leads; nothing follows from it until committed."""
        return self.role == "leader"

    def hears(self, node_id: int) -> bool:
        """Whether a node was heard from lately. Only the leader hears from every member."""
        age_ms = self.heard_ms.get(node_id, SILENT_AFTER_MS)
        return node_id == self.node_id or age_ms < SILENT_AFTER_MS


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The command may not have been decided. `maybe_applied`: it still can take effect."""

    message: str
    leader_id: int | None = None
    maybe_applied: bool = False


Done = Callable[[Outcome | Unavailable], None]


class Log(Protocol):
    """The replicated log, and the state to which it has led on this node."""

    def cluster(self) -> Cluster:
        """The state as applied here; it may lag behind the leader's."""
        ...

    def status(self) -> LogStatus: ...

    def propose(
        self, command: Command, done: Done, request: RequestId | None = None, by: str = ""
    ) -> None:
        """Append a command if this node leads; `by` is who asked for it, as in `Entry`. `done` is
        called exactly once, after the entry is durable on a majority and applied here, or as soon
        as it is known that it will not be."""
        ...

    def submit(self, command: Command, done: Done) -> None:
        """Like `propose`, for a node's own commands: sent to the leader wherever that is."""
        ...

    def barrier(self, done: Done) -> None:
        """Call `done` once everything committed before this call is applied here (leader only)."""
        ...

    def add_member(self, node_id: int, address: str, done: Done) -> None: ...

    def remove_member(self, node_id: int, done: Done) -> None: ...

    def transfer_leadership(self) -> None:
        """Ask another member to lead; used before this node is removed or stops."""
        ...


class BuildState(StrEnum):
    BUILDING = "building"
    BUILT = "built"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SeenBuild:
    """What became of a build that was begun."""

    epoch: int
    """The placement it was begun for; 0 for a runner kept from an earlier life of the daemon."""
    state: BuildState
    line: str = ""
    """The last line of output."""
    runner: str | None = None
    """The runner's store path once built."""
    reason: Reason | None = None
    """Why it failed."""
    volumes: tuple[str, ...] | None = None
    """The images that the runner writes to, once built; None if that cannot be told."""


class Builder(Protocol):
    """Realises runners. One build a VM at a time; a result stays until forgotten."""

    def begin(self, name: str, epoch: int, source: Source, content: bytes) -> None:
        """Begin to realise `source`, visibly in `seen` at once; `content` is the archive of a
        packed source, else empty. Replaces an earlier result, and ends an earlier build."""
        ...

    def cancel(self, name: str) -> None:
        """End the build if one is under way, and forget it."""
        ...

    def release(self, name: str) -> None:
        """Forget the VM: its result, its log and the root that kept its runner from collection."""
        ...

    def seen(self) -> Mapping[str, SeenBuild]:
        """Builds under way and their results, and the runners kept from before a restart."""
        ...


class Locker(Protocol):
    """Pins flake references."""

    async def lock(self, url: str, attribute: str) -> FlakeSource:
        """Resolve `url` to a locked reference. Raises `BlixardError` if it cannot be resolved."""
        ...


class UnitState(StrEnum):
    STARTING = "starting"
    ACTIVE = "active"
    STOPPING = "stopping"
    EXITED = "exited"
    """No process of the VM is left, no job that would start one is queued, and its gate is removed:
    nothing but another `start` brings it back."""


@dataclass(frozen=True, slots=True)
class Run:
    """A placement that this host is to run."""

    uid: int
    epoch: int
    incarnation: int
    runner: str
    keep: bool = False
    """It is not ended by the fence: its VM goes on without a lease."""


@dataclass(frozen=True, slots=True)
class SeenUnit:
    """A VM as its host sees it. It exists from `start` until `discard`."""

    uid: int
    epoch: int
    state: UnitState
    active_ms: int = 0
    """For how long it has been active."""
    detail: str = ""
    """How it ended, in words, with the last lines of its console."""
    keep: bool = False
    """As it was started: `Run.keep`."""


class Units(Protocol):
    """Runs VMs on this host, where they outlive the daemon, but not the lease of their host: a
    fence that does not need the daemon ends them."""

    @property
    def guaranteed(self) -> bool:
        """Whether a watchdog resets this host if it cannot end its VMs in time."""
        ...

    def renew(self, deadline_ms: int) -> None:
        """From `deadline_ms` on (CLOCK_BOOTTIME) the fence ends all VMs that are not to be kept,
        and lets none start. It is never moved back. Nothing runs before the first call."""
        ...

    def start(self, name: str, run: Run) -> None:
        """Begin to start a VM of which nothing is seen; from now on it is. It starts only before
        the deadline. A start that comes to nothing ends as EXITED, within a minute."""
        ...

    def stop(self, name: str, grace_ms: int, kill: bool) -> None:
        """Begin to stop: gracefully, after `grace_ms` by force; at once if `kill`. A repeated call
        changes nothing, except that `kill` cuts a graceful stop short."""
        ...

    def discard(self, name: str) -> None:
        """Forget a VM that has exited. Its volumes stay."""
        ...

    def seen(self) -> Mapping[str, SeenUnit] | None:
        """Every VM of Blixard on this host, or None while not known (systemd unreachable)."""
        ...


@dataclass(frozen=True, slots=True)
class OutputLine:
    """A line of text, without escape codes."""

    at_ms: int
    """When it was written, on the clock of its host; 0 if that is not known."""
    text: str


class Output(Protocol):
    """What is written on this host about VMs, by their names."""

    def lines(
        self, name: str, limit: int, epoch: int | None, follows: Callable[[], bool]
    ) -> AsyncGenerator[list[OutputLine], None]:
        """The last `limit` lines, then what is written until `follows` is no longer true: it is
        asked again and again. With an `epoch`, it begins with all that this placement has
        written. Whoever stops reading closes it."""
        ...


class Attached(Protocol):
    """A connection to a guest's serial port."""

    async def read(self) -> bytes:
        """What the guest writes, as it is; empty once the guest has ended."""
        ...

    async def write(self, data: bytes) -> None:
        """Type; returns once the guest is about to read it."""
        ...

    def close(self) -> None: ...


class Consoles(Output, Protocol):
    """The consoles of the VMs of this host. They do not depend on the daemon."""

    async def attach(self, name: str) -> Attached:
        """Connect to a console. Raises `BlixardError` (NOT_RUNNING) if there is none now."""
        ...


@dataclass(frozen=True, slots=True)
class Checked:
    """A guest that is to be checked."""

    epoch: int
    """Of its placement: another one is another guest."""
    check: GuestCheck
    active_ms: int
    has_passed: bool = False
    """The cluster knows already that it serves: another daemon has found that out."""


class Checks(Protocol):
    """Asks the guests of this host, again and again, whether they serve."""

    def keep(self, wanted: Mapping[str, Checked]) -> None:
        """Check just these guests, by the names of their VMs, from now on."""
        ...

    def seen(self) -> Mapping[str, tuple[int, Tally]]:
        """What was found so far of the guests that are kept: the epoch, and the tally."""
        ...


class Unchecked:
    """Implements `Checks` where no guest can be asked."""

    def keep(self, wanted: Mapping[str, Checked]) -> None: ...

    def seen(self) -> Mapping[str, tuple[int, Tally]]:
        return {}


class Lives(Protocol):
    """Remembers this node's incarnation for as long as the host stays up: a reboot forgets it."""

    def load(self) -> int | None: ...

    def save(self, incarnation: int) -> None: ...


class Timed(StrEnum):
    """What is measured with a stopwatch."""

    COMMIT = "commit"
    """From the arrival of a command at the leader until it is applied there."""
    JOURNAL_SYNC = "journal-sync"
    """One write of the log, until it is durable."""
    STEP = "step"
    """A step of the agent, the leader's part included."""
    LEADER_STEP = "leader-step"
    BUILD = "build"


def _over() -> None: ...


class Meters:
    """What is told as it happens, to whoever measures. This one forgets it."""

    def timed(self, what: Timed) -> Callable[[], None]:  # noqa: ARG002 - for those who measure
        """Begin to measure. What is returned is called when it is over, if it ends well."""
        return _over

    def renewed(self, outcome: Outcome | Unavailable, left_ms: int | None) -> None:
        """What came of a renewal, with what was left of the lease then; None if there was none."""

    def lapsed(self, deadline_ms: int) -> None:
        """The lease that ran until `deadline_ms` is over. May be told more than once."""

    def landed(self, outcome: Outcome | Unavailable) -> None:
        """What came of a command of this node's own."""

    def starts_vm(self, name: str) -> None:
        """A VM begins to start on this host."""

    def saw(self, units: Mapping[str, SeenUnit] | None) -> None:
        """What a step has seen: see `Units.seen`."""

    def built(self, outcome: str) -> None:
        """A build has ended: `built`, or the code of the reason why not."""

    def called(self, method: str, code: str) -> None:
        """A call of the API has ended with a gRPC status."""

    def answered(self, method: str, seconds: float) -> None:
        """A call that has one answer has got it."""


UNMEASURED: Final = Meters()
"""Where nobody measures."""
