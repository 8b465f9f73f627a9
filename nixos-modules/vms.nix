# What Blixard needs of the VMs' own units, which microvm.nix brings.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:

let
  cfg = config.services.blixard;
  hasHost = options ? microvm && options.microvm ? host;

  stopGuest = lib.getExe (
    pkgs.writeShellApplication {
      name = "microvm-stop";
      runtimeInputs = [ pkgs.coreutils ];
      text = builtins.readFile ./microvm-stop.sh;
    }
  );
in
{
  config = lib.mkIf (cfg.enable && cfg.driver == "systemd") (
    lib.mkMerge [
      {
        assertions = [
          {
            assertion = hasHost && config.microvm.host.enable;
            message = ''
              services.blixard.driver = "systemd" starts VMs as microvm@NAME.service, which this host
              does not have. Import nixosModules.default of Blixard, or nixosModules.host of
              microvm.nix beside nixosModules.blixard, and leave microvm.host.enable at true.
            '';
          }
        ];

        security.polkit.enable = true;
        security.polkit.extraConfig = builtins.readFile ./polkit.rules;
      }

      (lib.optionalAttrs hasHost {
        systemd.services = {
          blixard.serviceConfig.ReadWritePaths = [ config.microvm.stateDir ];

          "microvm@".serviceConfig = {
            # A VM that ended is Blixard's to restart, perhaps on another host.
            Restart = lib.mkForce "no";
            ExecStop = lib.mkForce "${stopGuest} ${config.microvm.stateDir}/%i";
          };
        }
        # What this host declares by itself is not Blixard's.
        // lib.mapAttrs' (
          name: _: lib.nameValuePair "microvm@${name}" { serviceConfig.Restart = "always"; }
        ) config.microvm.vms;
      })
    ]
  );
}
