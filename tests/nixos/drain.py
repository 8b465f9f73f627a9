import time

nodes = [node1, node2, node3]
start_all()
settled(nodes)
create(node1, "web")
beats(nodes, "web", 1)


def says_goodbye(machine):
    """Demand that the guest was shut down there, and not killed."""
    machine.succeed("journalctl --all --output cat --unit microvm@web | grep -F ': powers off'")


with subtest("a VM moves when it is told to"):
    [host] = hosts_of(nodes, "web")
    host.log(node1.succeed("blixard vm move web --wait 2>&1"))
    [there] = hosts_of(nodes, "web")
    assert there is not host
    beats(nodes, "web", 1)
    host.fail("systemctl is-active microvm@web", "pgrep qemu-system")
    says_goodbye(host)

with subtest("a drained node takes none, and gives its own away"):
    host = there
    name = node_name(host)
    host.log(node1.succeed(f"blixard node drain {name} --reason update 2>&1"))
    [there] = hosts_of(nodes, "web")
    assert there is not host
    assert ask(node1, f"node status {name}")["state"] == "draining"
    node1.succeed(f"blixard node drain {name}", f"blixard node resume {name}")
    settled(nodes)

with subtest("a host that shuts down gives its VM away before it goes"):
    host = there
    rest = [node for node in nodes if node is not host]
    began_s = time.monotonic()
    host.shutdown()
    took_s = time.monotonic() - began_s
    lost = ask(rest[0], f"node status {node_name(host)}")
    [there] = hosts_of(rest, "web")
    there.log(f"off within {took_s:.1f} s, and then {lost['state']}, {lost['drain']}")
    assert there is not host
    assert lost["drain"]["until_restart"]
    beats(rest, "web", 1)

with subtest("back again, that host takes VMs"):
    host.start()
    settled(nodes)
    says_goodbye(host)
    assert hosts_of(nodes, "web") == [there]
