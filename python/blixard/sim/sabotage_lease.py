"""Sabotages of leases, by name: when a lease ends, who says so, and what that frees."""

from typing import Final

from blixard import leadership, lease
from blixard.agent import Agent
from blixard.commands import ReportVm
from blixard.decide import leader
from blixard.leadership import Leadership
from blixard.machine import leases, nodes, rules
from blixard.model import Reason, State
from blixard.raft.renewals import Renewals
from blixard.sim.host import Host
from blixard.sim.sabotage import Edit, Patch, register

# --- how a lease is counted (the design's rules 2 and 3) ------------------------------------------

register(
    "counted-from-sending",
    "a host counts its lease from the sending of the renewal, not from the answer",
    Edit(Agent, "_renewed", "renewal.seq + self", "self._clock.boot_ms() + self"),
)

register(
    "counted-by-own-clock",
    "a leader counts by its own clock from what it has applied, never from a host's stamp",
    Edit(
        Leadership,
        "_look",
        "self._leases.elapsed_ms(renewals, now_ms)",
        "{i: node.seq and now_ms - node.seq for i, node in cluster.nodes.items()}",
    ),
)

register(
    "renewal-counts-once-applied",
    "a renewal counts once the log has taken it, not when the leader has heard of it",
    Edit(Renewals, "offer", "self._commit()", "done(Accepted(0))\n    self._commit()"),
)

register(
    "renewal-of-this-life",
    "a renewal counts only for the life that sent it",
    Edit(leases, "renew", "_is_alive(node, renewal.incarnation)", "not node.is_down"),
)

register(
    "new-leader-waits",
    "a new leader declares nobody down before it has seen a whole lease pass",
    Edit(
        leadership.Leadership,
        "_begin",
        "self._leases, self._waits = Stopwatch(), Stopwatch()",
        "self._leases, self._waits = Stopwatch(), Stopwatch()\n"
        "        nodes = self._log.cluster().nodes.items()\n"
        "        seqs = {i: (node.incarnation, node.seq) for i, node in nodes}\n"
        "        self._leases.elapsed_ms(seqs, -1_000_000)",
    ),
)

register(
    "kill-budget",
    "the fence begins early enough to be done when the lease ends",
    Patch(lease.LeaseTimes, "fence_after_ms", property(lambda times: times.lease_ms)),
)

register(
    "drift-allowed-for",
    "a leader waits longer than the lease: two clocks may be wrong, each in its own direction",
    Patch(leader, "down_after_ms", lambda lease_ms: lease_ms),
)

# --- the end of a life, and the next one (rule 4) -------------------------------------------------

register(
    "down-compares-renewal",
    "a host that has renewed since is not declared down",
    Edit(leases, "declare_down", "or node.seq != command.seq", ""),
)

register(
    "down-compares-life",
    "the end of an earlier life of a host does not end the present one",
    Edit(leases, "declare_down", "not _is_alive(node, command.incarnation)", "node.is_down"),
)

register(
    "placed-with-the-living",
    "no VM is placed under a life that is over",
    Edit(rules, "_of_the_node", "elif node.is_down", "elif False"),
)

register(
    "registration-compares-machine",
    "a host on another machine waits until the lease of that one is over",
    Edit(nodes, "register", "if moved and", "if False and"),
)

register(
    "registration-compares-data",
    "only the data directory that holds a host's promises begins its next life",
    Edit(nodes, "register", "if node.join_id != command.join_id:", "if False:"),
)

register(
    "emptied-before-registration",
    "a host begins a new life with nothing running",
    Edit(Agent, "_sign_in", "list(node.empty(units))", "[]"),
)

# --- what frees a VM, and what does not (rules 7 and 8) -------------------------------------------


def _stop_and_release(host: Host, why: str, *, again: bool = True) -> None:
    """As it stops, the daemon reports all of its VMs gone."""
    if host.node is not None and host.node.is_open:
        log = host.node.log
        for name, vm in log.cluster().vms.items():
            held = vm.holder
            if held is not None and held.node_id == host.node_id:
                reported = ReportVm(
                    name=name,
                    uid=vm.uid,
                    node_id=held.node_id,
                    incarnation=held.incarnation,
                    epoch=held.epoch,
                    session=log.cluster().nodes[host.node_id].session,
                    state=State.STOPPED,
                    reason=Reason("stopped", "its daemon stops"),
                )
                log.submit(reported, lambda _outcome: None)
    _STOP(host, why, again=again)


_STOP: Final = Host.stop

register(
    "stop-releases-nothing",
    "a daemon that stops leaves its VMs alone, and says nothing of them",
    Patch(Host, "stop", _stop_and_release),
)

register(
    "confirmed-after-the-lease",
    "what anyone says does not shorten a lease",
    Edit(leases, "confirm_down", "not node.is_down", "False"),
)

register(
    "confirmed-of-this-life",
    "that a host is switched off is believed of the life that was seen, and of no later one",
    Edit(leases, "confirm_down", "node.incarnation != command.incarnation", "False"),
)

register(
    "kept-not-failed-over",
    "what is to be kept is not freed when its host is lost, for it may still run",
    Edit(leases, "declare_down", "not vm.keeps", "True"),
)

register(
    "kept-as-placed",
    "whether a VM is to be kept is settled when it is placed: a change holds from the next time on",
    Edit(leases, "declare_down", "not vm.keeps", "vm.policy.on_quorum_loss != 'keep'"),
)

register(
    "kept-taken-over",
    "a host that comes back with what it kept goes on holding it",
    Edit(nodes, "register", "not vm.keeps or", "True or"),
)
