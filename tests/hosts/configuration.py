"""What the daemons of three systemd hosts are told."""

import json

from hosts.network import SUBNET


def configuration(node_id: int, *, vcpus: int) -> str:
    """Node 1 founds the cluster; the others join through any that they find."""
    peers = [f"{other}:{SUBNET}.{other}:7001" for other in (1, 2, 3) if other != node_id]
    return f"""
[node]
id = {node_id}
bind = "{SUBNET}.{node_id}:7001"
bootstrap = {"true" if node_id == 1 else "false"}
peers = {json.dumps(peers if node_id > 1 else [])}
driver = "systemd"

[capacity]
vcpus = {vcpus}
memory_mib = 2048
"""
