# A guest from NixOS modules. What Blixard builds of it is `config.microvm.declaredRunner`.
{ nixpkgs, microvm, ... }:
{
  modules,
  name ? "vm",
  system ? "x86_64-linux",
}:
nixpkgs.lib.nixosSystem {
  modules = modules ++ [
    microvm.nixosModules.microvm
    (
      { lib, ... }:
      {
        # What a module on its own cannot go without, and is free to set otherwise.
        # The platform is stronger than what a template falls back to.
        nixpkgs.hostPlatform = lib.mkOverride 900 system;
        networking.hostName = lib.mkDefault name;
        system.stateVersion = lib.mkDefault lib.trivial.release;
      }
    )
  ];
}
