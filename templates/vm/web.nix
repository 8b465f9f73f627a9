# An ordinary NixOS configuration, and beside it what the virtual machine is made of: see the options
# of microvm.nix.
{
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
  };

  users.mutableUsers = false;
  users.allowNoPasswordLogin = true;

  services.nginx.enable = true;
}
