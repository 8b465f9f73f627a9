nodes = [node1, node2, node3]
unit = unit_of("web")
start_all()
settled(nodes)

with subtest("created, it runs on one host and nowhere else"):
    create(node1, "web")
    assert ask(node2, "vm status web")["state"] == "running"
    [host] = hosts_of(nodes, "web")
    assert [node for node in nodes if node.execute(f"systemctl is-active {unit}")[0] == 0] == [host]
    assert host.get_unit_property(unit, "User") == "microvm"
    beats(nodes, "web", 2)

with subtest("systemd shows who runs it, and the journal tells its story"):
    for node in nodes:
        here = "1 of 1 VMs here" if node == host else "0 of 1 VMs here"
        status = "systemctl show blixard.service --property=StatusText --value"
        node.wait_until_succeeds(f"{status} | grep '{here}'", timeout=PATIENCE)
        story = "journalctl BLIXARD_VM=web SYSLOG_IDENTIFIER=blixard --output cat"
        node.wait_until_succeeds(f"{story} | grep -i running", timeout=PATIENCE)

with subtest("it outlives its daemon, which finds it again"):
    for interruption in (
        "systemctl kill --signal=KILL blixard.service",
        "systemctl restart blixard.service",
        "systemctl stop blixard.service; systemctl start blixard.service",
    ):
        before = life(host, "web")
        daemon = host.get_unit_property("blixard.service", "InvocationID")
        host.succeed(interruption)
        host.wait_until_fails(
            f"systemctl show blixard.service --property=InvocationID | grep {daemon}",
            timeout=PATIENCE,
        )
        host.wait_for_unit("blixard.service", timeout=PATIENCE)
        lives_on(nodes, host, "web", before)
    host.succeed("journalctl --unit blixard | grep -F 'stopped; VMs here: 1; they run on for '")

with subtest("it outlives the death of every daemon at once"):
    before = life(host, "web")
    for node in nodes:
        node.succeed("systemctl kill --signal=KILL blixard.service")
    lives_on(nodes, host, "web", before)

with subtest("stopped, it has powered itself off"):
    node3.succeed("blixard vm stop web --wait")
    host.succeed(f"journalctl --unit {unit} --output cat --all | grep -F ': powers off'")
    host.fail(f"systemctl is-active {unit}", "pgrep qemu-system")
    assert ask(node1, "vm status web")["state"] == "stopped"

with subtest("started again, it boots anew"):
    node1.succeed("blixard vm start web --wait")
    beats(nodes, "web", 1)
    [host] = hosts_of(nodes, "web")

with subtest("where it may not be restarted, its guest's death is told with its last words"):
    node1.succeed("blixard vm set web --restart-limit 0")
    # By then the guest says nothing else.
    beats(nodes, "web", 2)
    host.succeed("pkill -KILL qemu-system")
    failed = 'blixard vm status web -o json | grep -E \'"state": *"failed"\''
    node1.wait_until_succeeds(failed, timeout=PATIENCE)
    reason = ask(node1, "vm status web")["reason"]["text"]
    assert "KILL" in reason, "how it ended"
    assert ": heartbeat" in reason, "its last words"
    assert host.get_unit_property(unit, "NRestarts") == "0"
    node1.succeed("blixard vm start web --wait")
    beats(nodes, "web", 1)

with subtest("deleted, nothing of it runs"):
    node2.succeed("blixard vm delete web --yes --wait")
    assert node1.execute("blixard vm status web")[0] == 4
    for node in nodes:
        node.fail("pgrep qemu-system")
