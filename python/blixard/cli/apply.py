"""`blixard vm apply`: let the cluster have the VMs that a host's configuration declares."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from blixard.cli.connect import connected, for_each
from blixard.cli.failure import Failure, failure, tell
from blixard.cli.output import emit, emit_json
from blixard.cli.source import complete, guest_check
from blixard.cli.terminal import Options
from blixard.config.declared import RULES, DeclaredVm, load_vms
from blixard.config.document import Misconfigured
from blixard.errors import Code
from blixard.model import Fix, Rejected
from blixard.policy import Relation

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb
    from blixard.wire.client import Client

LOCK_MS = 120_000
"""As `vm.LOCK_MS`."""

_ALWAYS: Final = ("vcpus", "memory_mib", "on_quorum_loss", "failover", "restart_limit")


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done about one VM."""

    name: str
    verb: str
    """create, change, take over, disown, keep, or leave to another."""
    note: str
    generation: int = 0


def apply(file: Path, owner: int, dry_run: bool, options: Options) -> None:
    """Declare what a file declares, for the node `owner`. Raises `Failure`."""
    wishes = {vm.name: vm for vm in _read(file)}
    requests = {name: _request(vm, options) for name, vm in wishes.items()}
    digests = {name: _digest(wishes[name], request) for name, request in requests.items()}
    done: list[Step] = []
    with connected(options, LOCK_MS) as client:
        present = {vm.name: vm for vm in client.list_vms().vms}
        steps = {step.name: step for step in plan(owner, digests, present)}

        def take(name: str) -> None:
            step = steps[name]
            if step.verb == "leave":
                raise Failure(_of_another(step, owner))
            if not dry_run:
                step = _taken(client, step, owner, requests.get(name), digests.get(name, ""))
            done.append(step)
            if options.output not in ("json", "name"):
                emit(f"{name}: {step.note}")
            elif options.output == "name" and step.verb != "keep":
                emit(name)

        try:
            for_each(in_order(steps, wishes), take, client, options)
        finally:
            if options.output == "json":
                items = [{"name": one.name, "verb": one.verb, "note": one.note} for one in done]
                emit_json("declaration_list", {"items": items, "dry_run": dry_run})
    if not steps:
        options.talk(f"{file} declares no VM, and node-{owner} owns none")


def plan(owner: int, digests: Mapping[str, str], present: Mapping[str, "pb.Vm"]) -> Iterator[Step]:
    """What is missing between what is declared and what is there."""
    for name, digest in digests.items():
        vm = present.get(name)
        if vm is None:
            yield Step(name, "create", "is created", 1)
        elif not vm.HasField("declared"):
            yield Step(name, "take over", f"belongs to node-{owner} from now on", 1)
        elif vm.declared.node_id != owner:
            same = vm.declared.digest == digest
            yield Step(name, "keep" if same else "leave", f"is declared by {vm.declared.node}")
        elif vm.declared.digest != digest:
            yield Step(name, "change", "is changed", vm.declared.generation + 1)
        else:
            yield Step(name, "keep", _unchanged(vm))
    for name, vm in present.items():
        if name not in digests and vm.HasField("declared") and vm.declared.node_id == owner:
            note = f"is declared no more, and goes on; to end it: blixard vm delete {name}"
            yield Step(name, "disown", note, vm.declared.generation + 1)


def in_order(names: Iterable[str], wishes: Mapping[str, DeclaredVm]) -> list[str]:
    """By name, but each VM after those that it is near: the law knows no group that nobody is in
    yet."""
    members: dict[str, list[str]] = {}
    for name, vm in sorted(wishes.items()):
        members.setdefault(name, []).append(name)
        members.setdefault(vm.group, []).append(name)
    ordered: list[str] = []
    begun: set[str] = set()

    def follow(name: str) -> None:
        if name in begun:
            return
        begun.add(name)
        for text in wishes[name].near if name in wishes else ():
            for other in members.get(Relation.parse(text).group, ()):
                follow(other)
        ordered.append(name)

    for name in sorted(names):
        follow(name)
    return ordered


