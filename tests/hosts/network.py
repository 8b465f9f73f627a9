"""The hosts' network: a namespace for each of them, joined by a bridge in one more.

Nothing of it is in this machine's own namespace. A cut drops packets in the bridge, so that both
ends go on believing in their link, as they do when a switch between them fails.
"""

import subprocess
from collections.abc import Sequence

SUBNET = "198.18.7"
"""Of the range that RFC 2544 reserves for test networks."""

INTERFACE = "eth1"
"""The name of the lab's network inside a host, as in tests on NixOS."""

RULES = """
table bridge lab {
  set cut { type ifname . ifname; }
  chain traffic {
    type filter hook forward priority 0;
    iifname . oifname @cut drop
  }
}
"""


class Network:
    """The network of the hosts `names`; the namespaces' names begin with `prefix`."""

    def __init__(self, prefix: str, names: Sequence[str]) -> None:
        self._names = list(names)
        self._prefix = prefix
        self._switch = f"{prefix}switch"
        self._cut: set[tuple[str, str]] = set()

    def up(self) -> None:
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "br0", "up")
        for name in self._names:
            self._plug_in(name)
        self._nft(RULES)

    def _plug_in(self, name: str) -> None:
        host = self.namespace(name)
        _ip("netns", "add", host)
        peer = ("peer", "name", INTERFACE, "netns", host)
        _ip("-n", self._switch, "link", "add", name, "type", "veth", *peer)
        _ip("-n", self._switch, "link", "set", name, "master", "br0", "up")
        _ip("-n", host, "address", "add", f"{self.address(name)}/24", "dev", INTERFACE)
        _ip("-n", host, "link", "set", INTERFACE, "up")
        _ip("-n", host, "link", "set", "lo", "up")

    def namespace(self, name: str) -> str:
        """The network namespace of a host."""
        return f"{self._prefix}{name}"

    def address(self, name: str) -> str:
        """The IPv4 address of a host."""
        return f"{SUBNET}.{self._names.index(name) + 1}"

    def hosts_file(self) -> str:
        """`/etc/hosts` of every host."""
        lines = [f"{self.address(name)} {name}" for name in self._names]
        return "\n".join(["127.0.0.1 localhost", *lines, ""])

    def cut(self, source: str, target: str) -> None:
        """Drop every packet from `source` to `target`; the way back stays open."""
        self._cut.add((source, target))
        self._apply()

    def mend(self, source: str, target: str) -> None:
        """Undo `cut`."""
        self._cut.discard((source, target))
        self._apply()

    def slow_down(self, name: str, kbit_s: int) -> None:
        """Let a host send and receive so little; what queues for half a second is lost."""
        for namespace, link in self._ends(name):
            shape = ("rate", f"{kbit_s}kbit", "burst", "4kb", "latency", "500ms")
            _run("tc", "-n", namespace, "qdisc", "replace", "dev", link, "root", "tbf", *shape)

    def speed_up(self, name: str) -> None:
        """Undo `slow_down`."""
        for namespace, link in self._ends(name):
            _run("tc", "-n", namespace, "qdisc", "delete", "dev", link, "root")

    def _ends(self, name: str) -> list[tuple[str, str]]:
        """Both ends of a host's cable: what it sends leaves by the first."""
        return [(self.namespace(name), INTERFACE), (self._switch, name)]

    def isolate(self, name: str) -> None:
        """Cut a host off from all others, both ways."""
        self._cut |= self._pairs(name)
        self._apply()

    def reconnect(self, name: str) -> None:
        """Undo every cut from and to a host."""
        self._cut -= self._pairs(name)
        self._apply()

    def _pairs(self, name: str) -> set[tuple[str, str]]:
        others = [other for other in self._names if other != name]
        return {pair for other in others for pair in ((name, other), (other, name))}

    def _apply(self) -> None:
        pairs = ", ".join(f"{source} . {target}" for source, target in sorted(self._cut))
        added = f"add element bridge lab cut {{ {pairs} }}\n" if pairs else ""
        self._nft(f"flush set bridge lab cut\n{added}")

    def _nft(self, rules: str) -> None:
        command = ["ip", "netns", "exec", self._switch, "nft", "--file", "-"]
        subprocess.run(command, input=rules, text=True, check=True)


def remove_namespaces(prefix: str) -> None:
    """Delete every network namespace whose name begins with `prefix`, and what was in it."""
    listing = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True)
    for line in listing.stdout.splitlines():
        name = line.split()[0]
        if name.startswith(prefix):
            _ip("netns", "delete", name)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
