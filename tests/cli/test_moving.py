"""`blixard vm move`: every end of the wait has its own exit code."""

import pytest

from blixard.v1 import blixard_pb2 as pb
from cli.conftest import Run
from cli.fake_node import FakeNode, a_vm
from cli.test_wait import turns

MOVE = pb.Move(to="node-2", state="preparing", text="node-2 gets ready", by="anna")
ARRIVED = a_vm("web", node="node-2", node_id=2, reason=pb.Reason(text="runs on node-2"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blixard.cli.moving.POLL_S", 0.01)


def moves(node: FakeNode, note: str = "") -> None:
    node.vms["web"] = a_vm("web", move=MOVE)
    answer = pb.ChangeResponse(index=50, note=note, vm=node.vms["web"])
    node.script["MoveVm"] = [lambda _request, _context: answer]


@pytest.mark.parametrize("note", ["", "web is on its way to node-2 already"])
def test_the_wait_ends_when_it_has_arrived(ask: Run, node: FakeNode, note: str) -> None:
    """Also if somebody has asked for that move before."""
    moves(node, note)
    node.script["GetVmStatus"] = turns(node, "web", a_vm("web", move=MOVE), ARRIVED)
    ran = ask("vm", "move", "web", "--to", "node-2", "--wait")
    assert ran.code == 0
    assert ran.out.startswith("web runs on node-2 (")


def test_a_move_that_was_called_off_has_not_succeeded(ask: Run, node: FakeNode) -> None:
    moves(node)
    node.script["GetVmStatus"] = turns(node, "web", a_vm("web", move=MOVE), a_vm("web"))
    ran = ask("vm", "move", "web", "--wait")
    assert ran.code == 6
    assert "web runs on node-1, not on node-2" in ran.err
