# A guest that is one process and takes no CPU, so that many fit on a small machine.
{
  description = "A guest that only exists";

  outputs =
    { self }:
    {
      nixosConfigurations.still.config.microvm = rec {
        hypervisor = "qemu";
        vcpu = 1;
        mem = 64;
        volumes = [ ];
        shares = [ ];
        interfaces = [ ];
        devices = [ ];

        declaredRunner = derivation {
          name = "microvm-still";
          system = "x86_64-linux";
          builder = "/bin/sh";
          args = [ ./build ];
          run = ./microvm-run;
          inherit hypervisor;
        };
      };
    };
}
