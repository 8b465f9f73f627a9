nodes = [node1, node2, node3]
unit = unit_of("web")
start_all()
settled(nodes)
create(node1, "web")
beats(nodes, "web", 1)


def runs_elsewhere(lost):
    """Wait until a guest counts on another host than the lost one, and return the others."""
    rest = [node for node in nodes if node is not lost]
    retry(lambda _: hosts_of(rest, "web") != [], timeout=PATIENCE)
    beats(rest, "web", 1)
    return rest


with subtest("a VM of a host that lost power runs elsewhere"):
    [host] = hosts_of(nodes, "web")
    host.crash()
    runs_elsewhere(host)

with subtest("back again, that host leaves it where it is"):
    host.start()
    settled(nodes)
    [holder] = hosts_of(nodes, "web")
    assert holder is not host
    lives_on(nodes, holder, "web", life(holder, "web"))
    host.fail("pgrep qemu-system")

with subtest("a VM of a host that is cut off runs elsewhere, and there no more"):
    before = life(holder, "web")
    holder.block()
    rest = runs_elsewhere(holder)
    holder.fail(f"systemctl is-active {unit}", "pgrep qemu-system")
    assert [node for node in rest if node.execute(f"systemctl is-active {unit}")[0] == 0] == (
        hosts_of(rest, "web")
    )

with subtest("connected again, that host is a node like any other"):
    holder.unblock()
    settled(nodes)
    [now] = hosts_of(nodes, "web")
    assert now is not holder
    assert life(now, "web") != before
    lives_on(nodes, now, "web", life(now, "web"))
