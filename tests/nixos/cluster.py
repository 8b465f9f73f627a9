nodes = [node1, node2, node3]

with subtest("three nodes form a cluster"):
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait_for_unit("blixard.service", timeout=PATIENCE)
    settled(nodes)

with subtest("they elect one leader"):
    status = "systemctl show blixard.service --property=StatusText --value"

    def one_leads(_last_try):
        told = [node.succeed(status).startswith("leader, term ") for node in nodes]
        named = {ask(node, "cluster status")["leader_id"] for node in nodes}
        return told.count(True) == 1 and named == {told.index(True) + 1}

    retry(one_leads, timeout=PATIENCE)

with subtest("what one of them is told, all of them know"):
    known: list[str] = []
    for node in nodes:
        known.append(f"vm-{len(known)}")
        create(node, known[-1], "--stopped")
        replicated(nodes, known)

with subtest("they are restarted one by one, and the others go on"):
    for number, node in enumerate(nodes):
        node.succeed("systemctl restart blixard.service")
        known.append(f"vm-{len(known)}")
        create(nodes[number - 1], known[-1], "--stopped")
        settled(nodes)
    replicated(nodes, known)

with subtest("one that is cut off answers no question that matters"):
    node1.block()
    node2.wait_until_succeeds("blixard vm list", timeout=PATIENCE)
    assert node1.execute("blixard vm list --timeout 5s")[0] == 5
    node1.succeed("blixard vm list --stale")
    node1.unblock()
    settled(nodes)

with subtest("what was acknowledged survives the power cut of all of them"):
    for number in range(len(known), len(known) + 4):
        known.append(f"vm-{number}")
        create(nodes[number % 3], known[-1], "--stopped")
    for node in nodes:
        node.crash()
    for node in nodes:
        node.start()
    settled(nodes)
    assert vm_names(node1) == sorted(known)
    replicated(nodes, known)

with subtest("a fourth joins and the first leaves while VMs are created"):
    node4.start()
    for number in range(len(known), len(known) + 4):
        known.append(f"vm-{number}")
        create(node2, known[-1], "--stopped")
    settled([*nodes, node4])

    node2.succeed("blixard cluster leave --node 1 --yes")
    for number in range(len(known), len(known) + 4):
        known.append(f"vm-{number}")
        create(node2, known[-1], "--stopped")
    settled([node2, node3, node4])
    replicated([node4], known)
