"""What `machine/vms.py` promises of one VM name, as far as its users can see it.

Users see whether there is a VM, its uid, what is wanted of it and its policy. Hosts change none of
that, but for one thing: a tombstone vanishes when its host reports. A VM that failed is still
wanted running.
"""

from dataclasses import dataclass, replace
from typing import Final

from blixard.errors import Code
from blixard.model import (
    Accepted,
    Rejected,
    Wanted,
)
from blixard.policy import Policy
from blixard.sim.operations import Absent, Call, Operation, Seen, Verb

_NO_LIMIT: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class VmState:
    """One VM name. A uid of 0 is not known yet: its creation was not answered, and nobody looked.

    A tombstone may vanish at any moment, or at once if no host held the VM. That takes no step of
    its own here: a deletion always leaves a tombstone, which is absent where an answer asks for it.
    """

    wanted: Wanted | None = None
    """None: there is no VM."""
    policy: Policy | None = None
    """None: there is no VM, or it is being deleted."""
    uid: int = 0
    low: int = 0
    """An unknown uid is at least this."""
    high: int = _NO_LIMIT
    """An unknown uid is below this."""
    floor: int = 0
    """The commands to come have a higher index."""

    @property
    def there(self) -> bool:
        """There is a VM, and it is not being deleted."""
        return self.wanted is not None and self.wanted is not Wanted.DELETED

    def __str__(self) -> str:
        if self.wanted is None:
            return "absent"
        return f"uid {self.uid or 'unknown'}, wanted {self.wanted}"


def answered(state: VmState, operation: Operation) -> VmState | None:
    """The state after an operation that was answered as it was; None if that cannot be."""
    verb = operation.call.verb
    match operation.answer:
        case Accepted(index):
            return _accepted(state, operation.call, index)
        case Seen(uid, wanted, policy):
            same = state.wanted is wanted and (state.policy == policy or not state.there)
            return _known(state, uid) if same else None
        case Absent():
            return _absent(state)
        case Rejected(Code.NO_SUCH_VM):
            if verb in (Verb.DELETE, Verb.READ):
                return _absent(state)
            return None if state.there or verb is Verb.CREATE else state
        case Rejected(Code.EXISTS):
            return state if state.there and verb is Verb.CREATE else None
        case Rejected(Code.BUSY) if verb is Verb.CREATE:
            return state if state.wanted is Wanted.DELETED else None
        case Rejected(Code.TOO_LARGE):
            if verb is Verb.CREATE:
                return _absent(state)
            return state if state.there and verb in (Verb.START, Verb.RESTART) else None
        case _:
            return state


def unanswered(state: VmState, call: Call, after: int) -> VmState | None:
    """The state after a call whose answer nobody knows took effect; None if it has none.

    `after` is an index that the log had passed when the call began.
    """
    if call.verb is Verb.CREATE:
        uid_low = max(state.floor, after) + 1
        made = VmState(call.wanted, call.policy, low=uid_low, floor=uid_low)
        return None if state.there else made
    if not state.there:
        return None
    changed = _changed(state, call)
    return None if changed == state else changed


def _accepted(state: VmState, call: Call, index: int) -> VmState | None:
    if index <= state.floor:
        return None
    if call.verb is Verb.CREATE:
        if state.there:
            return None
        return VmState(call.wanted, call.policy, uid=index, floor=index)
    if not state.there and not (call.verb is Verb.DELETE and state.wanted is Wanted.DELETED):
        return None
    high = state.high if state.uid else min(state.high, index)
    return replace(_changed(state, call), high=high, floor=index)


def _changed(state: VmState, call: Call) -> VmState:
    """What a call makes of a VM that is there."""
    if call.verb is Verb.SET:
        return replace(state, policy=call.policy)
    if call.verb is Verb.DELETE:
        return replace(state, wanted=Wanted.DELETED, policy=None)
    return replace(state, wanted=call.asks_for)


def _absent(state: VmState) -> VmState | None:
    return None if state.there else VmState(floor=state.floor)


def _known(state: VmState, uid: int) -> VmState | None:
    """The state, now that a read told the uid."""
    if state.uid:
        return state if state.uid == uid else None
    if not state.low <= uid < state.high:
        return None
    return VmState(state.wanted, state.policy, uid=uid, floor=max(state.floor, uid))
