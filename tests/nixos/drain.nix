{
  nodes = {
    node1 = { };
    node2 = { };
    node3 = { };
  };
}
