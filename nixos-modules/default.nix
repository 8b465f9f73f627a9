{
  imports = [
    ./options.nix
    ./assertions.nix
    ./keeper.nix
    ./node.nix
    ./vms.nix
  ];
}
