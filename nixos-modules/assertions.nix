# What no single option can know: contradictions, each with the way out.
{ config, lib, ... }:

let
  cfg = config.services.blixard;

  port = address: lib.toIntBase10 (lib.last (lib.splitString ":" address));
  hasPort = address: port address >= 1 && port address <= 65535;

  # 2:10.0.0.2:7001, 2:node-b:7001, 2:[fd00::2]:7001
  isPeer =
    peer:
    builtins.match "[1-9][0-9]*:([0-9a-zA-Z._-]+|\\[[0-9a-fA-F:.]+]):[0-9]{1,5}" peer != null
    && hasPort peer;
  malformed = lib.filter (peer: !isPeer peer) cfg.peers;
  ids = [ (toString cfg.nodeId) ] ++ map (peer: lib.head (lib.splitString ":" peer)) cfg.peers;
  portless = lib.filter (name: cfg.${name} != null && !hasPort cfg.${name}) [
    "advertise"
    "bind"
  ];

  # What the daemon reads, so that a mistake is met here and not on the host.
  known = {
    capacity = [
      "disk_mib"
      "memory_mib"
      "reserve_disk_mib"
      "reserve_memory_mib"
      "vcpus"
    ];
    lease = [
      "kill_ms"
      "lease_ms"
      "renew_ms"
      "watchdog_ms"
    ];
    metrics = [ "bind" ];
    nix = [
      "binary"
      "build_timeout_s"
      "options"
    ];
    node = [
      "advertise"
      "bind"
      "bootstrap"
      "data_dir"
      "driver"
      "id"
      "labels"
      "log_level"
      "peers"
      "socket"
    ];
    watchdog = [ "mode" ];
  };
  unknown = lib.concatLists (
    lib.mapAttrsToList (
      table: keys:
      if known ? ${table} && lib.isAttrs keys then
        map (key: {
          name = "${table}.${key}";
          among = known.${table};
        }) (lib.subtractLists known.${table} (lib.attrNames keys))
      else
        [
          {
            name = table;
            among = lib.attrNames known;
          }
        ]
    ) cfg.settings
  );

  electionMs = 4000;
  leastLease = cfg.lease.killBudget + cfg.lease.renewal + electionMs;
  latestPet = cfg.lease.duration - cfg.lease.renewal;

  anywhere = builtins.match "(0\\.0\\.0\\.0|\\[::0?]):.*" cfg.bind != null;
in
{
  config = lib.mkIf cfg.enable {
    # The founder's peers are all the others, as a rule.
    warnings = lib.optional (cfg.bootstrap && lib.mod (lib.length cfg.peers) 2 == 1) ''
      services.blixard.peers: ${toString (1 + lib.length cfg.peers)} nodes survive no more losses than ${toString (lib.length cfg.peers)} would. Make their number odd.
    '';

    assertions = [
      {
        assertion = malformed == [ ];
        message = ''
          services.blixard.peers: "${lib.head malformed}" is not of the form id:host:port, with a
          port from 1 to 65535. Write, for example, "2:10.0.0.2:7001".
        '';
      }
      {
        assertion = lib.allUnique ids;
        message = ''
          services.blixard.peers: a node id occurs twice among ${lib.concatStringsSep ", " ids} (this
          node's own is the first). Give every node its own, and leave this node out of its peers.
        '';
      }
      {
        assertion = cfg.bootstrap || cfg.peers != [ ];
        message = ''
          services.blixard: this node neither founds a cluster nor knows one. Set bootstrap = true on
          exactly one node of the cluster, and list peers on all others.
        '';
      }
      {
        assertion = anywhere -> cfg.advertise != null;
        message = ''
          services.blixard.bind: nobody can be reached at "${cfg.bind}". Say in
          services.blixard.advertise where the other nodes reach this one.
        '';
      }
      {
        assertion = portless == [ ];
        message = ''
          services.blixard.${lib.head portless}: "${cfg.${lib.head portless}}" has no valid port. A port is
          1 to 65535; Blixard's is 7001 as a rule.
        '';
      }
      {
        assertion = unknown == [ ];
        message = ''
          services.blixard.settings.${(lib.head unknown).name}: the daemon knows no such key or table. There are
          ${lib.concatStringsSep ", " (lib.head unknown).among}.
        '';
      }
      {
        assertion = cfg.lease.duration > leastLease;
        message = ''
          services.blixard.lease: a host would fence itself in an ordinary election. killBudget
          ${toString cfg.lease.killBudget} + renewal ${toString cfg.lease.renewal} + election ${toString electionMs} =
          ${toString leastLease} ms must be less than duration ${toString cfg.lease.duration} ms. Raise duration.
        '';
      }
      {
        assertion = cfg.watchdog.timeout <= latestPet;
        message = ''
          services.blixard.watchdog.timeout: the watchdog could not be petted in time. lease.duration
          ${toString cfg.lease.duration} - lease.renewal ${toString cfg.lease.renewal} = ${toString latestPet} ms must be
          at least timeout ${toString cfg.watchdog.timeout} ms. Lower timeout.
        '';
      }
      {
        assertion =
          cfg.watchdog.mode == "guaranteed" -> cfg.driver == "systemd" && cfg.watchdog.device != null;
        message = ''
          services.blixard.watchdog.mode: nothing can be guaranteed without a watchdog. Name one in
          services.blixard.watchdog.device, which takes driver = "systemd", or leave mode at "auto".
        '';
      }
    ];
  };
}
