"""Histories of clients: true ones from the real machine, false ones, and a slow judge of both."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from blixard import machine
from blixard.commands import (
    AddNode,
    Command,
    CreateVm,
    DeleteVm,
    Entry,
    PlaceVm,
    RegisterNode,
    ReportVm,
    RestartVm,
    SetPolicy,
    SettleNode,
    StartVm,
    StopVm,
)
from blixard.errors import Code
from blixard.model import (
    Accepted,
    Capacity,
    Cluster,
    Outcome,
    Reason,
    Rejected,
    State,
    VmSpec,
    Wanted,
)
from blixard.policy import OnQuorumLoss, Policy
from blixard.sim.operations import Absent, Answer, Call, Operation, Seen, Verb
from blixard.source import StoreSource

VERBS = (*Verb, Verb.READ, Verb.READ)
SOURCE = StoreSource("/nix/store/runner")
KEEP = Policy(OnQuorumLoss.KEEP)


class Table:
    """The real machine with one large host, whose VMs come and go by chance."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._cluster = Cluster()
        self._index = 0
        self.apply(AddNode(1, "a:1", "machine", "join"))
        self.apply(SettleNode(1, "join", is_member=True))
        self.apply(RegisterNode(1, "machine", "join", "a:1", 0, Capacity(999, 999_999), "1"))

    def apply(self, command: Command) -> Outcome:
        self._index += 1
        self._cluster, outcome = machine.apply(self._cluster, self._index, Entry(command, 0))
        return outcome

    def take(self, vm: str, call: Call) -> Answer:
        vcpus = 1_000 if self._random.random() < 0.05 else 1
        match call.verb:
            case Verb.READ:
                found = self._cluster.vms.get(vm)
                return Absent() if found is None else Seen(found.uid, found.wanted, found.policy)
            case Verb.CREATE:
                spec = VmSpec(SOURCE, vcpus, 1)
                return self.apply(CreateVm(vm, spec, call.wanted, policy=call.policy))
            case Verb.SET:
                return self.apply(SetPolicy(vm, call.policy))
            case Verb.START:
                return self.apply(StartVm(vm))
            case Verb.STOP:
                return self.apply(StopVm(vm))
            case Verb.RESTART:
                return self.apply(RestartVm(vm))
            case Verb.DELETE:
                return self.apply(DeleteVm(vm))

    def work(self) -> None:
        """The leader or the host does something about one VM."""
        if not self._cluster.vms:
            return
        vm = self._cluster.vms[self._random.choice(sorted(self._cluster.vms))]
        node = self._cluster.nodes[1]
        if vm.holder is None:
            self.apply(PlaceVm(vm.name, vm.uid, 1, node.incarnation))
            return
        said = self._random.choice((State.RUNNING, State.STOPPED, State.FAILED))
        self.apply(
            ReportVm(
                *(vm.name, vm.uid, 1, node.incarnation, vm.holder.epoch, node.session),
                *(said, Reason("said", "")),
            )
        )


@dataclass
class _Asked:
    operation: Operation
    done: Answer | None = None


def true_history(
    seed: int, count: int, *, clients: int = 3, vms: int = 1, lost: float = 0.1
) -> list[Operation]:
    """What `clients` saw of a table that did each thing at one moment. `lost` is the share of
    requests whose answer never comes; as many are forgotten when they are repeated."""
    random = Random(seed)
    table = Table(random)
    stamps = iter(range(1, 1 << 30))
    busy: dict[int, _Asked] = {}
    limbo: list[_Asked] = []
    history: list[Operation] = []
    while len(history) + len(busy) + len(limbo) < count or busy:
        if random.random() < 0.2:
            table.work()
        if limbo and random.random() < 0.1:
            late = limbo.pop(random.randrange(len(limbo)))
            history.append(late.operation)
            if late.done is None and random.random() < 0.7:
                table.take(late.operation.vm, late.operation.call)
        client = random.randrange(clients)
        asked = busy.get(client)
        if asked is None:
            if len(history) + len(busy) + len(limbo) < count:
                busy[client] = _Asked(_asked(random, client, vms, next(stamps)))
        elif random.random() < lost:
            limbo.append(busy.pop(client))
        elif asked.operation.call.verb is not Verb.READ and random.random() < lost:
            forgotten = Rejected(Code.REQUEST_FORGOTTEN, "")
            history.append(replace(asked.operation, ended=next(stamps), answer=forgotten))
            del busy[client]
        elif asked.done is None:
            asked.done = table.take(asked.operation.vm, asked.operation.call)
        else:
            history.append(replace(asked.operation, ended=next(stamps), answer=asked.done))
            del busy[client]
    return history + [late.operation for late in limbo]


