# What the scripts of this folder say of a cluster: default.nix puts this before each of them.
#
# GUEST is what a VM is made of. On its console it prints `NAME: heartbeat N`, N from 1 on, and
# `NAME: powers off` when it is shut down and not killed.
import json
from typing import TypeVar

Host = TypeVar("Host")
"""A machine. What its class is called depends on the driver."""

PATIENCE = 300
"""Seconds that anything may take on a busy machine, an emulated guest's boot included."""


def ask(machine, command):
    """What `blixard COMMAND -o json` answers on a machine."""
    return json.loads(machine.succeed(f"blixard {command} -o json"))


def node_name(machine):
    """What the cluster calls the node on a machine."""
    return f"node-{machine.name.removeprefix('node')}"


def settled(nodes):
    """Wait until just these machines are the cluster's nodes, and all are ready."""
    wanted = {node_name(node): "up" for node in nodes}

    def agrees(last_try):
        status, answer = nodes[0].execute("blixard cluster status -o json")
        members = json.loads(answer)["nodes"] if status == 0 else []
        seen = {member["name"]: member["state"] for member in members}
        if last_try:
            nodes[0].log(f"wanted {wanted}, seen {seen}")
        return seen == wanted

    retry(agrees, timeout=PATIENCE)


def vm_names(node):
    """The VMs that the cluster knows, sorted."""
    return [vm["name"] for vm in ask(node, "vm list")["items"]]


def replicated(nodes, names):
    """Wait until each of these nodes, asked for its own copy, knows just these VMs."""

    def agrees(_last_try):
        own = [ask(node, "vm list --stale")["items"] for node in nodes]
        return all([vm["name"] for vm in items] == sorted(names) for items in own)

    retry(agrees, timeout=PATIENCE)


def create(node, name, flags="--wait"):
    """Create a VM, by default one that runs at the end."""
    node.succeed(f"blixard vm create {name} --config {GUEST} --failover always {flags}")


def hosts_of(nodes: list[Host], name: str) -> list[Host]:
    """The one machine that holds a VM, or none; the first of `nodes` is asked."""
    holder = ask(nodes[0], f"vm status {name}")["node"]
    return [node for node in nodes if node_name(node) == holder]


def unit_of(name):
    return f"microvm@{name}.service"


def console(name):
    """The command that shows what a VM's guest has printed in this life of its unit."""
    invocation = f"$(systemctl show {unit_of(name)} --property InvocationID --value)"
    return f"journalctl --all --output cat _SYSTEMD_INVOCATION_ID={invocation}"


def beats(nodes, name, count):
    """Wait until a VM's guest has counted so far in this life of its unit."""

    def counted(_last_try):
        # Asked anew each time: a VM whose host comes back may be placed on another.
        command = f"{console(name)} | grep -F ': heartbeat {count}'"
        return any(host.execute(command)[0] == 0 for host in hosts_of(nodes, name))

    retry(counted, timeout=PATIENCE)


def life(host, name):
    """What changes whenever the VM's unit starts anew."""
    host.require_unit_state(unit_of(name))
    unit = unit_of(name)
    return host.get_unit_property(unit, "MainPID"), host.get_unit_property(unit, "InvocationID")


def lives_on(nodes, host, name, before):
    """Demand that a VM runs on in the same life, and goes on to count."""
    settled(nodes)
    counted = host.succeed(f"{console(name)} | grep -c ': heartbeat' || true")
    beats(nodes, name, int(counted) + 2)
    assert hosts_of(nodes, name) == [host]
    assert ask(nodes[0], f"vm status {name}")["state"] == "running"
    assert life(host, name) == before
