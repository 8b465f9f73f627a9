nodes = [node1, node2, node3]
unit = unit_of("web")
start_all()
settled(nodes)
create(node1, "web")
beats(nodes, "web", 1)

with subtest("the daemons are restarted one after the other, as an upgrade does: the VM lives on"):
    [host] = hosts_of(nodes, "web")
    before = life(host, "web")
    for node in nodes:
        node.succeed("systemctl restart blixard.service")
        settled(nodes)
    lives_on(nodes, host, "web", before)


def runs_on_one_host(_last_try):
    running = [node for node in nodes if node.execute(f"systemctl is-active {unit}")[0] == 0]
    return len(running) == 1 and running == hosts_of(nodes, "web")


with subtest("the hosts are rebooted one after the other: the VM is on one of the others"):
    for node in nodes:
        [host] = hosts_of(nodes, "web")
        node.shutdown()
        node.start()
        node.wait_for_unit("blixard.service", timeout=PATIENCE)
        if node is host:
            farewell = f"journalctl --boot=-1 --unit {unit} --output cat --all"
            node.succeed(f"{farewell} | grep -F ': powers off'")
        settled(nodes)
        beats(nodes, "web", 1)
        retry(runs_on_one_host, timeout=PATIENCE)
