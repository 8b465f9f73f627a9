# A store of keys and values whose data outlive the guest, on one host.
#
#     blixard vm create --name db --config .#stateful --memory 512 --wait
#
# What that means when its host is lost: the volume is a file of that host, in
# /var/lib/microvms/NAME, and nobody copies it. With `--failover auto`, the default, the VM waits for
# its host to come back, and runs there again with its data. With `--failover always` another host
# starts it, with an empty volume.
{ lib, ... }:

{
  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
  system.stateVersion = "26.05";
  networking.hostName = "stateful";

  microvm = {
    hypervisor = "qemu";
    mem = 512;

    # Made and formatted when the guest starts on a host for the first time. The size is in MiB.
    volumes = [
      {
        image = "state.img";
        mountPoint = "/var/lib/redis-main";
        size = 1024;
      }
    ];

    shares = [
      {
        proto = "9p";
        tag = "ro-store";
        source = "/nix/store";
        mountPoint = "/nix/.ro-store";
      }
    ];
  };

  users.mutableUsers = false;
  users.allowNoPasswordLogin = true;

  services.redis.servers.main = {
    enable = true;
    appendOnly = true;
  };
}
