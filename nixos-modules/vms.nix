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

  # Nothing but these files: the units change only with them.
  program = lib.sourceByRegex ../python [
    "blixard"
    "blixard/__init__\\.py"
    "blixard/drivers"
    "blixard/drivers/(__init__|console_hub|console_tee)\\.py"
  ];
  tee = "${pkgs.python3.interpreter} -I -S ${program}/blixard/drivers/console_tee.py";

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
            # The runner becomes the unit's own process; what it writes goes through a child of it, so
            # that its console can be attached to whether the daemon runs or not.
            ExecStart = lib.mkForce [
              ""
              "${tee} /run/blixard-console/%i/console.sock ${config.microvm.stateDir}/%i/current/bin/microvm-run"
            ];
            RuntimeDirectory = "blixard-console/%i";
            RuntimeDirectoryMode = "0750";
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
