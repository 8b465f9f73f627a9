"""`blixard vm why`, and `vm create --dry-run`: every node, and what each rule says of it."""

from typing import TYPE_CHECKING, Any, Final

from blixard.cli.connect import connected
from blixard.cli.output import Column, emit, emit_json, emit_table
from blixard.cli.terminal import Options, harmless
from blixard.cli.units import count, memory
from blixard.cli.vm_view import as_json, as_of_json, first_line, rules_text, source_text
from blixard.errors import Code

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb

_COLUMNS: Final = (
    Column("NODE"),
    Column("RANK"),
    Column("RULE", priority=1),
    Column("WHAT IT SAYS", priority=2),
)


def explain(name: str, options: Options) -> None:
    """Why a VM is where it is. Raises `Failure`."""
    from blixard.v1 import blixard_pb2 as pb
    from blixard.wire.calls import EXPLAIN_VM

    with connected(options) as client:
        answer = client.ask(EXPLAIN_VM, pb.ExplainVmRequest(name=name))
    if options.output == "json":
        emit_json("explanation", _as_json(answer))
        return
    emit(harmless(answer.headline))
    emit(_needs(answer.vm))
    if answer.vm.decision:
        emit("")
        emit("Placed last because:")
        for line in answer.vm.decision.split("\n"):
            emit(f"  {harmless(line)}")
    emit("")
    _show_nodes(answer, options)


def explain_candidate(request: "pb.CreateVmRequest", options: Options, timeout_ms: int) -> None:
    """Where a VM would go that nobody has created. Raises `Failure`, also if it would wait."""
    from blixard.cli.failure import failure
    from blixard.v1 import blixard_pb2 as pb
    from blixard.wire.calls import EXPLAIN_VM

    with connected(options, timeout_ms) as client:
        answer = client.ask(EXPLAIN_VM, pb.ExplainVmRequest(candidate=request))
    if options.output == "json":
        emit_json("explanation", _as_json(answer))
    else:
        emit(f"Would create {answer.vm.name} (nothing was changed)")
        emit(f"  Source    {source_text(answer.vm.source)}")
        emit(f"  {_needs(answer.vm)}")
        emit(f"  Place     {answer.node or 'none now'}")
        for warning in answer.warnings:
            emit(f"  Warning   {harmless(warning)}")
        emit("")
        _show_nodes(answer, options)
    if not answer.node and not request.stopped:
        raise failure(
            Code.WAIT_ENDED,
            f"{answer.vm.name} would be created, and wait for a node",
            why="no node can run it now",
        )


def _needs(vm: "pb.Vm") -> str:
    """What a VM asks of a node, in one line."""
    disk = f", {memory(vm.disk_mib)} of disk" if vm.disk_mib else ""
    tied = f"; tied to {vm.tied_to}: {first_line(vm.tie)}" if vm.tied_to else ""
    size = f"{count(vm.vcpus, 'vCPU')}, {memory(vm.memory_mib)}{disk}"
    return f"Needs     {size}; {rules_text(vm.policy)}{tied}"


def _show_nodes(answer: "pb.ExplainVmResponse", options: Options) -> None:
    """A row for each finding: why a node is refused, or what speaks for it."""
    rows = []
    for verdict in answer.verdicts:
        findings = [one for one in verdict.findings if one.refuses == (verdict.rank == 0)]
        for number, finding in enumerate(findings):
            name = _node_of(verdict, answer.vm) if number == 0 else ""
            rank = (str(verdict.rank) if verdict.rank else "no") if number == 0 else ""
            rows.append([name, rank, finding.rule, first_line(finding.text)])
    emit_table(_COLUMNS, rows, options, {})
    if answer.fixes:
        options.talk("You can:")
        for fix in answer.fixes:
            options.talk(f"  {fix.command}   {fix.text}" if fix.command else f"  {fix.text}")


def _node_of(verdict: "pb.Verdict", vm: "pb.Vm") -> str:
    return f"{verdict.node} *" if verdict.node == vm.node else verdict.node


def _as_json(answer: "pb.ExplainVmResponse") -> dict[str, Any]:
    return {
        "headline": answer.headline,
        "vm": as_json(answer.vm),
        "node": answer.node or None,
        "decision": answer.vm.decision or None,
        "nodes": [
            {
                "node": verdict.node,
                "rank": verdict.rank or None,
                "findings": [
                    {"rule": one.rule, "text": one.text, "refuses": one.refuses}
                    for one in verdict.findings
                ],
            }
            for verdict in answer.verdicts
        ],
        "fixes": [{"text": fix.text, "command": fix.command} for fix in answer.fixes],
        "warnings": list(answer.warnings),
        "as_of": as_of_json(answer.as_of),
    }
