{
  imports = [
    ./options.nix
    ./node.nix
    ./vms.nix
  ];
}