def _unchanged(vm: "pb.Vm") -> str:
    if vm.declared.needs_restart:
        return f"is as declared once it is restarted: blixard vm restart {vm.name}"
    return "is as declared"


def _taken(
    client: "Client", step: Step, owner: int, request: "pb.CreateVmRequest | None", digest: str
) -> Step:
    from blixard.v1 import blixard_pb2 as pb

    match step.verb:
        case "keep":
            return step
        case "disown":
            disowned = pb.DisownVmRequest(name=step.name, node_id=owner, generation=step.generation)
            client.disown_vm(disowned)
            return step
    answer = client.declare_vm(
        pb.DeclareVmRequest(vm=request, node_id=owner, generation=step.generation, digest=digest)
    )
    restart = answer.HasField("vm") and answer.vm.declared.needs_restart
    note = f"{step.note}, once it is restarted: blixard vm restart {step.name}"
    return Step(step.name, step.verb, note if restart else step.note)


def _of_another(step: Step, owner: int) -> Rejected:
    return Rejected(
        Code.DECLARED,
        f"{step.name} {step.note}, and differently here",
        why=f"only its owner changes a VM, so node-{owner} changes nothing",
        fixes=(Fix("declare it on one node, or the same on both and rebuild the owner"),),
    )


def _read(file: Path) -> Sequence[DeclaredVm]:
    try:
        return load_vms(file)
    except Misconfigured as wrong:
        failures = [Failure(problem.rejected, facts=problem.facts) for problem in wrong.problems]
        raise _all_but_last(failures) from wrong


def _all_but_last(failures: list[Failure]) -> Failure:
    for failed in failures[:-1]:
        tell(failed, Options())
    return failures[-1]


def _request(vm: DeclaredVm, options: Options) -> "pb.CreateVmRequest":
    from blixard.v1 import blixard_pb2 as pb

    request = pb.CreateVmRequest(
        name=vm.name,
        vcpus=vm.vcpus,
        memory_mib=vm.memory_mib,
        disk_mib=vm.disk_mib,
        policy=_policy(vm),
    )
    try:
        complete(request, vm.source, options)
    except Failure as failed:
        message = f"vms.{vm.name}: {failed.rejected.message}"
        raise failure(
            failed.rejected.code,
            message,
            why=failed.rejected.why,
            fix=failed.rejected.fixes[0].text if failed.rejected.fixes else "",
        ) from failed
    return request


def _policy(vm: DeclaredVm) -> "pb.Policy":
    """What a table says of a policy; what it leaves out is as usual, whatever it was before."""
    from blixard.v1 import blixard_pb2 as pb

    parts = {
        "interval_ms": vm.check_interval_ms,
        "timeout_ms": vm.check_timeout_ms,
        "failures": vm.check_failures,
        "start_period_ms": vm.check_start_period_ms,
        "on_failure": vm.check_on_failure,
    }
    terms = {rule: pb.Terms(items=getattr(vm, rule)) for rule in RULES}
    return pb.Policy(
        on_quorum_loss=vm.on_quorum_loss,
        failover=vm.failover,
        restart_limit=vm.restart_limit,
        priority=vm.priority,
        strategy=vm.strategy,
        group=vm.group,
        check=guest_check(vm.check, parts),
        **cast("Mapping[str, Any]", terms),
    )


def _digest(vm: DeclaredVm, request: "pb.CreateVmRequest") -> str:
    """Names what is declared: the reference as it is written, for what it points to is settled
    when it is declared; or the content that travels."""
    packed = request.WhichOneof("source") == "packed"
    source = sha256(request.packed.content).hexdigest() if packed else vm.source
    attribute = request.packed.attribute if packed else ""
    usual = DeclaredVm(vm.name, vm.source)
    said = [source, attribute, *(getattr(vm, key) for key in _ALWAYS)]
    # What an earlier release did not know is told only if it is not as usual: its digests stay.
    later = {
        key: value
        for key, value in asdict(vm).items()
        if key not in (*_ALWAYS, "name", "source") and value != getattr(usual, key)
    }
    return sha256(json.dumps([*said, later] if later else said).encode()).hexdigest()[:32]
