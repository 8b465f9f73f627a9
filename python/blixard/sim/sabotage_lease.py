"""Sabotages of leases and of the fence, by name."""

from blixard import leadership, lease
from blixard.sim.keeper import Keeper
from blixard.sim.sabotage import Edit, Patch, register

register(
    "kill-budget",
    "the fence begins early enough to be done when the lease ends",
    Patch(lease.LeaseTimes, "fence_after_ms", property(lambda times: times.lease_ms)),
)

register(
    "gate",
    "a start that comes late finds its gate shut",
    Patch(Keeper, "lets_through", lambda _keeper, _name: True),
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
