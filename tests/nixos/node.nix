# Every machine of a test: the node of its number. The first founds the cluster, and the others look
# for it there.
{
  config,
  lib,
  nodes,
  ...
}:

let
  number = config.virtualisation.test.nodeNumber;
  address = node: "${node.networking.primaryIPAddress}:7001";
in
{
  services.blixard = {
    enable = true;
    nodeId = number;
    bind = address config;
    bootstrap = number == 1;
    openFirewall = true;
    peers = lib.mapAttrsToList (
      _: node: "${toString node.virtualisation.test.nodeNumber}:${address node}"
    ) (lib.filterAttrs (_: node: node.virtualisation.test.nodeNumber != number) nodes);
  };

  # Nothing is to be had from a cache, so nobody waits for one.
  nix.settings.substituters = lib.mkForce [ ];

  virtualisation = {
    cores = 2;
    # Room for the guest beside what services.blixard.reserve leaves to the host.
    memorySize = 2048;
  };
}
