"""What clients of a history asked, when, and what they were told."""

from dataclasses import dataclass, field
from enum import StrEnum

from blixard.errors import Code
from blixard.model import (
    Accepted,
    Rejected,
    Wanted,
)
from blixard.policy import OnQuorumLoss, Policy


class Verb(StrEnum):
    CREATE = "create"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    DELETE = "delete"
    SET = "set"
    """Replace the policy."""
    READ = "read"


@dataclass(frozen=True, slots=True)
class Call:
    """What a client asked. `wanted` and `policy` are what a creation asks for, and `policy` what is
    to be set; they mean nothing elsewhere."""

    verb: Verb
    wanted: Wanted = Wanted.RUNNING
    policy: Policy = field(default_factory=Policy)

    @property
    def asks_for(self) -> Wanted | None:
        """What is wanted of the VM once this has taken effect; None if it stays as it is."""
        match self.verb:
            case Verb.CREATE:
                return self.wanted
            case Verb.SET | Verb.READ:
                return None
            case Verb.STOP:
                return Wanted.STOPPED
            case Verb.DELETE:
                return Wanted.DELETED
            case _:
                return Wanted.RUNNING

    @property
    def effect(self) -> tuple[bool, Wanted | None, Policy | None]:
        """The same for all calls that do the same to a VM."""
        sets = self.verb in (Verb.CREATE, Verb.SET)
        return self.verb is Verb.CREATE, self.asks_for, self.policy if sets else None


@dataclass(frozen=True, slots=True)
class Absent:
    """A read: there is no such VM. `Rejected` with NO_SUCH_VM says the same."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A read: the VM is there. Wanted DELETED is the tombstone of one that a host still holds; its
    policy means nothing."""

    uid: int
    wanted: Wanted
    policy: Policy = field(default_factory=Policy)


Answer = Accepted | Rejected | Absent | Seen
"""What a client was told in the end. Of a request that was repeated this is the last answer, but
only if that settles all attempts: where an earlier one may have taken effect and the last found no
leader, nobody knows, and there is no answer. BUSY for a creation means a tombstone, so a refusal
because too many commands wait belongs into no history."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One request of a client, with all its repetitions, and what came of it."""

    client: int
    vm: str
    call: Call
    begun: int
    """This and `ended` are stamps: all of a history are different, and they grow with time."""
    ended: int | None = None
    """None if it was never answered."""
    answer: Answer | None = None

    @property
    def unknown(self) -> bool:
        """It may take effect at any time after it began, or never."""
        return self.answer is None or self._rejected(Code.OUTCOME_UNKNOWN)

    @property
    def forgotten(self) -> bool:
        """It took effect before it was answered, or never: the memory of outcomes was pruned."""
        return self._rejected(Code.REQUEST_FORGOTTEN)

    def _rejected(self, code: Code) -> bool:
        return isinstance(self.answer, Rejected) and self.answer.code is code

    @property
    def index(self) -> int:
        """The log index that its answer names, or 0."""
        match self.answer:
            case Accepted(index):
                return index
            case Seen(uid):
                return uid
            case _:
                return 0

    def __str__(self) -> str:
        asked = _shown(self.call.policy) if self.call.verb in (Verb.CREATE, Verb.SET) else ""
        if self.call.verb is Verb.CREATE:
            asked = f" ({self.call.wanted}){asked}"
        match self.answer:
            case Accepted(index):
                told = f"accepted at {index}"
            case Rejected(code):
                told = code.name
            case Seen(uid, wanted, policy):
                told = f"uid {uid}, wanted {wanted}{_shown(policy)}"
            case Absent():
                told = "absent"
            case None:
                told = "no answer"
        span = f"{self.begun}..{'' if self.ended is None else self.ended}"
        return f"{span} client {self.client}: {self.call.verb}{asked} -> {told}"


def _shown(policy: Policy) -> str:
    """A policy in short, unless it is the usual one."""
    if policy == Policy():
        return ""
    what = "keep" if policy.on_quorum_loss is OnQuorumLoss.KEEP else "stop"
    return f" [{what}, failover {policy.failover}, limit {policy.restart_limit}]"
