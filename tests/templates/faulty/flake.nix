# VMs that go wrong, each in one way.
{
  outputs =
    { self }:
    let
      vm = script: {
        config.microvm = {
          hypervisor = "qemu";
          vcpu = 1;
          mem = 128;
          declaredRunner = derivation {
            name = "microvm-faulty";
            system = "x86_64-linux";
            builder = "/bin/sh";
            args = [
              (builtins.toFile "build" ''
                set -eu
                PATH=/usr/bin:/bin
                mkdir -p "$out/bin" "$out/share/microvm"
                ${script}
                echo built
              '')
            ];
          };
        };
      };
    in
    {
      nixosConfigurations = {
        # Its run ends at once, in failure.
        dies = vm ''
          printf '#!/bin/sh\necho "dies: the disk is on fire"\nexit 7\n' >"$out/bin/microvm-run"
          chmod 755 "$out/bin/microvm-run"
        '';
        unbuildable = vm ''
          echo "unbuildable: a part is missing" >&2
          exit 3
        '';
        unevaluable.config.microvm.declaredRunner = throw "unevaluable: an option is wrong";
        # It builds, but there is nothing to run in it.
        no-runner = vm "";
      };
    };
}
