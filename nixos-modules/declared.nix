# The VMs that this host declares: a file of its own, and who tells the cluster of it.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkOption types;
  cfg = config.services.blixard;

  file = (pkgs.formats.toml { }).generate "vms.toml" { vms = cfg.declared; };

  milliseconds =
    default: least: most: description:
    mkOption {
      type = types.ints.between least most;
      inherit default description;
      example = 2 * default;
    };

  terms =
    example: description:
    mkOption {
      type = types.listOf types.nonEmptyStr;
      default = [ ];
      inherit example description;
    };

  vm = {
    options = {
      source = mkOption {
        type = types.nonEmptyStr;
        example = "github:me/infra#web";
        description = ''
          What it is: a flake reference and a name under `nixosConfigurations`, a folder with a flake or
          a {file}`microvm.nix`, or the store path of a finished runner. A reference is pinned when
          the VM is declared, and anew only when this option changes.
        '';
      };

      vcpus = mkOption {
        type = types.ints.between 1 1024;
        default = 1;
        example = 2;
        description = "How many virtual CPUs it takes of a host.";
      };

      memory = mkOption {
        type = types.ints.between 16 16777216;
        default = 512;
        example = 2048;
        description = "How much memory it takes of a host, in MiB.";
      };

      failover = mkOption {
        type = types.enum [
          "auto"
          "always"
          "never"
        ];
        default = "auto";
        example = "always";
        description = ''
          Whether another host starts it when its own is lost: if it has no volumes (`auto`), even if
          they stay behind, or not.
        '';
      };

      onQuorumLoss = mkOption {
        type = types.enum [
          "stop"
          "keep"
        ];
        default = "stop";
        example = "keep";
        description = ''
          What becomes of it when its host loses the cluster: it ends with the host's lease and starts
          elsewhere (`stop`), or it goes on, and starts elsewhere only once a person has confirmed
          that its host is down (`keep`).
        '';
      };

      restartLimit = mkOption {
        type = types.ints.between 0 1000;
        default = 5;
        example = 0;
        description = "How often in a row it is restarted when it ends by itself.";
      };

      disk = mkOption {
        type = types.ints.between 0 1073741824;
        default = 0;
        example = 10240;
        description = "Disk that is set aside for it on its host, in MiB.";
      };

      priority = mkOption {
        type = types.ints.between (-1000) 1000;
        default = 0;
        example = 10;
        description = "Of VMs that wait for a host, those of a higher priority come first.";
      };

      strategy = mkOption {
        type = types.enum [
          "spread"
          "pack"
        ];
        default = "spread";
        example = "pack";
        description = ''
          Of the hosts that are left: the one with the largest share of its memory free (`spread`), or
          with the smallest.
        '';
      };

      group = mkOption {
        type = types.strMatching "[A-Za-z0-9._-]{0,63}";
        default = "";
        example = "web";
        description = "The group it belongs to, by which other VMs can be near it or apart from it.";
      };

      require = terms [ "zone=cellar" ] ''
        Labels that its host must have, each as `label=value`, or `label!=value` for one that it must
        not have. It waits while no such host has room.
      '';
      prefer = terms [ "kvm=yes" ] "Such labels that its host should have, if one has room.";
      near = terms [ "db" ] ''
        Groups, or names of VMs, that must run on its host; as `group/label`: on a host with the same
        value of that label.
      '';
      preferNear = terms [ "db/rack" ] "Such groups that should run there.";
      apart = terms [ "web" ] ''
        Groups, or names of VMs, that must not run on its host; as `group/label`: on no host with the
        same value of that label.
      '';
      check = {
        probe = mkOption {
          type = types.str;
          default = "";
          example = "http://10.0.0.9/health";
          description = ''
            How its host finds out whether its guest serves: `tcp:HOST:PORT`, a URL, `command:PROGRAM`
            with its arguments, or `console:TEXT`; empty: not at all.
          '';
        };
        interval = milliseconds 10000 1000 3600000 "From one check to the next, in ms.";
        timeout = milliseconds 5000 100 60000 "When a check has failed, in ms.";
        startPeriod = milliseconds 60000 0 3600000 ''
          For how long after its start failures do not count, in ms, unless it has passed before.
        '';
        failures = mkOption {
          type = types.ints.between 1 100;
          default = 3;
          example = 5;
          description = "So many failures in a row, and the guest is failing.";
        };
        onFailure = mkOption {
          type = types.enum [
            "report"
            "restart"
          ];
          default = "report";
          example = "restart";
          description = "Whether a failing guest is restarted, as one that ended by itself.";
        };
      };
      preferApart = terms [ "web/rack" ] "Such groups that should not run there.";
    };
  };

  isName = name: builtins.match "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?" name != null;
  misnamed = lib.filter (name: !isName name) (lib.attrNames cfg.vms);
  twice = lib.attrNames (lib.intersectAttrs (config.microvm.vms or { }) cfg.vms);
