"""The services over a real gRPC server: every refusal has its status, its reason and its remedy."""

import socket as sockets
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from blixard import codec
from blixard.commands import (
    DeclareNodeDown,
    Entry,
    PlaceVm,
    RegisterNode,
    ReportVm,
)
from blixard.errors import BlixardError, Code
from blixard.model import (
    Accepted,
    Capacity,
    Reason,
    State,
)
from blixard.ports import Unavailable
from blixard.v1 import blixard_pb2 as pb
from blixard.wire.node_log import NodeLog
from blixard.wire.server import ClusterService, RaftService, Server
from wire.conftest import FixedClock, FixedLocker, NoConsoles, Outsider, Served, Serving, no_raft
from wire.local_log import LocalLog

RUNNER = f"/nix/store/{'a' * 32}-microvm-web"


def _create(name: str = "web", **changes: Any) -> pb.CreateVmRequest:
    request = pb.CreateVmRequest(
        name=name, store=pb.StoreSource(path=RUNNER), vcpus=1, memory_mib=512
    )
    request.MergeFrom(pb.CreateVmRequest(**changes))
    return request


def _register(log: LocalLog, node_id: int = 1) -> int:
    """Register a node of 4 vCPUs and 4096 MiB; its incarnation."""
    outcomes: list[Any] = []
    command = RegisterNode(node_id, "m", "j", f"127.0.0.1:{node_id}", 0, Capacity(4, 4096), "0")
    log.propose(command, outcomes.append)
    assert isinstance(outcomes[0], Accepted), outcomes
    return log.index


def test_a_vm_is_created_and_listed(serving: Serving) -> None:
    async def story(served: Served) -> None:
        answer = await served.stub.CreateVm(_create())
        assert (answer.vm.name, answer.vm.state, answer.vm.wanted) == ("web", "pending", "running")
        listed = await served.stub.ListVms(pb.ListVmsRequest())
        assert [vm.name for vm in listed.vms] == ["web"]
        assert listed.as_of.linearizable
        shown = await served.stub.GetVmStatus(pb.GetVmStatusRequest(name="web"))
        assert shown.vm.source.store.path == RUNNER

    serving(story)


def test_a_flake_reference_is_locked_before_it_enters_the_log(serving: Serving) -> None:
    async def story(served: Served) -> None:
        request = pb.CreateVmRequest(
            name="web",
            flake=pb.FlakeReference(url="github:me/infra", attribute="web"),
            vcpus=1,
            memory_mib=512,
        )
        answer = await served.stub.CreateVm(request)
        assert answer.vm.source.flake.url == "github:me/infra/1234"
        request.name, request.flake.url = "api", "github:nobody/nothing"
        status, refused = await served.refusal(lambda: served.stub.CreateVm(request))
        assert refused.rejected.code is Code.SOURCE_UNREADABLE
        assert status is grpc.StatusCode.FAILED_PRECONDITION
        assert refused.rejected.fixes[0].text == "check its name"

    serving(story)


BAD_REQUESTS = [
    (_create("Web"), "name"),
    (_create("-web"), "name"),
    (_create("a" * 64), "name"),
    (_create("web\n"), "name"),
    (pb.CreateVmRequest(name="web"), "vcpus"),
    (_create(vcpus=1025), "vcpus"),
    (_create(memory_mib=2**31), "memory_mib"),
    (pb.CreateVmRequest(name="web", vcpus=1, memory_mib=15), "memory_mib"),
    (pb.CreateVmRequest(name="web", vcpus=1, memory_mib=64), "source"),
    (_create(store=pb.StoreSource(path="/etc/passwd")), "source"),
    (_create(flake=pb.FlakeReference(url="-x", attribute="web")), "source"),
    (_create(flake=pb.FlakeReference(url="github:a/b;ls", attribute="web")), "source"),
    (_create(flake=pb.FlakeReference(url="github:a/b", attribute="a b")), "source"),
    (_create(packed=pb.PackedArchive(content=b"", attribute="web")), "source"),
    (_create(request_id=pb.RequestId(session="s" * 65, number=1)), "request_id"),
]


