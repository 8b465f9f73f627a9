{
  description = "A web server for Blixard, with a port and a check of its health";

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
      nixosConfigurations.web = nixpkgs.lib.nixosSystem {
        modules = [
          microvm.nixosModules.microvm
          ./configuration.nix
        ];
      };
    };
}