def _asked(random: Random, client: int, vms: int, begun: int) -> Operation:
    wanted = random.choice((Wanted.RUNNING, Wanted.STOPPED))
    verb = random.choice(VERBS)
    policy = random.choice((Policy(), KEEP))
    call = Call(verb)
    if verb is Verb.CREATE:
        call = Call(verb, wanted, policy)
    elif verb is Verb.SET:
        call = Call(verb, policy=policy)
    return Operation(client, f"vm-{random.randrange(vms)}", call, begun)


def falsified(history: Sequence[Operation], random: Random) -> list[Operation]:
    """The history with one answer turned into another."""
    position = random.choice([at for at, one in enumerate(history) if not one.unknown])
    one = history[position]
    answer = random.choice([other for other in _lies(one) if other != one.answer])
    return [*history[:position], replace(one, answer=answer), *history[position + 1 :]]


def _lies(one: Operation) -> list[Answer]:
    if one.call.verb is Verb.READ:
        uid = one.index or 4
        seen = [Seen(uid + more, wanted) for more in (-1, 0, 1) for wanted in Wanted]
        return [Absent(), *seen, *[replace(one, policy=KEEP) for one in seen]]
    index = one.index or 4
    codes = (Code.EXISTS, Code.BUSY, Code.NO_SUCH_VM, Code.TOO_LARGE)
    return [Accepted(index), Accepted(index + 1), Accepted(index + 3), *map(refused, codes)]


def refused(code: Code) -> Rejected:
    return Rejected(code, "")


Truth = tuple[int, Wanted, Policy] | None
"""The uid of the VM of that name, what is wanted of it and its policy; None without one."""


def explainable(history: Sequence[Operation]) -> bool:
    """Try every order of a short history of one VM, with every uid and every vanishing."""
    uids = {one.index for one in history}

    def ends(truth: Truth, index: int, left: tuple[Operation, ...]) -> bool:
        if all(one.unknown for one in left):
            return True
        if truth is not None and truth[1] is Wanted.DELETED and ends(None, index, left):
            return True
        first_end = min(one.ended or 0 for one in left if not one.unknown)
        for one in left:
            if one.begun < first_end:
                rest = tuple(other for other in left if other is not one)
                for after, passed in _moments(truth, index, one, uids):
                    if ends(after, passed, rest):
                        return True
        return False

    return ends(None, 0, tuple(history))


def _moments(
    truth: Truth, index: int, one: Operation, uids: set[int]
) -> Iterator[tuple[Truth, int]]:
    """What may become of the VM when the operation takes its turn after `index`."""
    if isinstance(one.answer, Accepted):
        if one.index > index:
            yield from ((after, one.index) for after in _done(truth, one, one.index))
    elif one.unknown or one.forgotten:
        yield truth, index
        if one.call.verb is Verb.CREATE:
            for uid in {index + 1, *uids}:
                if uid > index:
                    yield from ((after, uid) for after in _done(truth, one, uid))
        elif one.call.verb is not Verb.READ:
            yield from ((after, index) for after in _done(truth, one, index))
    elif _true(truth, one):
        yield truth, index


def _done(truth: Truth, one: Operation, index: int) -> Iterator[Truth]:
    """The command takes effect at `index`; nothing if it would be refused."""
    match one.call.verb, truth:
        case Verb.CREATE, None:
            yield index, one.call.wanted, one.call.policy
        case Verb.DELETE, (uid, wanted, policy):
            yield uid, Wanted.DELETED, policy
            if wanted is not Wanted.DELETED:
                yield None
        case ((Verb.START | Verb.RESTART), (uid, Wanted.RUNNING | Wanted.STOPPED, policy)):
            yield uid, Wanted.RUNNING, policy
        case Verb.STOP, (uid, Wanted.RUNNING | Wanted.STOPPED, policy):
            yield uid, Wanted.STOPPED, policy
        case Verb.SET, (uid, (Wanted.RUNNING | Wanted.STOPPED) as wanted, _):
            yield uid, wanted, one.call.policy


def _true(truth: Truth, one: Operation) -> bool:
    """Whether an answer that changes nothing is right."""
    verb = one.call.verb
    tombstone = truth is not None and truth[1] is Wanted.DELETED
    match one.answer:
        case Seen(uid, wanted, policy):
            if truth is None or truth[:2] != (uid, wanted):
                return False
            return tombstone or truth[2] == policy
        case Absent():
            return truth is None
        case Rejected(Code.EXISTS):
            return verb is Verb.CREATE and truth is not None and not tombstone
        case Rejected(Code.BUSY):
            return tombstone or verb is not Verb.CREATE
        case Rejected(Code.NO_SUCH_VM):
            if verb is Verb.DELETE:
                return truth is None
            return verb is not Verb.CREATE and (truth is None or tombstone)
        case Rejected(Code.TOO_LARGE):
            if verb is Verb.CREATE:
                return truth is None
            return verb in (Verb.START, Verb.RESTART) and truth is not None and not tombstone
        case _:
            return True
