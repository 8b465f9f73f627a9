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

  outputs = inputs: {
    nixosConfigurations.vm = import ./mk-vm.nix inputs { modules = [ ./microvm.nix ]; };
  };
}
