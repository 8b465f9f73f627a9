# Whole NixOS hosts with Blixard's module: what the tests look at in each. Attributes are lazy, so a
# test pays only for the host it asks for. `inputs` is the directory described in conftest.py.
{ inputs }:

let
  nixpkgs = import ./nixpkgs inputs;
  microvm = (import (inputs + "/microvm/flake.nix")).outputs {
    inherit nixpkgs;
    self = microvm;
    spectrum = null;
  };
  blixard = (import ../../flake.nix).outputs {
    inherit microvm nixpkgs;
    self = blixard;
  };
  inherit (nixpkgs) lib;

  evaluate =
    modules: services:
    nixpkgs.lib.nixosSystem {
      modules = modules ++ [
        {
          nixpkgs.hostPlatform = "x86_64-linux";
          system.stateVersion = "26.05";
          services.blixard = services;
        }
      ];
    };
  host = evaluate [ blixard.nixosModules.default ];
  withoutVmUnits = evaluate [
    blixard.nixosModules.blixard
    { nixpkgs.overlays = [ blixard.overlays.default ]; }
  ];

  seen =
    { config, ... }:
    {
      settings = config.services.blixard.settings;
      inherit (config.services.blixard) declared;
      units = lib.mapAttrs (_: unit: unit.text) (
        lib.filterAttrs (
          name: _: lib.hasPrefix "blixard" name || lib.hasPrefix "microvm" name
        ) config.systemd.units
      );
      user = lib.mapAttrs (_: user: {
        inherit (user)
          extraGroups
          group
          home
          isSystemUser
          ;
      }) (lib.filterAttrs (name: _: name == "blixard") config.users.users);
      groups = lib.attrNames config.users.groups;
      polkit = config.environment.etc."polkit-1/rules.d/10-nixos.rules".text or null;
      masked = lib.attrNames (lib.filterAttrs (_: unit: !unit.enable) config.systemd.units);
      ports = config.networking.firewall.allowedTCPPorts;
      tmpfiles = config.systemd.tmpfiles.settings;
      configFile = config.environment.etc."blixard/blixard.toml".source or null;
      command = lib.any (each: each.pname or "" == "blixard") config.environment.systemPackages;
    };

  # The failed assertions that are Blixard's; others ask for disks and a boot loader.
  complaints =
    { config, ... }:
    map (each: each.message) (
      lib.filter (
        each: !each.assertion && lib.hasPrefix "services.blixard" each.message
      ) config.assertions
    );

  # A VM that the host declares for itself; its runner is beside the point.
  ownVm.microvm.vms.own.flake = {
    outPath = "/own";
    nixosConfigurations.own.config = {
      microvm.shares = [ ];
      microvm.declaredRunner = {
        outPath = "/runner";
        registerWithMachined = false;
        supportsNotifySocket = false;
      };
      system.build.toplevel = "/toplevel";
    };
  };

  founder = {
    enable = true;
    nodeId = 1;
    bootstrap = true;
    peers = [
      "2:[fd00::2]:7001"
      "3:node-c:7001"
    ];
  };
  joiner = {
    enable = true;
    nodeId = 2;
    peers = [ "1:10.0.0.1:7001" ];
  };
  nixosTests = import ../nixos {
    inherit lib;
    pkgs = nixpkgs.legacyPackages.x86_64-linux;
    self = blixard;
  };
  documented = lib.optionAttrSetToDocList (withoutVmUnits { }).options.services.blixard;
