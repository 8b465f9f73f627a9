"""Where VMs run, asked over a real gRPC server."""

from functools import partial
from typing import Any

import grpc

from blixard.commands import AddNode, HandOverVm, PlaceVm, RegisterNode, ReportVm, SettleNode
from blixard.errors import Code
from blixard.model import Accepted, Capacity, Reason, State
from blixard.policy import Failover, Policy
from blixard.v1 import blixard_pb2 as pb
from blixard.wire import policies
from wire.conftest import Served, Serving

RUNNER = f"/nix/store/{'a' * 32}-microvm-web"


BAD_CHECKS = (
    pb.GuestCheck(kind="ping", target="10.0.0.9"),
    pb.GuestCheck(kind="tcp", target="10.0.0.9"),
    pb.GuestCheck(kind="tcp", target="10.0.0.9:70000"),
    pb.GuestCheck(kind="tcp"),
    pb.GuestCheck(kind="http", target="ftp://10.0.0.9/"),
    pb.GuestCheck(kind="http", target="http://[fd00::1/"),
    pb.GuestCheck(kind="command", target="true"),
    pb.GuestCheck(kind="command", target="/bin/sh -c 'true"),
    pb.GuestCheck(kind="console", target="two\nlines"),
    pb.GuestCheck(kind="tcp", target="a:1", interval_ms=999),
    pb.GuestCheck(kind="tcp", target="a:1", timeout_ms=60_001),
    pb.GuestCheck(kind="tcp", target="a:1", failures=101),
    pb.GuestCheck(kind="tcp", target="a:1", start_period_ms=3_600_001),
    pb.GuestCheck(kind="tcp", target="a:1", on_failure="reboot"),
)


def create(name: str = "web", **changes: Any) -> pb.CreateVmRequest:
    request = pb.CreateVmRequest(
        name=name, store=pb.StoreSource(path=RUNNER), vcpus=1, memory_mib=512
    )
    request.MergeFrom(pb.CreateVmRequest(**changes))
    return request


def applied(served: Served, command: Any) -> int:
    """Have a command decided; its index."""
    outcomes: list[Any] = []
    served.log.propose(command, outcomes.append)
    assert isinstance(outcomes[0], Accepted), outcomes
    return served.log.index


async def settled(served: Served) -> None:
    """Two nodes of 2 vCPUs and 2048 MiB, and a VM that runs on the first."""
    for node_id in (1, 2):
        address = f"127.0.0.1:{node_id}"
        size = Capacity(2, 2048)
        labels = {"zone": "ab"[node_id - 1]}
        if node_id == 1:
            applied(served, RegisterNode(1, "m", "j", address, 0, size, "0", labels=labels))
        else:
            applied(served, AddNode(2, address, "m2", "j2"))
            applied(served, SettleNode(2, "j2", is_member=True))
            applied(served, RegisterNode(2, "m2", "j2", address, 0, size, "0", labels=labels))
    await served.stub.CreateVm(create(policy=pb.Policy(failover="always")))
    uid, life = served.log.index, served.log.cluster().nodes[1].incarnation
    epoch = applied(served, PlaceVm("web", uid, 1, life, "node-1: it is free"))
    session = served.log.cluster().nodes[1].session
    said = Reason("active", "runs on node-1")
    applied(served, ReportVm("web", uid, 1, life, epoch, session, State.RUNNING, said))


def test_a_policy_is_set_in_parts(serving: Serving) -> None:
    async def story(served: Served) -> None:
        created = await served.stub.CreateVm(create(policy=pb.Policy(failover="never")))
        usual = policies.shown(Policy(failover=Failover.NEVER))
        assert created.vm.policy == usual
        request = pb.SetVmPolicyRequest(name="web", policy=pb.Policy(restart_limit=0))
        changed = await served.stub.SetVmPolicy(request)
        usual.restart_limit = 0
        assert changed.vm.policy == usual
        for policy in (
            pb.Policy(),
            pb.Policy(failover="sometimes"),
            pb.Policy(on_quorum_loss=""),
            pb.Policy(restart_limit=1001),
            pb.Policy(priority=1001),
            pb.Policy(strategy="first"),
            pb.Policy(group="a b"),
            pb.Policy(require=pb.Terms(items=["zone"])),
            pb.Policy(prefer=pb.Terms(items=["zone=a=b"])),
            pb.Policy(near=pb.Terms(items=["/zone"])),
            pb.Policy(apart=pb.Terms(items=["web"] * 17)),
            *(pb.Policy(check=check) for check in BAD_CHECKS),
        ):
            request = pb.SetVmPolicyRequest(name="web", policy=policy)
            status, refused = await served.refusal(partial(served.stub.SetVmPolicy, request))
            assert status is grpc.StatusCode.INVALID_ARGUMENT
            assert refused.rejected.fixes
        request = pb.SetVmPolicyRequest(name="wbe", policy=usual)
        status, _ = await served.refusal(lambda: served.stub.SetVmPolicy(request))
        assert status is grpc.StatusCode.NOT_FOUND

    serving(story)