@pytest.mark.parametrize(("request_", "field"), BAD_REQUESTS)
def test_a_request_of_a_bad_shape_names_its_field(
    serving: Serving, request_: pb.CreateVmRequest, field: str
) -> None:
    async def story(served: Served) -> None:
        status, refused = await served.refusal(lambda: served.stub.CreateVm(request_))
        assert status is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.rejected.message.startswith(field)
        assert refused.rejected.fixes
        assert not served.log.cluster().vms

    serving(story)


def test_a_source_that_is_too_large_is_refused_with_the_way_out(serving: Serving) -> None:
    async def story(served: Served) -> None:
        archive = pb.PackedArchive(content=b"x" * (256 * 1024 + 1), attribute="web")
        status, refused = await served.refusal(
            lambda: served.stub.CreateVm(_create(packed=archive))
        )
        assert status is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.rejected.code is Code.SOURCE_TOO_LARGE
        assert "git" in refused.rejected.fixes[0].text

    serving(story)


def test_rejections_of_the_law_keep_their_class(serving: Serving) -> None:
    async def story(served: Served) -> None:
        _register(served.log)
        await served.stub.CreateVm(_create())
        cases = [
            (lambda: served.stub.CreateVm(_create()), grpc.StatusCode.ALREADY_EXISTS),
            (
                lambda: served.stub.StartVm(pb.StartVmRequest(name="wbe")),
                grpc.StatusCode.NOT_FOUND,
            ),
            (
                lambda: served.stub.GetVmStatus(pb.GetVmStatusRequest(name="wbe")),
                grpc.StatusCode.NOT_FOUND,
            ),
            (
                lambda: served.stub.CreateVm(_create("big", vcpus=5)),
                grpc.StatusCode.FAILED_PRECONDITION,
            ),
        ]
        for call, expected in cases:
            status, refused = await served.refusal(call)
            assert status is expected
            assert refused.rejected.fixes

    serving(story)


def test_a_retry_with_the_same_request_id_acts_once(serving: Serving) -> None:
    async def story(served: Served) -> None:
        opened = await served.stub.OpenSession(pb.OpenSessionRequest())
        request_id = pb.RequestId(session=opened.session, number=1, base_index=opened.base_index)
        first = await served.stub.CreateVm(_create(request_id=request_id))
        again = await served.stub.CreateVm(_create(request_id=request_id))
        assert again.index == first.index
        status, _ = await served.refusal(lambda: served.stub.CreateVm(_create()))
        assert status is grpc.StatusCode.ALREADY_EXISTS

    serving(story)


def test_a_follower_sends_the_caller_to_the_leader(serving: Serving) -> None:
    async def story(served: Served) -> None:
        served.log.leader_id = 2
        served.log.unavailable = Unavailable("does not lead", 2)
        for call in (
            lambda: served.stub.CreateVm(_create()),
            lambda: served.stub.StartVm(pb.StartVmRequest(name="web")),
            lambda: served.stub.ListVms(pb.ListVmsRequest()),
        ):
            status, refused = await served.refusal(call)
            assert status is grpc.StatusCode.UNAVAILABLE
            assert refused.leader_address == "127.0.0.1:2"
        stale = await served.stub.ListVms(pb.ListVmsRequest(stale=True))
        assert not stale.as_of.linearizable

    serving(story)


def test_an_outcome_that_is_unknown_says_so(serving: Serving) -> None:
    async def story(served: Served) -> None:
        served.log.unavailable = Unavailable("lost leadership", maybe_applied=True)
        status, refused = await served.refusal(lambda: served.stub.CreateVm(_create()))
        assert status is grpc.StatusCode.UNAVAILABLE
        assert refused.maybe_applied
        assert refused.rejected.code is Code.OUTCOME_UNKNOWN

    serving(story)


