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

  # Nobody logs in: there is no password, no key and no prompt. What the guest does is its services,
  # and what it says on its console is in the host's journal.
  users.mutableUsers = false;
  users.allowNoPasswordLogin = true;
  systemd.services."serial-getty@".enable = false;

  systemd.services.hello = {
    description = "A sign of life on the console";
    wantedBy = [ "multi-user.target" ];
    script = ''echo "minimal: up on Linux $(uname -r)"'';
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      StandardOutput = "journal+console";
    };
  };
}
