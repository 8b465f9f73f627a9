{ nodes.node1 = { }; }
