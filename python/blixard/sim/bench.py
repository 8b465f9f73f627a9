"""How fast the simulator is: simulated seconds per second on one core."""

from time import perf_counter
from typing import Final

from blixard.sim.plan import Plan
from blixard.sim.run import Simulation

PLAN: Final = Plan(seed=1, nodes=5, vms=50, vcpus=32, clients=4, think_ms=1_000, fault_minutes=5.0)
"""Five nodes and fifty VMs, four clients, no faults."""


def measure() -> float:
    """Simulated seconds per second of one history."""
    began_s = perf_counter()
    result = Simulation(PLAN).run()
    assert not result.violations, result.violations
    return result.simulated_s / (perf_counter() - began_s)
