{
  nodes = {
    node1 = { };
    node2 = { };
    node3 = { };
    # It is switched on only when the others have a cluster for it to join.
    node4 = { };
  };
}
