# A NixOS guest that nobody logs in to. Try it on a cluster, then make it yours:
#
#     blixard vm create --name hello --config .#minimal --wait
#     journalctl --unit microvm@hello --follow      # on the host that runs it
{ lib, ... }:

{
  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
  system.stateVersion = "26.05";
  networking.hostName = "minimal";

  microvm = {
    hypervisor = "qemu";
    vcpu = 1;
    mem = 384;

    # The guest reads the store of whichever host runs it, so no disk image is built and nothing ties
    # the guest to one host.
    shares = [
      {
        proto = "9p";
        tag = "ro-store";
        source = "/nix/store";
        mountPoint = "/nix/.ro-store";
      }
    ];
  };

  # No password, no key, no prompt: the guest is what its services are.
  users.mutableUsers = false;
  users.allowNoPasswordLogin = true;
  systemd.services."serial-getty@".enable = false;

  systemd.services.heartbeat = {
    description = "Signs of life on the console";
    wantedBy = [ "multi-user.target" ];
    script = ''
      echo "$HOSTNAME: up on Linux $(uname -r)"
      for ((beat = 1; ; beat++)); do
        echo "$HOSTNAME: heartbeat $beat"
        sleep 10
      done
    '';
    serviceConfig.StandardOutput = "journal+console";
  };
}
