"""Three members of etcd on loopback, and its `Put` as bytes."""

import contextlib
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.loopback import free_port, wait_until

PUT = "/etcdserverpb.KV/Put"


@dataclass(frozen=True)
class Member:
    """Where a member is reached, by clients and by its peers."""

    name: str
    client: str
    peer: str

    def leads(self) -> bool:
        """Whether it says so."""
        try:
            with urllib.request.urlopen(f"http://{self.client}/metrics", timeout=1) as answer:
                return b"\netcd_server_is_leader 1\n" in answer.read()
        except OSError:
            return False


def put_of(size_bytes: int) -> bytes:
    """A PutRequest of exactly this size, from 200 bytes to 16 KiB, as Protocol Buffers have it on
    the wire: a short key in field 1, and the rest of it value in field 2."""
    key = b"\x0a\x05bench"
    length = size_bytes - len(key) - 3
    return key + bytes([0x12, length & 0x7F | 0x80, length >> 7]) + bytes(length)


@contextlib.contextmanager
def leader_of_three(binary: Path, directory: Path) -> Iterator[str]:
    """Run a new cluster of three with etcd's own defaults; gives the leader's client address."""
    members = [
        Member(f"m{number}", f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
        for number in (1, 2, 3)
    ]
    cluster = ",".join(f"{member.name}=http://{member.peer}" for member in members)
    with contextlib.ExitStack() as stack:
        for member in members:
            log = stack.enter_context((directory / f"{member.name}.log").open("wb"))
            process = subprocess.Popen(
                [
                    binary,
                    f"--name={member.name}",
                    f"--data-dir={directory / member.name}",
                    f"--listen-client-urls=http://{member.client}",
                    f"--advertise-client-urls=http://{member.client}",
                    f"--listen-peer-urls=http://{member.peer}",
                    f"--initial-advertise-peer-urls=http://{member.peer}",
                    f"--initial-cluster={cluster}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)

        def leader() -> str:
            return next((member.client for member in members if member.leads()), "")

        yield wait_until(leader, "a leader of etcd")
