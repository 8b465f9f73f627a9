{
  imports = [
    ./options.nix
    ./assertions.nix
    ./node.nix
    ./vms.nix
  ];
}
