"""Sabotages of the law, of the agent and of what a node decides, by name."""

from blixard import agent, machine
from blixard.decide import leader, node
from blixard.machine import agreement, nodes, placements, vms
from blixard.raft import replica
from blixard.sim import releases
from blixard.sim.sabotage import Edit, Patch, register

register(
    "one-holder",
    "a VM is placed only while no host holds it",
    Edit(
        placements,
        "place",
        "or vm.state is not State.PENDING\n        or vm.holder is not None\n",
        "or vm.wanted is not Wanted.RUNNING\n",
    ),
)

register(
    "room-checked-when-placed",
    "a placement is accepted only if the host has room now, whatever the leader thought",
    Edit(placements, "place", "*misfits(vm, node, free),", ""),
)

register(
    "retry-gets-first-outcome",
    "a repeated request gets the first outcome, and acts once",
    Edit(machine, "apply", "if known is not None:", "if False:"),
)

register(
    "forgotten-request-refused",
    "a request that is older than the memory of outcomes is refused, never executed",
    Edit(machine, "apply", "if request.base_index < cluster.forgotten_index:", "if False:"),
)

register(
    "report-of-the-holder-only",
    "only the present placement's holder can report its VM gone",
    Edit(placements, "report", "or vm.holder != holder:", "or vm.holder is None:"),
)

register(
    "report-of-the-present-daemon-only",
    "what an earlier daemon of a host reported, and comes late, has no say",
    Edit(placements, "report", "if node.session != command.session:", "if False:"),
)

register(
    "tombstone",
    "a deleted VM keeps its name until its host reports it gone",
    Edit(vms, "delete", "if vm.holder is None:", "if True:"),
)

register(
    "registration-compares",
    "a host registers a new life only in place of the one that it knows of",
    Edit(nodes, "register", "if node.incarnation != command.previous_incarnation:", "if False:"),
)

register(
    "founder-registers-first",
    "nobody is admitted before the founder is a member",
    Edit(nodes, "add", "if not cluster.nodes:", "if False:"),
)

register(
    "sign-in-again",
    "a daemon whose sign-in was overtaken by an older one signs in again",
    Edit(agent.Agent, "_tend", "if (known.session, ", "if False and (known.session, "),
)

register(
    "log-caught-up-before-acting",
    "a daemon acts on nothing it sees in the log before the log reaches its sign-in",
    Edit(agent.Agent, "_step", "elif status.applied_index >= self._fresh_index:", "else:"),
)

register(
    "stop-before-report",
    "a VM is reported gone only when nothing of it runs",
    Edit(node, "_released", "elif unit is None or unit.state is UnitState.EXITED:", "elif True:"),
)

register(
    "level-waits-for-all",
    "a changed rule waits until every node is known to follow it",
    Patch(releases, "may_change", lambda _cluster: True),
)

register(
    "level-raised-by-all",
    "the cluster's level rises only when all nodes support it",
    Edit(agreement, "raise_level", "or not supported:", ":"),
    Edit(leader, "duties", "min(node.level", "max(node.level"),
    Patch(replica.ReplicatedCluster, "_check_level", lambda *_: None),
)

register(
    "canary",
    "what is accepted takes effect: must be missed by any history, or the harness itself is broken",
    Edit(
        vms,
        "stop",
        'return put(cluster, give_up(stopped, at_ms, release, "stopped by request")), ',
        "return cluster, ",
    ),
)