def test_a_vm_on_a_silent_host_is_as_the_log_says_with_a_remark(serving: Serving) -> None:
    async def story(served: Served) -> None:
        incarnation = _register(served.log)
        created = await served.stub.CreateVm(_create())
        served.log.propose(PlaceVm("web", created.vm.uid, 1, incarnation), lambda _: None)
        report = ReportVm(
            "web",
            created.vm.uid,
            1,
            incarnation,
            served.log.index,
            incarnation,
            State.RUNNING,
            Reason("a", "b"),
        )
        served.log.propose(report, lambda _: None)
        shown = await served.stub.GetVmStatus(pb.GetVmStatusRequest(name="web"))
        assert (shown.vm.state, shown.vm.node, shown.vm.remark) == ("running", "node-1", "")
        assert (shown.vm.mode, shown.vm.tied_to) == ("best-effort", "")
        served.log.node_id = served.log.leader_id = 2
        served.log.heard_ms = {1: 4_000, 3: 10}
        shown = await served.stub.GetVmStatus(pb.GetVmStatusRequest(name="web"))
        assert shown.vm.state == "running"
        assert shown.vm.remark.startswith("node-1 does not answer")
        [node] = (await served.stub.GetClusterStatus(pb.GetClusterStatusRequest())).nodes
        assert (node.state, node.silent, node.renewed_ms_ago) == ("up", True, 0)
        served.log.propose(DeclareNodeDown(1, incarnation, 0), lambda _: None)
        [node] = (await served.stub.GetClusterStatus(pb.GetClusterStatusRequest())).nodes
        assert (node.state, node.HasField("renewed_ms_ago")) == ("down", False)
        shown = await served.stub.GetVmStatus(pb.GetVmStatusRequest(name="web"))
        assert (shown.vm.state, shown.vm.mode) == ("pending", "")

    serving(story)


def test_a_node_is_confirmed_down_once_its_lease_is_over(serving: Serving) -> None:
    async def story(served: Served) -> None:
        incarnation = _register(served.log)
        request = pb.ConfirmNodeDownRequest(
            node_id=1, name="node-1", by="anna@desk", incarnation=incarnation
        )
        status, refused = await served.refusal(lambda: served.stub.ConfirmNodeDown(request))
        assert (status, refused.rejected.code) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            Code.LEASE_RUNS,
        )
        served.log.propose(DeclareNodeDown(1, incarnation, 0), lambda _: None)
        assert "held no VM" in (await served.stub.ConfirmNodeDown(request)).note
        request.name = "node-2"
        status, refused = await served.refusal(lambda: served.stub.ConfirmNodeDown(request))
        assert refused.rejected.code is Code.DECLINED
        request.name, request.by = "node-1", ""
        status, refused = await served.refusal(lambda: served.stub.ConfirmNodeDown(request))
        assert status is grpc.StatusCode.INVALID_ARGUMENT
        request = pb.ConfirmNodeDownRequest(node_id=7, name="node-7", by="anna")
        status, _ = await served.refusal(lambda: served.stub.ConfirmNodeDown(request))
        assert status is grpc.StatusCode.NOT_FOUND

    serving(story)


def test_only_a_nodes_own_reports_are_submitted(serving: Serving) -> None:
    async def story(served: Served) -> None:
        register = RegisterNode(1, "m", "j", "127.0.0.1:1", 0, Capacity(4, 4096), "0")
        entry = codec.encode_entry(Entry(register, 0))
        answer = await served.stub.SubmitReport(pb.SubmitReportRequest(node_id=1, entry=entry))
        assert isinstance(codec.decode_outcome(answer.outcome), Accepted)
        place = codec.encode_entry(Entry(PlaceVm("web", 1, 1, 1), 0))
        for node_id, bad in ((2, entry), (1, place), (1, b"junk")):
            request = pb.SubmitReportRequest(node_id=node_id, entry=bad)
            status, _ = await served.refusal(partial(served.stub.SubmitReport, request))
            assert status is grpc.StatusCode.INVALID_ARGUMENT

    serving(story)


