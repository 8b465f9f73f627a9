"""All rules that can be switched off: importing this registers each sabotage."""

from blixard.sim import sabotage_fence, sabotage_law, sabotage_lease, sabotage_raft
from blixard.sim.sabotage import SABOTAGES, switched_off

__all__ = [
    "SABOTAGES",
    "sabotage_fence",
    "sabotage_law",
    "sabotage_lease",
    "sabotage_raft",
    "switched_off",
]
