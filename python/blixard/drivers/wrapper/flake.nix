# Turns one NixOS module, `microvm.nix`, into a runner. It is laid beside a module that came as a
# plain file: `path:DIR#nixosConfigurations.vm.config.microvm.declaredRunner`.
{
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
      nixosConfigurations.vm = nixpkgs.lib.nixosSystem {
        modules = [
          microvm.nixosModules.microvm
          ./microvm.nix
          (
            { lib, ... }:
            {
              # What a module on its own cannot go without, and is free to set otherwise.
              nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
              networking.hostName = lib.mkDefault "vm";
              system.stateVersion = lib.mkDefault lib.trivial.release;
            }
          )
        ];
      };
    };
}