in
{
  options.services.blixard.declared = mkOption {
    type = types.attrs;
    internal = true;
    readOnly = true;
    description = "The tables of {file}`/etc/blixard/vms.toml`.";
    default = lib.mapAttrs (_: vm: {
      inherit (vm)
        apart
        failover
        group
        near
        prefer
        priority
        require
        source
        strategy
        vcpus
        ;
      disk_mib = vm.disk;
      check = vm.check.probe;
      check_failures = vm.check.failures;
      check_interval_ms = vm.check.interval;
      check_on_failure = vm.check.onFailure;
      check_start_period_ms = vm.check.startPeriod;
      check_timeout_ms = vm.check.timeout;
      prefer_apart = vm.preferApart;
      prefer_near = vm.preferNear;
      memory_mib = vm.memory;
      on_quorum_loss = vm.onQuorumLoss;
      restart_limit = vm.restartLimit;
    }) cfg.vms;
  };

  options.services.blixard.vms = mkOption {
    type = types.attrsOf (types.submodule vm);
    default = { };
    example = {
      web = {
        source = "github:me/infra#web";
        memory = 1024;
      };
    };
    description = ''
      The VMs that the cluster is to run, on whichever host has room. The node that declares a VM first
      owns it, and only its configuration changes it; so other nodes may declare the same. A change
      is in force once the VM is restarted. One that is declared no more goes on, until
      {command}`blixard vm delete` ends it.
    '';
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = misnamed == [ ];
        message = ''
          services.blixard.vms: "${lib.head misnamed}" is no DNS label. A name has 1 to 63 characters of
          a-z, 0-9 and -, and neither begins nor ends with -.
        '';
      }
      {
        assertion = twice == [ ];
        message = ''
          services.blixard.vms.${lib.head twice}: microvm.vms.${lib.head twice} is started by this host
          itself, so it could run twice. Declare it in one of both.
        '';
      }
    ];

    environment.etc."blixard/vms.toml".source = file;

    # Also where no VM is declared: there may have been one.
    systemd.services.blixard-declare = {
      description = "The VMs that Blixard node ${toString cfg.nodeId} declares";
      wantedBy = [ "multi-user.target" ];
      wants = [ "blixard.service" ];
      after = [ "blixard.service" ];
      restartTriggers = [ file ];
      startLimitIntervalSec = 0;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${lib.getExe cfg.package} vm apply /etc/blixard/vms.toml --owner ${toString cfg.nodeId}";
        # The cluster may not be there yet. A mistake is no better the next time.
        Restart = "on-failure";
        RestartSec = 5;
        RestartPreventExitStatus = "2 3";
        User = "blixard";
        Group = "blixard";
        CapabilityBoundingSet = "";
        LockPersonality = true;
        NoNewPrivileges = true;
        PrivateDevices = true;
        PrivateTmp = true;
        ProtectHome = true;
        ProtectSystem = "strict";
        RestrictAddressFamilies = "AF_UNIX AF_INET AF_INET6";
        RestrictNamespaces = true;
        RestrictSUIDSGID = true;
        SystemCallArchitectures = "native";
        SystemCallFilter = "@system-service";
      };
    };
  };
}
