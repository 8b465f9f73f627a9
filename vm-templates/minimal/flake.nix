{
  description = "The smallest NixOS guest for Blixard";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    microvm = {
      url = "github:microvm-nix/microvm.nix";
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  outputs =
    { nixpkgs, microvm, ... }:
    {
      nixosConfigurations.minimal = nixpkgs.lib.nixosSystem {
        modules = [
          microvm.nixosModules.microvm
          ./configuration.nix
        ];
      };
    };
}
