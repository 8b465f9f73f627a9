# An ordinary NixOS configuration, and beside it what the virtual machine is made of: see the options
# of microvm.nix.
{
  system.stateVersion = "26.05";

  microvm = {
    hypervisor = "qemu";
    vcpu = 1;
    mem = 512;

    # The guest reads the store of its host, so there is no disk image to build.
    shares = [
      {
        proto = "9p";
        tag = "ro-store";
        source = "/nix/store";
        mountPoint = "/nix/.ro-store";
      }
    ];

    # Port 8080 of the host that runs it leads to the guest.
    interfaces = [
      {
        type = "user";
        id = "web";
        mac = "02:00:00:00:00:01";
      }
    ];
    forwardPorts = [
      {
        from = "host";
        host.port = 8080;
        guest.port = 80;
      }
    ];
  };

  networking.firewall.allowedTCPPorts = [ 80 ];
  users.mutableUsers = false;
  users.allowNoPasswordLogin = true;

  services.nginx.enable = true;
}