def test_why_a_vm_is_where_it_is(serving: Serving) -> None:
    async def story(served: Served) -> None:
        await settled(served)
        told = await served.stub.ExplainVm(pb.ExplainVmRequest(name="web"))
        assert told.headline == "web is running on node-1: runs on node-1"
        assert told.vm.decision == "node-1: it is free"
        assert [(one.node, one.rank) for one in told.verdicts] == [("node-1", 1), ("node-2", 2)]
        findings = {one.rule: one.text for one in told.verdicts[0].findings}
        assert findings == {"last": "web ran here last", "spread": "2048 of 2048 MiB free"}
        asked = pb.ExplainVmRequest(name="wbe")
        status, _ = await served.refusal(lambda: served.stub.ExplainVm(asked))
        assert status is grpc.StatusCode.NOT_FOUND

    serving(story)


def test_where_a_vm_would_go_that_nobody_has_created(serving: Serving) -> None:
    async def story(served: Served) -> None:
        await settled(served)
        index = served.log.index
        candidate = create("db", memory_mib=2048)
        told = await served.stub.ExplainVm(pb.ExplainVmRequest(candidate=candidate))
        assert told.node == "node-2"
        refused = next(one for one in told.verdicts if one.node == "node-1")
        assert [(one.rule, one.text) for one in refused.findings if one.refuses] == [
            ("fit", "1536 of 2048 MiB free, 2048 wanted")
        ]
        assert "if node-2 were lost, no other node could run db" in told.warnings[0]
        assert served.log.index == index, "nothing was proposed"
        assert "db" not in served.log.cluster().vms
        for bad, code in (
            (create("db", memory_mib=4096), Code.TOO_LARGE),
            (create("web"), Code.EXISTS),
            (
                create("db", policy=pb.Policy(require=pb.Terms(items=["zone=a", "zone=b"]))),
                Code.CONTRADICTION,
            ),
            (create("db", policy=pb.Policy(near=pb.Terms(items=["nobody"]))), Code.NO_SUCH_VM),
        ):
            asked = pb.ExplainVmRequest(candidate=bad)
            _, refusal = await served.refusal(partial(served.stub.ExplainVm, asked))
            assert refusal.rejected.code is code
            _, refusal = await served.refusal(partial(served.stub.CreateVm, bad))
            assert refusal.rejected.code is code, "as if it were created"
            assert refusal.rejected.fixes

    serving(story)


def test_a_pending_vm_names_the_way_out(serving: Serving) -> None:
    async def story(served: Served) -> None:
        await settled(served)
        for node_id in (1, 2):
            await served.stub.DrainNode(pb.DrainNodeRequest(node_id=node_id, reason="update"))
        await served.stub.CreateVm(create("db"))
        told = await served.stub.ExplainVm(pb.ExplainVmRequest(name="db"))
        assert (told.headline, told.node) == ("db is pending: no node can run it", "")
        assert [fix.command for fix in told.fixes] == [
            "blixard node resume node-1",
            "blixard node resume node-2",
        ]

    serving(story)


def test_the_way_out_for_a_declared_vm_is_its_declaration(serving: Serving) -> None:
    """`vm set` would be refused."""

    async def story(served: Served) -> None:
        await settled(served)
        nowhere = create("db", policy=pb.Policy(require=pb.Terms(items=["zone=moon"])))
        declared = pb.DeclareVmRequest(vm=nowhere, node_id=2, generation=1, digest="0" * 32)
        await served.stub.DeclareVm(declared)
        told = await served.stub.ExplainVm(pb.ExplainVmRequest(name="db"))
        fix = told.fixes[0]
        where = "services.blixard.vms.db.require on node-2"
        assert fix.text == f"require nothing, and start it on node-1: {where}"
        assert not fix.command

    serving(story)


