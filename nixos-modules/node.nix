# The daemon: its configuration file, its user, its unit.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.blixard;

  blixard = "${lib.getExe cfg.package} node --config /etc/blixard/blixard.toml";
  configFile = (pkgs.formats.toml { }).generate "blixard.toml" cfg.settings;

  # systemd makes and owns only what lies below /var/lib.
  inVarLib = lib.hasPrefix "/var/lib/" cfg.dataDir;

  # The daemon listens, talks to systemd over D-Bus and is a client of nix-daemon: it needs no more.
  # What `systemd-analyze security` still counts, and why it stays:
  # - the network, and every address: nodes are anywhere, and flakes are fetched from anywhere;
  # - memory that is executable: libffi, on which pydbus rests, writes its callbacks at run time;
  # - all of /proc: the boot id and the memory of the host are in its other half;
  # - the users of the host: polkit asks who it is;
  # - the root directory: the runners are in the Nix store, and the VMs' directories in /var/lib.
  hardening = {
    CapabilityBoundingSet = "";
    KeyringMode = "private";
    LockPersonality = true;
    NoNewPrivileges = true;
    PrivateTmp = true;
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectHome = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    ProtectSystem = "strict";
    ReadWritePaths = lib.optional (!inVarLib) cfg.dataDir;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    SystemCallArchitectures = "native";
    UMask = "0077";
  }
  # Guests of the process driver run in this unit, with the devices and system calls of QEMU.
  // lib.optionalAttrs (cfg.driver == "systemd") {
    DevicePolicy = "closed";
    PrivateDevices = true;
    PrivateIPC = true;
    ProtectProc = "invisible";
    RemoveIPC = true;
    RestrictAddressFamilies = [
      "AF_INET"
      "AF_INET6"
      "AF_NETLINK"
      "AF_UNIX"
    ];
    RestrictNamespaces = true;
    SystemCallErrorNumber = "EPERM";
    SystemCallFilter = [
      "@system-service"
      "~@privileged @resources"
      # The directory of a VM is given to the group of the VMs.
      "@chown"
    ];
  };
in
{
  config = lib.mkIf cfg.enable {
    services.blixard.settings = {
      node = {
        id = cfg.nodeId;
        inherit (cfg)
          bind
          bootstrap
          driver
          peers
          ;
        data_dir = cfg.dataDir;
      }
      // lib.optionalAttrs (cfg.labels != { }) { inherit (cfg) labels; }
      // lib.optionalAttrs (cfg.advertise != null) { inherit (cfg) advertise; };
      capacity = {
        reserve_disk_mib = cfg.reserve.disk;
        reserve_memory_mib = cfg.reserve.memory;
      };
      # Node and keeper keep to the same times, so they are always said.
      lease = {
        lease_ms = cfg.lease.duration;
        renew_ms = cfg.lease.renewal;
        kill_ms = cfg.lease.killBudget;
        watchdog_ms = cfg.watchdog.timeout;
      };
      watchdog = { inherit (cfg.watchdog) mode; };
      metrics = lib.mkIf (cfg.metrics.bind != null) { inherit (cfg.metrics) bind; };
    };

    environment.etc."blixard/blixard.toml".source = configFile;
    environment.systemPackages = [ cfg.package ];

    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [
      (lib.toIntBase10 (lib.last (lib.splitString ":" cfg.bind)))
    ];

    # Members of the group may use the API socket.
    users.groups.blixard = { };
    users.users.blixard = {
      isSystemUser = true;
      group = "blixard";
      home = cfg.dataDir;
      # The VMs' state directories belong to kvm; their consoles are in the journal.
      extraGroups = [
        "kvm"
        "systemd-journal"
      ];
    };

    systemd.tmpfiles.settings."10-blixard" = lib.mkIf (!inVarLib) {
      ${cfg.dataDir}.d = {
        user = "blixard";
        group = "blixard";
        mode = "0700";
      };
    };

    # A host that sleeps renews nothing: its VMs would be ended the moment it wakes, and run elsewhere.
    systemd.targets = lib.genAttrs [
      "hibernate"
      "hybrid-sleep"
      "sleep"
      "suspend"
      "suspend-then-hibernate"
    ] (_: { enable = false; });

    systemd.services.blixard = {
      description = "Blixard node ${toString cfg.nodeId}";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [
        # It ends after the daemon, which lets the VMs go when the host shuts down.
        "blixard-keeper.service"
        "dbus.service"
        "network-online.target"
        "nix-daemon.socket"
      ];
      restartTriggers = [ configFile ];
      startLimitIntervalSec = 0;
      path = [
        config.nix.package
        pkgs.gitMinimal
      ];
      environment.XDG_CACHE_HOME = "/var/cache/blixard";

      serviceConfig = {
        Type = "notify";
        ExecStart = blixard;
        ExecReload = [
          "${blixard} --check"
          "${pkgs.coreutils}/bin/kill -HUP $MAINPID"
        ];
        WatchdogSec = 30;
        Restart = "always";
        RestartSec = 1;
        # What another start would only meet again: a mistake in the configuration, a node that the
        # cluster does not let in, a damaged log.
        RestartPreventExitStatus = "2 3";

        User = "blixard";
        Group = "blixard";
        StateDirectory = lib.mkIf inVarLib (lib.removePrefix "/var/lib/" cfg.dataDir);
        StateDirectoryMode = "0700";
        CacheDirectory = "blixard";
        CacheDirectoryMode = "0700";
        RuntimeDirectory = "blixard";
        RuntimeDirectoryMode = "0750";
        # What the daemon must find again after a restart, and not after a reboot.
        RuntimeDirectoryPreserve = true;

        # A restart leaves the VMs alone: they are units of their own, or guards in this unit's cgroup
        # that only the daemon may end.
        KillMode = if cfg.driver == "process" then "process" else "mixed";
      }
      // hardening;
    };
  };
}
