"""What clients of a history asked, when, and what they were told."""

from dataclasses import dataclass
from enum import StrEnum

from blixard.errors import Code
from blixard.model import Accepted, Rejected, Wanted


class Verb(StrEnum):
    CREATE = "create"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    DELETE = "delete"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Call:
    """What a client asked; `wanted` is what a creation asks for, and means nothing elsewhere."""

    verb: Verb
    wanted: Wanted = Wanted.RUNNING

    @property
    def asks_for(self) -> Wanted:
        """What is wanted of the VM if this takes effect. Reads have none."""
        match self.verb:
            case Verb.CREATE:
                return self.wanted
            case Verb.STOP:
                return Wanted.STOPPED
            case Verb.DELETE:
                return Wanted.DELETED
            case _:
                return Wanted.RUNNING


@dataclass(frozen=True, slots=True)
class Absent:
    """A read: there is no such VM. `Rejected` with NO_SUCH_VM says the same."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A read: the VM is there. Wanted DELETED is the tombstone of one that a host still holds."""

    uid: int
    wanted: Wanted


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
        made = f" ({self.call.wanted})" if self.call.verb is Verb.CREATE else ""
        match self.answer:
            case Accepted(index):
                told = f"accepted at {index}"
            case Rejected(code):
                told = code.name
            case Seen(uid, wanted):
                told = f"uid {uid}, wanted {wanted}"
            case Absent():
                told = "absent"
            case None:
                told = "no answer"
        span = f"{self.begun}..{'' if self.ended is None else self.ended}"
        return f"{span} client {self.client}: {self.call.verb}{made} -> {told}"
