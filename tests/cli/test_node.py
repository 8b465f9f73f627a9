"""`blixard node list` and `confirm-down`, and `vm set`."""

import json

import pytest

from blixard.errors import Code
from blixard.model import Rejected
from cli.conftest import Run
from cli.fake_node import Context, FakeNode, a_node, a_vm, refuse


@pytest.fixture
def lost(node: FakeNode) -> None:
    node.vms = {"db": a_vm("db", "unreachable", node="node-2", node_id=2), "web": a_vm("web")}
    down = a_node(2, state="down", silent=True, heard_ms=20_000, renewed_ms_ago=None, incarnation=7)
    node.nodes = [a_node(1, role="leader", heard_ms=0), down]


@pytest.mark.usefixtures("lost")
def test_nodes_are_listed(ask: Run) -> None:
    lines = ask("node", "list").out.splitlines()
    assert lines[0].split()[:4] == ["NAME", "STATE", "ROLE", "VMS"]
    assert lines[2].endswith("not heard for 20s")
    assert ask("node", "ls", "-o", "name").out == "node-1\nnode-2\n"
    told = json.loads(ask("node", "list", "-o", "json").out)
    assert told["schema"] == "blixard.v1/node_list"
    first, second = told["items"]
    assert (first["id"], first["state"], first["mode"]) == (1, "up", "best-effort")
    assert (first["lease_ms"], first["renewed_ms_ago"]) == (9000, 1400)
    assert (second["state"], second["renewed_ms_ago"], second["silent"]) == ("down", None, True)


@pytest.mark.usefixtures("lost")
def test_a_node_is_confirmed_down_by_its_name(ask: Run, node: FakeNode) -> None:
    asked = ask("node", "confirm-down", "node-2")
    assert asked.code == 2
    assert "This frees db." in asked.err
    assert "will run twice" in asked.err
    assert "--confirm node-2" in asked.err
    wrong = ask("node", "confirm-down", "node-2", "--confirm", "node-1")
    assert (wrong.code, "BLX-3050" in wrong.err) == (3, True)
    assert node.called("ConfirmNodeDown") == []
    done = ask("node", "confirm-down", "node-2", "--confirm", "node-2")
    assert done.out == "node-2 is confirmed down; freed: db\n"
    [request] = node.called("ConfirmNodeDown")
    assert (request.node_id, request.name, request.incarnation) == (2, "node-2", 7)
    assert "@" in request.by


@pytest.mark.usefixtures("lost")
def test_a_confirmation_that_is_refused(ask: Run, node: FakeNode) -> None:
    unknown = ask("node", "confirm-down", "nod-2", "--confirm", "nod-2")
    assert unknown.code == 4
    assert 'did you mean "node-2"?' in unknown.err

    def too_soon(_: object, context: Context) -> None:
        refuse(context, Rejected(Code.LEASE_RUNS, "the lease of node-2 may still run"))

    node.script["ConfirmNodeDown"] = [too_soon]
    ran = ask("node", "confirm-down", "node-2", "--confirm", "node-2")
    assert (ran.code, ran.err.startswith("error[BLX-3032]")) == (3, True)


def test_a_verb_takes_no_flags_of_the_daemon(ask: Run, node: FakeNode) -> None:
    ran = ask("node", "--id", "1", "list")
    assert (ran.code, node.calls) == (2, [])
    assert ask("node", "lst").err.startswith('error[BLX-2001]: "blixard node lst" is no command')


def test_a_policy_is_given_and_changed(ask: Run, node: FakeNode) -> None:
    runner = f"/nix/store/{'a' * 32}-microvm-web"
    given = ("--on-quorum-loss", "keep", "--failover", "never", "--restart-limit", "0")
    ask("vm", "create", "web", "--config", runner, *given)
    policy = node.called("CreateVm")[0].policy
    assert (policy.on_quorum_loss, policy.failover, policy.restart_limit) == ("keep", "never", 0)
    ran = ask("vm", "set", "web", "--failover", "always")
    assert ran.out.startswith("web: failover always, on quorum loss stop")
    changed = node.called("SetVmPolicy")[0].policy
    assert [field.name for field, _ in changed.ListFields()] == ["failover"]
    assert ask("vm", "set", "web").code == 2
    assert ask("vm", "set", "web", "--failover", "maybe").code == 2
    assert ask("vm", "set", "web", "--restart-limit", "-1").code == 2


def test_status_says_why_a_vm_stays_where_it_is(ask: Run, node: FakeNode) -> None:
    node.vms = {
        "db": a_vm("db", tied_to="node-1", tie="its volumes are there: db.img", restarts=2),
        "mail": a_vm("mail", keeps=True),
        "web": a_vm("web", standby="node-2", standby_readiness="built"),
    }
    assert "tied to node-1: its volumes are there: db.img" in ask("vm", "list").out
    assert "  Restarts  2 of 5 in a row\n" in ask("vm", "status", "db").out
    mail = ask("vm", "status", "mail").out
    assert "confirm-down node-1" in mail
    assert "  Cut off   stop from the next start on; until then keep\n" in mail
    assert "  Standby   node-2, built\n" in ask("vm", "status", "web").out
