# The NixOS tests, by name. Each is a module beside its script, which the systemd hosts of tests/hosts
# run as well: both speak the words of the NixOS test driver, and of words.py.
#
# Discovery over Tailscale, tested with headscale, joins them when Blixard has it.
{
  lib,
  pkgs,
  self,
}:

let
  # The nodes have no network to build from: their guest is built before, and lies in their stores.
  guest =
    (self.lib.mkVm {
      inherit (pkgs.stdenv.hostPlatform) system;
      modules = [
        ../../vm-templates/minimal/configuration.nix
        {
          # Any host can emulate this one; the hosts are guests themselves.
          microvm.cpu = "max";
          # Says that it was not killed.
          systemd.services.heartbeat.postStop = "echo $HOSTNAME: powers off";
        }
      ];
    }).config.microvm.declaredRunner;

  run =
    name:
    pkgs.testers.runNixOSTest {
      imports = [ ./${name}.nix ];
      inherit name;
      defaults.imports = [
        self.nixosModules.default
        ./node.nix
        { virtualisation.additionalPaths = [ guest ]; }
      ];
      testScript = ''
        GUEST = "${guest}"
        ${builtins.readFile ./words.py}
        ${builtins.readFile ./${name}.py}
      '';
    };
in
lib.genAttrs [
  "cluster"
  "drain"
  "failover"
  "rolling-restart"
  "single-node"
  "vm-lifecycle"
] run
