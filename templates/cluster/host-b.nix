# What `nixos-generate-config` wrote on this host belongs here.
{
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "26.05";
}
