"""Since when each node has not renewed its lease, as seen from here. For display only: what follows
from it the leader decides, by a watch of its own."""

from blixard.model import Cluster
from blixard.ports import Clock


class LeaseWatch:
    """Sees renewals come; it is as exact as it is made to look often."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen_ms: dict[tuple[int, int, int], int] = {}
        """When the last renewal of each node was first seen: node, incarnation, seq."""

    def look(self, cluster: Cluster) -> None:
        """Note who has renewed."""
        now_ms = self._clock.boot_ms()
        renewals = {
            (node.node_id, node.incarnation, node.seq)
            for node in cluster.nodes.values()
            if node.incarnation > 0 and not node.is_down
        }
        self._seen_ms = {one: self._seen_ms.get(one, now_ms) for one in renewals}

    def renewed_ms_ago(self, cluster: Cluster) -> dict[int, int]:
        """Milliseconds since the last renewal of each node that has a lease."""
        self.look(cluster)
        now_ms = self._clock.boot_ms()
        return {node_id: now_ms - seen_ms for (node_id, _, _), seen_ms in self._seen_ms.items()}
