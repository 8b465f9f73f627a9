"""Daemons whose Nix, D-Bus or name look-ups hang, and how often their leases are renewed meanwhile.

    unshare --user --map-root-user --mount --net python -m cluster.hung DIRECTORY SECONDS

Prints as JSON, for each daemon, the pauses between renewals that it saw accepted, which names were
looked up, and how long the daemon whose bus hangs takes to stop. The namespaces keep the silent
servers of names and of the bus, and what daemons write below /run, from others.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc

from blixard.v1 import blixard_pb2 as pb
from blixard.v1 import blixard_pb2_grpc as rpc
from cluster.loopback import LoopbackCluster, LoopbackNode, free_port, wait_until

LOOK_EVERY_S = 0.04
NAMED = "node-3.test"
NEVER = "nobody.test"
NIX = """#!/bin/sh
echo "$*" >> {calls}
trap '' TERM
exec tail -f {calls} > /dev/null
"""
# resolv.conf(5): two attempts of the longest time that there is.
FILES = {
    "resolv.conf": "nameserver 127.0.0.1\noptions timeout:30 attempts:2\n",
    "nsswitch.conf": "hosts: files dns\n",
    # Both kinds of address, or the other kind would be looked up elsewhere.
    "hosts": f"127.0.0.1 localhost {NAMED}\n::1 {NAMED}\n",
}


class Silent:
    """A server that takes whatever comes, and never answers."""

    def __init__(self, server: socket.socket) -> None:
        self.heard: list[Any] = []
        self._server = server
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self) -> None:
        while True:
            is_stream = self._server.type is socket.SOCK_STREAM
            self.heard.append(self._server.accept() if is_stream else self._server.recv(512))


class Room:
    """A host of its own, as far as names and /run go."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hosts = directory / "hosts"
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "run", "/run"], check=True)
        for name, text in FILES.items():
            (directory / name).write_text(text)
            place = Path("/etc", name).resolve()
            if place.is_relative_to("/run"):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
            subprocess.run(["mount", "--bind", directory / name, place], check=True)
        names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        names.bind(("127.0.0.1", 53))
        self.names = Silent(names)
        bus = socket.socket(socket.AF_UNIX)
        bus.bind("/run/bus")
        bus.listen()
        self.bus = Silent(bus)
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = "unix:path=/run/bus"
        self.clusters: list[LoopbackCluster] = []

    def cluster(self, name: str) -> LoopbackCluster:
        self.clusters.append(LoopbackCluster(self.directory / name))
        return self.clusters[-1]

    def asked_for(self) -> list[str]:
        """The names that somebody tries to look up."""
        asked = (NAMED, NEVER)
        labels = {name: name.partition(".")[0].encode() for name in asked}
        return [name for name in asked if any(labels[name] in it for it in self.names.heard)]

    def close(self) -> None:
        """Kill the daemons: told to stop, they would wait for what hangs."""
        for cluster in self.clusters:
            for node in list(cluster.nodes.values()):
                if node.process is not None:
                    cluster.kill(node.node_id)


def configure(
    cluster: LoopbackCluster, node_id: int, advertise: str = "127.0.0.1", **changes: str
) -> None:
    """A node that is yet to be started. Its data is below /run: no slow disk is to blame."""
    keys = {"nix": "nix", "driver": "process", **changes}
    known = cluster.nodes.get(node_id)
    port = known.address.rpartition(":")[2] if known else str(free_port())
    node = LoopbackNode(node_id, f"127.0.0.1:{port}", cluster.directory / str(node_id))
    peers = [f"{one.node_id}:{one.address}" for one in cluster.nodes.values() if one is not known]
    cluster.nodes[node_id] = node
    node.directory.mkdir(parents=True, exist_ok=True)
    data = f"/run/{cluster.directory.name}-{node_id}"
    (node.directory / "blixard.toml").write_text(
        f'[node]\nid = {node_id}\nbind = "{node.address}"\nadvertise = "{advertise}:{port}"\n'
        f'peers = {json.dumps(peers)}\ndata_dir = "{data}"\nsocket = "{data}.sock"\n'
        f'driver = "{keys["driver"]}"\n[nix]\nbinary = "{keys["nix"]}"\n'
    )


# --- what hangs -----------------------------------------------------------------------------------