def test_a_move_without_a_target_goes_to_the_best_other_node(serving: Serving) -> None:
    async def story(served: Served) -> None:
        await settled(served)
        moved = await served.stub.MoveVm(pb.MoveVmRequest(name="web"))
        assert (moved.vm.move.to, moved.vm.move.state) == ("node-2", "preparing")
        assert moved.vm.node == "node-1"
        vm = served.log.cluster().vms["web"]
        assert vm.holder is not None
        life = served.log.cluster().nodes[2].incarnation
        applied(served, HandOverVm("web", vm.uid, vm.holder.epoch, 2, life))
        seen = await served.stub.GetVmStatus(pb.GetVmStatusRequest(name="web"))
        assert (seen.vm.state, seen.vm.move.state) == ("stopping", "stopping")
        for request, code in (
            (pb.MoveVmRequest(name="wbe"), Code.NO_SUCH_VM),
            (pb.MoveVmRequest(name="web", to="node-9"), Code.NO_SUCH_NODE),
            (pb.MoveVmRequest(name="web", to="node-2"), Code.BUSY),
            (pb.MoveVmRequest(name="web", grace_ms=4_000_000), Code.BAD_ARGUMENT),
        ):
            _, refused = await served.refusal(partial(served.stub.MoveVm, request))
            assert refused.rejected.code is code
            assert refused.rejected.fixes

    serving(story)


def test_a_vm_that_no_other_node_can_run_does_not_move(serving: Serving) -> None:
    async def story(served: Served) -> None:
        await settled(served)
        await served.stub.DrainNode(pb.DrainNodeRequest(node_id=2))
        request = pb.MoveVmRequest(name="web")
        _, refused = await served.refusal(lambda: served.stub.MoveVm(request))
        assert refused.rejected.message == "web cannot run on any other node"
        assert "node-2: is drained" in refused.rejected.why
        assert served.log.cluster().vms["web"].move is None

    serving(story)


def test_a_drain_is_planned_begun_and_ended(serving: Serving) -> None:
    async def story(served: Served) -> None:
        await settled(served)
        plan = await served.stub.PlanDrain(pb.PlanDrainRequest(node_id=1))
        assert [(step.vm, step.to) for step in plan.steps] == [("web", "node-2")]
        assert not plan.node.HasField("drain")
        await served.stub.DrainNode(pb.DrainNodeRequest(node_id=1, reason="update"))
        plan = await served.stub.PlanDrain(pb.PlanDrainRequest(node_id=1))
        assert (plan.node.state, plan.node.drain.reason) == ("draining", "update")
        resumed = await served.stub.ResumeNode(pb.ResumeNodeRequest(node_id=1))
        assert resumed.index == served.log.index
        assert served.log.cluster().nodes[1].drain is None
        for call, request in (
            (served.stub.DrainNode, pb.DrainNodeRequest(node_id=9)),
            (served.stub.ResumeNode, pb.ResumeNodeRequest(node_id=9)),
            (served.stub.PlanDrain, pb.PlanDrainRequest(node_id=9)),
        ):
            status, _ = await served.refusal(partial(call, request))
            assert status is grpc.StatusCode.NOT_FOUND
        long = pb.DrainNodeRequest(node_id=1, reason="x" * 201)
        status, _ = await served.refusal(lambda: served.stub.DrainNode(long))
        assert status is grpc.StatusCode.INVALID_ARGUMENT

    serving(story)


def test_what_the_loss_of_a_node_would_leave_without_a_host_is_told(serving: Serving) -> None:
    async def story(served: Served) -> None:
        await settled(served)
        seen = await served.stub.GetClusterStatus(pb.GetClusterStatusRequest())
        assert not seen.exposed
        await served.stub.DrainNode(pb.DrainNodeRequest(node_id=2))
        seen = await served.stub.GetClusterStatus(pb.GetClusterStatusRequest())
        assert [(one.node, list(one.vms)) for one in seen.exposed] == [("node-1", ["web"])]
        seen = await served.stub.GetClusterStatus(pb.GetClusterStatusRequest(stale=True))
        assert not seen.exposed, "only the leader knows who answers"

    serving(story)
