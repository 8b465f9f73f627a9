# The smallest VM that Blixard runs: a Linux that says who it is and then counts.
#
# It needs neither nixpkgs nor a network. Its runner is a plain derivation which takes BusyBox and
# QEMU from the host (Debian: busybox-static, qemu-system-x86) and its kernel from
# /opt/blixard/guest/vmlinuz, where `make guest` puts it. Nix must build without a sandbox.
#
#     blixard vm create --name web --config ./vm-templates/tiny#tiny
#
# The guest calls itself by the name of the folder that it runs in: /var/lib/microvms/web is "web".
{
  description = "A guest of one kernel and one BusyBox";

  outputs =
    { self }:
    {
      nixosConfigurations.tiny.config.microvm = rec {
        hypervisor = "qemu";
        vcpu = 1;
        mem = 128;
        volumes = [ ];
        shares = [ ];
        interfaces = [ ];
        devices = [ ];

        declaredRunner = derivation {
          name = "microvm-tiny";
          system = "x86_64-linux";
          builder = "/bin/sh";
          args = [ ./build ];
          init = ./init;
          run = ./microvm-run;
          shutdown = ./microvm-shutdown;
          inherit hypervisor vcpu mem;
        };
      };
    };
}
