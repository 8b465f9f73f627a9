start_all()

with subtest("a node founds its cluster, alone, and leads it"):
    node1.wait_for_unit("blixard.service", timeout=PATIENCE)
    settled([node1])
    assert ask(node1, "cluster status")["leader_id"] == 1

with subtest("systemd shows what it is doing"):
    status = "systemctl show blixard.service --property=StatusText --value"
    node1.wait_until_succeeds(f"{status} | grep '^leader, term '", timeout=PATIENCE)

with subtest("its group may ask it, and nobody else"):
    node1.succeed("stat --format=%U:%G:%a /run/blixard | grep -x blixard:blixard:750")
    node1.fail("setpriv --reuid=65534 --clear-groups blixard vm list --timeout 1s")

with subtest("a mistake is told apart from a failure"):
    assert node1.execute("blixard vm status nobody")[0] == 4
    assert node1.execute(f"blixard vm create Web --config {GUEST}")[0] in (2, 3)
    assert vm_names(node1) == []

with subtest("what it acknowledged survives a restart and a power cut"):
    create(node1, "first", "--stopped")
    node1.succeed("systemctl restart blixard.service")
    settled([node1])
    create(node1, "second", "--stopped")
    node1.crash()
    node1.start()
    node1.wait_for_unit("blixard.service", timeout=PATIENCE)
    settled([node1])
    assert vm_names(node1) == ["first", "second"]
