"""The client: finds the leader, repeats without acting twice, and says what it could not settle."""

import time
from pathlib import Path

import pytest

from blixard.errors import Code
from blixard.model import Rejected
from blixard.v1 import blixard_pb2 as pb
from blixard.wire.client import MAX_HOPS, CallFailed, Client
from blixard.wire.request_id import format_request_id, parse_request_id
from cli.fake_node import Context, FakeNode, a_node, a_vm, lose, no_leader, refuse

NOBODY = "127.0.0.1:1"


def client(*addresses: str, timeout_ms: int = 2_000) -> Client:
    return Client(addresses, timeout_ms=timeout_ms)


def ids(node: FakeNode, method: str) -> set[str]:
    """The request ids under which a procedure was asked for."""
    return {format_request_id(request.request_id) for request in node.called(method)}


def test_the_leader_is_found_and_remembered(node: FakeNode, other: FakeNode) -> None:
    node.leader = other.address
    with client(node.socket) as asked:
        assert list(asked.list_vms().vms) == []
        asked.list_vms()
    assert len(node.called("ListVms")) == 1
    assert len(other.called("ListVms")) == 2


def test_a_change_follows_the_leader_under_one_request_id(node: FakeNode, other: FakeNode) -> None:
    node.leader = other.address
    other.vms = {"web": a_vm("web", "stopped")}
    with client(node.socket) as asked:
        asked.start_vm(pb.StartVmRequest(name="web"))
    assert ids(node, "StartVm") == ids(other, "StartVm") == {"s1/1@40"}


def test_nodes_that_send_each_caller_on_are_not_followed_for_ever(
    node: FakeNode, other: FakeNode
) -> None:
    node.leader, other.leader = other.address, node.address
    with client(node.address, timeout_ms=40) as asked, pytest.raises(CallFailed) as caught:
        asked.list_vms()
    assert caught.value.rejected.code is Code.NO_LEADER
    assert len(node.called("ListVms")) == len(other.called("ListVms")) == 1


def test_at_most_three_hops_a_round(node: FakeNode) -> None:
    def send_on(_: object, context: Context) -> None:
        nowhere = f"127.0.0.{len(node.calls) + 1}:{node.address.partition(':')[2]}"
        refuse(context, Rejected(Code.NO_LEADER, "not me"), nowhere)

    node.script["ListVms"] = [send_on] * 9
    with client(node.socket, timeout_ms=40) as asked, pytest.raises(CallFailed) as caught:
        asked.list_vms()
    assert len(caught.value.facts) == 1 + MAX_HOPS


def test_every_address_is_tried(node: FakeNode) -> None:
    with client(NOBODY, "unix:/nonexistent/socket", node.address) as asked:
        asked.list_vms()