def test_a_node_that_does_not_answer_is_not_admitted(serving: Serving) -> None:
    async def story(served: Served) -> None:
        request = pb.JoinClusterRequest(node_id=4, bind_address="127.0.0.1:9", join_id="x")
        _, refused = await served.refusal(lambda: served.stub.JoinCluster(request))
        assert refused.rejected.code is Code.NO_ROUTE
        assert 4 not in served.log.cluster().nodes

    serving(story)


def test_a_removal_that_would_break_quorum_is_refused(serving: Serving) -> None:
    async def story(served: Served) -> None:
        served.log.heard_ms = {2: 0, 3: 10_000}
        request = pb.LeaveClusterRequest(node_id=2)
        status, refused = await served.refusal(lambda: served.stub.LeaveCluster(request))
        assert status is grpc.StatusCode.FAILED_PRECONDITION
        assert refused.rejected.code is Code.WOULD_BREAK_QUORUM

    serving(story)


def test_before_it_belongs_to_a_cluster_a_node_says_so(serving: Serving) -> None:
    async def story(served: Served) -> None:
        served.node._log = None
        status, refused = await served.refusal(lambda: served.stub.ListVms(pb.ListVmsRequest()))
        assert status is grpc.StatusCode.UNAVAILABLE
        assert "no cluster" in refused.rejected.message
        greeting = await served.stub.Greet(pb.GreetRequest(node_id=2))
        assert (greeting.node_id, greeting.cluster_id) == (1, "")
        assert not (await served.stub.HealthCheck(pb.HealthCheckRequest())).healthy
        joined = await served.stub.JoinThrough(pb.JoinThroughRequest(address="127.0.0.1:7"))
        assert joined.cluster_id == "joined through 127.0.0.1:7"
        status, _ = await served.refusal(
            lambda: served.stub.JoinThrough(pb.JoinThroughRequest(address="nonsense"))
        )
        assert status is grpc.StatusCode.INVALID_ARGUMENT

    serving(story)


def test_health_and_reflection_answer(serving: Serving) -> None:
    async def story(served: Served) -> None:
        health = await served.health.Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        asked = reflection_pb2.ServerReflectionRequest(list_services="")

        async def requests() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
            yield asked

        async for answer in served.reflection.ServerReflectionInfo(requests()):
            names = {service.name for service in answer.list_services_response.service}
            assert {"blixard.v1.ClusterService", "blixard.v1.BlixardService"} <= names

    serving(story)


def test_the_socket_is_for_its_group_and_a_used_port_is_named(
    serving: Serving, tmp_path: Path
) -> None:
    async def story(served: Served) -> None:
        assert served.socket.stat().st_mode & 0o777 == 0o660
        raft = await served.raft.GetRaftStatus(pb.GetRaftStatusRequest())
        assert (raft.is_leader, raft.term) == (True, 3)
        node = NodeLog(2, FixedClock())
        first, second = (
            Server(
                ClusterService(
                    node, Outsider(), no_raft, FixedLocker(), NoConsoles(), NoConsoles()
                ),
                RaftService(node),
            )
            for _ in range(2)
        )
        with sockets.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            bind = f"127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(BlixardError, match="in use") as caught:
                await first.start(bind, tmp_path / "first.sock")
        assert caught.value.code is Code.ADDRESS_IN_USE
        precious = tmp_path / "notes"
        precious.write_text("kept")
        for taken_path in (precious, served.socket):
            other = Server(
                ClusterService(
                    node, Outsider(), no_raft, FixedLocker(), NoConsoles(), NoConsoles()
                ),
                RaftService(node),
            )
            with pytest.raises(BlixardError, match="cannot listen on"):
                await other.start("127.0.0.1:0", taken_path)
        assert precious.read_text() == "kept"
        assert served.socket.is_socket()
        with pytest.raises(BlixardError, match="cannot listen on"):
            await second.start("127.0.0.1:0", tmp_path / ("long" * 40) / "second.sock")

    serving(story)
