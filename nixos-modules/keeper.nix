# The keeper: it ends the VMs of this host when the host's lease ends, whatever the daemon does.
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

  # Nothing but these files: the keeper is restarted only when they change.
  program = lib.sourceByRegex ../python [
    "blixard"
    "blixard/__init__\\.py"
    "blixard/drivers"
    "blixard/drivers/(__init__|keeper.*)\\.py"
  ];
  keeper = "${pkgs.python3.interpreter} -I -S ${program}/blixard/drivers/keeper.py";

  # A gate alone is not enough, so it is asked before every start.
  gated = {
    # Not Requires=, BindsTo= or StopPropagatedFrom=: a keeper that is restarted would stop VMs.
    wants = [ "blixard-keeper.service" ];
    after = [ "blixard-keeper.service" ];
    serviceConfig = {
      ExecCondition = "${keeper} gate %i";
      Restart = lib.mkForce "no";
      Slice = lib.mkForce "blixard-vms.slice";
    };
  };
  # What the keeper and its deputy have in common.
  confined = {
    # Not below /run/blixard, which belongs to the daemon's user.
    RuntimeDirectory = "blixard-keeper";
    RuntimeDirectoryPreserve = true;

    # They ask for real time themselves: CPUSchedulingPolicy= would keep them from starting
    # where the kernel grants their cgroup none.
    LimitMEMLOCK = "infinity";
    LimitRTPRIO = 10;
    Nice = -20;
    OOMScoreAdjust = -1000;

    # CAP_KILL is for kernels without cgroup.kill.
    CapabilityBoundingSet = "CAP_KILL";
    DevicePolicy = "closed";
    IPAddressDeny = "any";
    KeyringMode = "private";
    LockPersonality = true;
    MemoryDenyWriteExecute = true;
    NoNewPrivileges = true;
    PrivateIPC = true;
    PrivateNetwork = true;
    PrivateTmp = true;
    ProcSubset = "pid";
    ProtectHome = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectSystem = "strict";
    ReadWritePaths = "/sys/fs/cgroup";
    RestrictAddressFamilies = "AF_UNIX";
    RestrictNamespaces = true;
    RestrictSUIDSGID = true;
    SystemCallArchitectures = "native";
    SystemCallErrorNumber = "EPERM";
    SystemCallFilter = [
      "@system-service"
      "~@privileged @resources"
      "mlockall sched_setscheduler"
    ];
    UMask = "0022";
  };
  ungated = {
    overrideStrategy = "asDropin";
    serviceConfig = {
      ExecCondition = lib.mkForce "";
      Slice = lib.mkForce "system.slice";
    };
  };
