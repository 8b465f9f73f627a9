{
  description = "A store of keys and values for Blixard, with a volume that stays on its host";

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
      nixosConfigurations.stateful = nixpkgs.lib.nixosSystem {
        modules = [
          microvm.nixosModules.microvm
          ./configuration.nix
        ];
      };
    };
}
