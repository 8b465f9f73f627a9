"""Sabotages of the fence and of what starts VMs, by name."""

from blixard.agent import Agent
from blixard.machine import leases
from blixard.sim.hypervisor import Hypervisor
from blixard.sim.keeper import Keeper
from blixard.sim.sabotage import Edit, Patch, register

# --- the fence does not need the daemon, nor this keeper (the design's rule 5) --------------------

register(
    "fence-again",
    "while it is fenced, a host kills whatever appears",
    Patch(Keeper, "appeared", lambda _keeper: None),
)

register(
    "dead-keeper-replaced",
    "a keeper that was killed has a successor, which goes on or fences",
    Edit(Keeper, "kill", "self._begin", "lambda: None"),
)

register(
    "stopped-keeper-replaced",
    "a keeper that stands still is replaced by one that goes on or fences",
    Edit(Keeper, "stop", "self._begin", "lambda: None"),
)

register(
    "petted-within-the-lease",
    "a watchdog is petted only if it would bite before the lease ends",
    Patch(Keeper, "_may_pet", lambda _keeper: True),
)

register(
    "watched-before-started",
    "no VM starts under a lease that would end before the watchdog bites",
    Patch(Keeper, "_is_watched", lambda _keeper: True),
)

register(
    "kept-spared",
    "the fence leaves alone what is to be kept",
    Edit(Hypervisor, "slice", "and not unit.run.keep", ""),
)

# --- the gate (rule 6) ----------------------------------------------------------------------------

register(
    "gate",
    "a start that comes late finds its gate shut",
    Patch(Keeper, "lets_through", lambda _keeper, _name: True),
)

register(
    "gate-compares-deadline",
    "a gate that was left behind lets nothing through once the lease is over",
    Edit(Keeper, "lets_through", "gate.keep or self._lease_runs()", "True"),
)

register(
    "fence-shuts-gates",
    "the fence removes the gates: nothing that restarts itself comes back, whatever they say",
    Edit(Keeper, "_fence", "if gate.keep", ""),
    Edit(Keeper, "lets_through", "gate.keep or self._lease_runs()", "True"),
)

register(
    "gone-when-its-gate-is",
    "a VM that has ended is gone only when its gate is, and no job would start it again",
    Edit(Hypervisor, "_state", "not unit.is_gone", "unit.is_there or unit.passes"),
    Edit(Hypervisor, "_state", "self._computer.keeper.revoke(unit.name)", "True"),
)

register(
    "caught-up-before-starting",
    "nothing starts before the log is applied up to the renewal that was accepted (which would not "
    "be needed while no renewal of a life that is over is accepted: that is switched off as well)",
    Edit(Agent, "_act", "and applied_index >= self._renewed_index", ""),
    Patch(leases, "_is_alive", lambda node, life: node.incarnation == life > 0),
)
