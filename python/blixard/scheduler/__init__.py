"""The choice of hosts for VMs. Only the leader makes it, so it may differ between releases."""

from blixard.scheduler.planner import Choice, Planner, Verdict
from blixard.scheduler.plans import Step, drain, exposures, held_by_node

__all__ = ["Choice", "Planner", "Step", "Verdict", "drain", "exposures", "held_by_node"]