def test_a_node_that_hangs_does_not_hold_up_the_others(
    node: FakeNode, other: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blixard.wire.client.LONGEST_ATTEMPT_S", 0.2)
    node.script["ListVms"] = [node.hang]
    began = time.monotonic()
    with client(node.address, other.address) as asked:
        asked.list_vms()
    assert time.monotonic() - began < 1.5


def test_an_election_is_waited_out(node: FakeNode) -> None:
    node.script["ListVms"] = [no_leader, lose, no_leader]
    notices: list[str] = []
    with Client([node.socket], timeout_ms=5_000, notice=notices.append) as asked:
        asked.list_vms()
    assert notices == ["no node can serve this yet; trying for 5 s"]


def test_a_lost_answer_is_asked_for_again_and_the_change_made_once(node: FakeNode) -> None:
    node.lose_answers = 2
    request = pb.CreateVmRequest(name="web", store=pb.StoreSource(path="/nix/store/x"))
    with client(node.socket) as asked:
        response = asked.create_vm(request)
    assert response.vm.name == "web"
    assert len(node.called("CreateVm")) == 3
    assert ids(node, "CreateVm") == {"s1/1@40"}
    assert len(node.outcomes) == 1


def test_a_lost_answer_is_asked_for_at_the_next_leader(node: FakeNode, other: FakeNode) -> None:
    """The node that took the change is gone; the members it named before are asked instead."""
    node.nodes = [a_node(1, address=node.address), a_node(2, address=other.address)]
    node.script["StopVm"] = [node.die]
    other.vms = {"web": a_vm("web")}
    with client(node.socket) as asked:
        asked.stop_vm(pb.StopVmRequest(name="web"))
    assert ids(node, "StopVm") == ids(other, "StopVm") == {"s1/1@40"}


def test_a_proxy_for_the_web_is_not_asked(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{NOBODY}")
    monkeypatch.delenv("no_proxy", raising=False)
    with client(node.address) as asked:
        asked.list_vms()


def test_changes_of_one_session_are_numbered(node: FakeNode) -> None:
    node.vms = {"a": a_vm("a"), "b": a_vm("b")}
    with client(node.socket) as asked:
        asked.stop_vm(pb.StopVmRequest(name="a"))
        asked.stop_vm(pb.StopVmRequest(name="b"))
    assert len(node.called("OpenSession")) == 1
    assert ids(node, "StopVm") == {"s1/1@40", "s1/2@40"}


def test_an_outcome_that_stays_unknown_is_told_with_its_request_id(node: FakeNode) -> None:
    node.lose_answers = 99
    node.vms = {"web": a_vm("web")}
    with client(node.socket, timeout_ms=300) as asked, pytest.raises(CallFailed) as caught:
        asked.stop_vm(pb.StopVmRequest(name="web"))
    assert caught.value.rejected.code is Code.OUTCOME_UNKNOWN
    assert caught.value.request_id == "s1/1@40"
    assert len(node.called("StopVm")) > 1


def test_a_node_may_say_that_the_outcome_is_open(node: FakeNode) -> None:
    def deposed(_: object, context: Context) -> None:
        refuse(context, Rejected(Code.OUTCOME_UNKNOWN, "lost the lead"), maybe_applied=True)

    node.script["StopVm"] = [deposed, *[no_leader] * 99]
    with client(node.socket, timeout_ms=300) as asked, pytest.raises(CallFailed) as caught:
        asked.stop_vm(pb.StopVmRequest(name="web"))
    assert caught.value.rejected.code is Code.OUTCOME_UNKNOWN


def test_a_change_that_was_never_sent_is_no_open_outcome(node: FakeNode) -> None:
    request = parse_request_id("s9/1@3")
    with (
        Client([NOBODY], timeout_ms=200, request_id=request) as asked,
        pytest.raises(CallFailed) as caught,
    ):
        asked.stop_vm(pb.StopVmRequest(name="web"))
    assert caught.value.rejected.code is Code.NO_ROUTE
    assert caught.value.request_id == ""


def test_a_given_request_id_opens_no_session(node: FakeNode) -> None:
    node.vms = {"web": a_vm("web")}
    request = parse_request_id("s9/4@30")
    with Client([node.socket], timeout_ms=2_000, request_id=request) as asked:
        asked.stop_vm(pb.StopVmRequest(name="web"))
    assert node.called("OpenSession") == []
    assert ids(node, "StopVm") == {"s9/4@30"}


def test_a_refusal_is_final(node: FakeNode) -> None:
    with client(node.socket) as asked, pytest.raises(CallFailed) as caught:
        asked.stop_vm(pb.StopVmRequest(name="web"))
    assert caught.value.rejected.code is Code.NO_SUCH_VM
    assert len(node.called("StopVm")) == 1


def test_lost_quorum_is_told_node_by_node(node: FakeNode) -> None:
    node.nodes = [
        a_node(1, address=node.address),
        a_node(2, address=NOBODY),
        a_node(3, address="127.0.0.1:2"),
    ]
    node.script["ListVms"] = [no_leader] * 99
    with client(node.socket, timeout_ms=400) as asked, pytest.raises(CallFailed) as caught:
        asked.list_vms()
    assert caught.value.rejected.message == "no leader: 1 of 3 nodes answers, 2 are needed"
    assert f"{NOBODY} connection refused" in [" ".join(f.split()) for f in caught.value.facts]


def test_a_leader_without_a_majority_is_told_from_an_absent_node(node: FakeNode) -> None:
    """It cannot answer what needs a majority, and yet it is there."""
    node.nodes = [a_node(1, address=node.address), a_node(2, address=NOBODY)]
    node.script["ListVms"] = [node.hang] * 9
    with client(node.address, timeout_ms=1_000) as asked, pytest.raises(CallFailed) as caught:
        asked.list_vms()
    assert caught.value.rejected.message == "no leader: 1 of 2 nodes answers, 2 are needed"
    [hanging, absent] = caught.value.facts
    assert hanging.startswith(f"{node.address}  answers, but not to this in 0.")
    assert absent.split() == [NOBODY, "connection", "refused"]


def test_a_node_of_another_release_is_told_from_an_absent_one(node: FakeNode) -> None:
    def unknown(_: object, context: Context) -> None:
        import grpc

        context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    node.script["ListVms"] = [unknown]
    with client(node.socket) as asked, pytest.raises(CallFailed) as caught:
        asked.list_vms()
    [fact] = caught.value.facts
    assert fact.endswith("no Blixard node, or of another release: Method not found!")
    assert len(node.called("ListVms")) == 1


def test_a_stale_read_is_answered_by_whoever_is_asked(node: FakeNode, other: FakeNode) -> None:
    node.leader = other.address
    with client(node.socket) as asked:
        assert not asked.list_vms(stale=True).as_of.linearizable
    assert other.calls == []


def test_a_socket_that_is_not_there_is_told(tmp_path: Path) -> None:
    with client(f"unix:{tmp_path}/none", timeout_ms=60) as asked, pytest.raises(CallFailed) as c:
        asked.list_vms()
    assert c.value.facts == (f"unix:{tmp_path}/none  no such file",)


@pytest.mark.parametrize(
    "text", ["", "s1", "s1/1", "s1/x@1", "../1@1", "s1/1@-1", "s" * 65 + "/1@1"]
)
def test_what_is_no_request_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="SESSION/NUMBER@INDEX"):
        parse_request_id(text)
