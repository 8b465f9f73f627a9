{
  imports = [
    ./options.nix
    ./assertions.nix
    ./declared.nix
    ./keeper.nix
    ./node.nix
    ./vms.nix
  ];
}