def nix_hangs(room: Room) -> None:
    """A build, and the locking of a reference."""
    cluster = room.cluster("nix")
    program, calls = room.directory / "hung-nix", room.directory / "calls"
    program.write_text(NIX.format(calls=calls))
    program.chmod(0o755)
    configure(cluster, 1, nix=str(program))
    cluster.start(1)
    cluster.settled(1)
    runner = f"/nix/store/{'a' * 32}-runner"
    at = ("--address", cluster.nodes[1].address)
    for what in (runner, "github:nobody/nothing#web"):
        name = f"vm{len(what)}"
        # The second is answered only once its reference is locked.
        subprocess.Popen(
            [sys.executable, "-m", "blixard", "vm", "create", name, "--config", what, *at],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    wait_until(
        lambda: calls.exists() and {"build", "metadata"} <= set(calls.read_text().split()),
        "Nix is asked to build, and to lock",
    )


def bus_hangs(room: Room) -> None:
    """From the start of the daemon on. An earlier one has left the life that is renewed."""
    cluster = room.cluster("bus")
    configure(cluster, 1)
    cluster.start(1)
    cluster.settled(1)
    cluster.kill(1)
    configure(cluster, 1, driver="systemd")
    cluster.start(1)
    wait_until(lambda: room.bus.heard, "the bus is asked")


def names_hang(room: Room) -> None:
    """The name of a member that is gone, which the others go on trying to reach."""
    cluster = room.cluster("names")
    configure(cluster, 1)
    configure(cluster, 2)
    configure(cluster, 3, advertise=NAMED)
    cluster.start(1, 2, 3)
    cluster.settled(1, 2, 3)
    room.hosts.write_text("127.0.0.1 localhost\n")
    cluster.kill(3)
    wait_until(room.asked_for, f"somebody looks {NAMED} up")
    leader = cluster.nodes[1].address
    threading.Thread(target=join_under_a_name, args=[leader], daemon=True).start()


def join_under_a_name(address: str) -> None:
    """Ask a node to admit one whose name it has to look up, again and again."""
    request = pb.JoinClusterRequest(
        node_id=4, bind_address=f"{NEVER}:7001", machine_id="m4", join_id="j4"
    )
    with grpc.insecure_channel(address) as channel:
        stub = rpc.ClusterServiceStub(channel)
        while True:
            with contextlib.suppress(grpc.RpcError):
                stub.JoinCluster(request, timeout=10)


# --- what is measured -----------------------------------------------------------------------------


def pauses_ms(node: LoopbackNode, end_s: float) -> list[int]:
    """Between the moments at which a node saw its lease renewed, from before now until the end."""
    begin_s = time.monotonic()
    moments_s: list[float] = []
    with grpc.insecure_channel(node.address) as channel:
        stub = rpc.ClusterServiceStub(channel)
        while time.monotonic() < end_s:
            with contextlib.suppress(grpc.RpcError):
                answer = stub.GetClusterStatus(pb.GetClusterStatusRequest(stale=True), timeout=5)
                (me,) = [each for each in answer.nodes if each.node_id == node.node_id]
                # An answer that comes late makes it seem later than it was: the least is the best.
                at_s = time.monotonic() - me.renewed_ms_ago / 1000
                if me.HasField("renewed_ms_ago"):
                    if not moments_s or at_s > moments_s[-1] + 0.5:
                        moments_s.append(at_s)
                    moments_s[-1] = min(moments_s[-1], at_s)
            time.sleep(LOOK_EVERY_S)
    return between_ms(begin_s, moments_s, end_s)


def between_ms(begin_s: float, moments_s: list[float], end_s: float) -> list[int]:
    """The pauses. The first answer can come so late that the first renewal in it was after the
    beginning: then there was one before, as old as the beginning at least."""
    first_s = min([begin_s, *moments_s[:1]])
    return [round(1000 * (late - early)) for early, late in pairwise([first_s, *moments_s, end_s])]


def main(directory: Path, seconds: float) -> None:
    room = Room(directory)
    try:
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda hang: hang(room), (nix_hangs, bus_hangs, names_hang)))
            end_s = time.monotonic() + seconds
            nodes = {
                f"{cluster.directory.name}-{node.node_id}": node
                for cluster in room.clusters
                for node in cluster.nodes.values()
                if node.process is not None
            }
            measured = threads.map(lambda node: pauses_ms(node, end_s), nodes.values())
            pauses = dict(zip(nodes, measured, strict=True))
        begun_s = time.monotonic()
        next(each for each in room.clusters if each.directory.name == "bus").stop(1)
        stopped_s = time.monotonic() - begun_s
        print(json.dumps({"pauses_ms": pauses, "names": room.asked_for(), "stopped_s": stopped_s}))
    finally:
        room.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