in
{
  founder = seen (host founder);

  joiner = seen (
    host (
      joiner
      // {
        bind = "10.0.0.2:7100";
        advertise = "node-b:7100";
        dataDir = "/srv/blixard";
        openFirewall = true;
        settings = {
          capacity.memory_mib = 24576;
          nix.options.cores = "2";
          node.log_level = "debug";
        };
      }
    )
  );

  guarded = seen (
    host (
      founder
      // {
        watchdog.device = "/dev/watchdog1";
        watchdog.mode = "guaranteed";
        watchdog.timeout = 7000;
        lease.duration = 12000;
        lease.killBudget = 1500;
      }
    )
  );

  declaring = seen (
    host (
      founder
      // {
        vms.web = {
          source = "github:me/infra#web";
          memory = 1024;
          failover = "always";
        };
        vms.db = {
          source = "/srv/db";
          onQuorumLoss = "keep";
          restartLimit = 0;
          vcpus = 2;
        };
      }
    )
  );

  process = seen (withoutVmUnits (founder // { driver = "process"; }));

  withOwnVm = seen ((host founder).extendModules { modules = [ ownVm ]; });

  disabled = seen (withoutVmUnits { });

  complaints = lib.mapAttrs (_: complaints) {
    founder = host (
      founder
      // {
        bind = "[::]:7001";
        advertise = "node-a:7001";
      }
    );
    process = withoutVmUnits (joiner // { driver = "process"; });
    lonely = host {
      enable = true;
      nodeId = 1;
    };
    muddled = host (
      joiner
      // {
        bind = "0.0.0.0:7001";
        peers = [
          "1:10.0.0.1"
          "2:10.0.0.2:7001"
        ];
      }
    );
    portless = host (
      founder
      // {
        bind = "10.0.0.1:70000";
        peers = [
          "2:10.0.0.2:0"
          "3:node-c:7001"
        ];
      }
    );
    misspelt = host (founder // { settings.node.log-level = "debug"; });
    tableless = host (founder // { settings.nodes.log_level = "debug"; });
    flat = host (founder // { settings.nix = 5; });
    hasty = host (
      founder
      // {
        lease.duration = 6000;
        watchdog.timeout = 5001;
      }
    );
    unguarded = host (founder // { watchdog.mode = "guaranteed"; });
    processGuarded = withoutVmUnits (
      founder
      // {
        driver = "process";
        watchdog.device = "/dev/watchdog1";
        watchdog.mode = "guaranteed";
      }
    );
    misnamed = host (founder // { vms.Web.source = "github:me/infra#web"; });
    declaredTwice = (host (founder // { vms.own.source = "github:me/infra#own"; })).extendModules {
      modules = [ ownVm ];
    };
    noVmUnits = withoutVmUnits founder;
    vmUnitsOff = (host founder).extendModules { modules = [ { microvm.host.enable = false; } ]; };
  };

  warnings = lib.mapAttrs (
    _: { config, ... }: lib.filter (lib.hasPrefix "services.blixard") config.warnings
  ) {
    odd = host founder;
    even = host (founder // { peers = [ "2:10.0.0.2:7001" ]; });
  };

  # Each of these ends the evaluation.
  wrong = lib.mapAttrs (_: settings: { inherit (seen (host settings)) declared units; }) {
    nodeIdZero = founder // {
      nodeId = 0;
    };
    noNodeId = {
      enable = true;
    };
    bindWithoutPort = founder // {
      bind = "10.0.0.1";
    };
    unknownDriver = founder // {
      driver = "docker";
    };
    noSource = founder // {
      vms.web.memory = 1024;
    };
    unknownFailover = founder // {
      vms.web = {
        source = "github:me/infra#web";
        failover = "perhaps";
      };
    };
    hastyKill = founder // {
      lease.killBudget = 999;
    };
    unknownMode = founder // {
      watchdog.mode = "perhaps";
    };
    unknownOption = founder // {
      nodeID = 1;
    };
    contradiction = founder // {
      settings.node.id = 3;
    };
  };

  # The configurations whose rendering is kept in golden/.
  golden = lib.mapAttrs (_: services: seen (host services)) {
    minimal = {
      enable = true;
      nodeId = 1;
      bootstrap = true;
    };
    three-node = founder // {
      bind = "10.0.0.1:7001";
      openFirewall = true;
      peers = [
        "2:10.0.0.2:7001"
        "3:10.0.0.3:7001"
      ];
    };
    everything = joiner // {
      bind = "[fd00::2]:7100";
      advertise = "node-b:7100";
      dataDir = "/srv/blixard";
      openFirewall = true;
      metrics.bind = "10.0.0.2:9101";
      watchdog.device = "/dev/watchdog1";
      watchdog.mode = "guaranteed";
      vms.web = {
        source = "github:me/infra#web";
        memory = 1024;
        failover = "always";
        group = "web";
        apart = [ "web/zone" ];
        disk = 2048;
        require = [ "zone=cellar" ];
      };
      settings = {
        capacity.memory_mib = 24576;
        nix.options.cores = "2";
        node.log_level = "debug";
      };
      labels.zone = "cellar";
      reserve.disk = 20480;
      reserve.memory = 4096;
      lease.duration = 12000;
      lease.renewal = 900;
      lease.killBudget = 1500;
      watchdog.timeout = 7000;
    };
  };

  package =
    let
      package = blixard.packages.x86_64-linux.default;
      inherit (package) dependencies;
      pysyncobj = lib.findFirst (each: lib.getName each == "pysyncobj") null dependencies;
    in
    {
      inherit (package) version;
      inherit (package.meta) mainProgram;
      dependencies = map lib.getName dependencies;
      pysyncobj = {
        inherit (pysyncobj) version;
        hash = pysyncobj.src.outputHash;
      };
    };

  nixosTests = lib.mapAttrs (_: test: {
    script = builtins.unsafeDiscardStringContext test.config.testScriptString;
    nodes = lib.attrNames test.nodes;
  }) nixosTests;

  # The nodes of one test, as they are in all others.
  nodes = lib.mapAttrs (_: node: {
    inherit (node.services.blixard) settings;
    address = node.networking.primaryIPAddress;
    ports = node.networking.firewall.allowedTCPPorts;
    paths = map toString node.virtualisation.additionalPaths;
    complaints = map (each: each.message) (lib.filter (each: !each.assertion) node.assertions);
  }) nixosTests.failover.nodes;

  options = map (
    option:
    lib.getAttrs [
      "description"
      "name"
      "type"
    ] option
    // lib.genAttrs [ "default" "example" ] (part: option.${part}.text or null)
  ) (lib.filter (option: option.visible && !option.internal) documented);
}