in
{
  options.services.blixard.watchdog = {
    device = lib.mkOption {
      type = lib.types.nullOr lib.types.path;
      default = null;
      example = "/dev/watchdog0";
      description = ''
        The watchdog that resets this host if it cannot end its VMs in time, because it is frozen or a
        process cannot be killed. With one, *at most one* is guaranteed; without, it is best effort.
        It must be nobody else's: leave {option}`systemd.settings.Manager.RuntimeWatchdogSec` unset.
      '';
    };

    timeout = lib.mkOption {
      type = lib.types.ints.between 1000 600000;
      default = 6000;
      example = 10000;
      description = "After this long without a sign of life the watchdog resets this host, in ms.";
    };

    mode = lib.mkOption {
      type = lib.types.enum [
        "auto"
        "guaranteed"
        "best-effort"
      ];
      default = "auto";
      example = "guaranteed";
      description = ''
        What this node says of itself: `guaranteed` makes it refuse to run without a watchdog, and with
        `best-effort` nobody relies on the one that it may have. `auto` is whichever is true.
      '';
    };
  };

  config = lib.mkIf (cfg.enable && cfg.driver == "systemd") {
    systemd.sockets.blixard-keeper = {
      description = "Blixard keeper: renewals of this host's lease";
      wantedBy = [ "sockets.target" ];
      socketConfig = {
        ListenSequentialPacket = "/run/blixard-keeper.sock";
        # Whoever may renew decides how long VMs run: the daemon alone, not its users, who share its
        # group.
        SocketUser = "blixard";
        SocketMode = "0600";
      };
    };

    systemd.slices.blixard-vms = {
      description = "Blixard: the VMs of this host";
      # Whoever stops either by hand gets it back while a VM runs.
      unitConfig.Upholds = [
        "blixard-keeper.service"
        "blixard-keeper-deputy.service"
      ];
    };

    systemd.services = {
      blixard-keeper = {
        description = "Blixard keeper: without a lease, no VMs";
        wantedBy = [ "multi-user.target" ];
        requires = [ "blixard-keeper.socket" ];
        wants = [ "blixard-keeper-deputy.service" ];
        after = [
          "blixard-keeper.socket"
          "systemd-tmpfiles-setup.service"
        ];
        conflicts = [ "shutdown.target" ];
        before = [ "shutdown.target" ];
        # A keeper that keeps dying is lost: then every VM ends.
        startLimitIntervalSec = 10;
        startLimitBurst = 8;
        onFailure = [ "blixard-keeper-once.service" ];
        unitConfig.DefaultDependencies = false;

        serviceConfig = confined // {
          Type = "notify";
          ExecStart =
            "${keeper} serve --boot-id %b"
            + " --max-ms ${toString (cfg.lease.duration - cfg.lease.killBudget)}"
            + " --budget-ms ${toString cfg.lease.killBudget}"
            + lib.optionalString (cfg.watchdog.device != null) (
              " --watchdog ${cfg.watchdog.device} --watchdog-ms ${toString cfg.watchdog.timeout}"
            );
          # The second layer, for a keeper that is killed, stopped or hung: about 0.3 s, and up to
          # 0.25 s more, for systemd's timers are no more exact.
          Restart = "always";
          RestartMode = "direct";
          RestartSec = 0;
          RestartPreventExitStatus = "2 77";
          WatchdogSec = "300ms";
          WatchdogSignal = "SIGKILL";
          # It fences before it is ready. On a busy host a start takes 0.9 s: a limit near that is a
          # loop in which no keeper ever starts.
          TimeoutStartSec = "5s";
          TimeoutStartFailureMode = "kill";
          TimeoutStopSec = "1s";

          DeviceAllow = lib.mkIf (cfg.watchdog.device != null) "${cfg.watchdog.device} rw";
          PrivateDevices = cfg.watchdog.device == null;
          ProtectClock = cfg.watchdog.device == null;
        };
      };

      # A restart takes too long on a host that is far too busy, so another process runs already.
      blixard-keeper-deputy = {
        description = "Blixard keeper's deputy: it ends the VMs if the keeper is late";
        after = [ "systemd-tmpfiles-setup.service" ];
        conflicts = [ "shutdown.target" ];
        before = [ "shutdown.target" ];
        startLimitIntervalSec = 0;
        unitConfig.DefaultDependencies = false;
        serviceConfig = confined // {
          Type = "notify";
          ExecStart = "${keeper} deputy --boot-id %b";
          Restart = "always";
          RestartSec = 1;
          RestartPreventExitStatus = 2;
          WatchdogSec = "10s";
          WatchdogSignal = "SIGKILL";
          TimeoutStopSec = "1s";
          PrivateDevices = true;
          ProtectClock = true;
        };
      };

      # The last layer: what even this cannot end, a reboot does. It is not confined, for nothing that
      # a confinement needs may keep it from starting.
      blixard-keeper-once = {
        description = "Blixard keeper: it is lost, so every VM ends now";
        unitConfig = {
          DefaultDependencies = false;
          FailureAction = "reboot-immediate";
        };
        serviceConfig = {
          Type = "oneshot";
          ExecStart = "${keeper} once --boot-id %b";
          TimeoutStartSec = "2s";
          RuntimeDirectory = "blixard-keeper";
          RuntimeDirectoryPreserve = true;
        };
      };
    }
    // lib.optionalAttrs hasHost (
      {
        "microvm@" = gated;
        # It writes to what the VM shares.
        "microvm-virtiofsd@" = gated;
      }
      # What this host declares by itself is not Blixard's.
      // lib.concatMapAttrs (name: _: {
        "microvm@${name}" = ungated;
        "microvm-virtiofsd@${name}" = ungated;
      }) config.microvm.vms
    );
  };
}
