# What no single option can know: contradictions, each with the way out.
{ config, lib, ... }:

let
  cfg = config.services.blixard;

  # 2:10.0.0.2:7001, 2:node-b:7001, 2:[fd00::2]:7001
  isPeer =
    peer: builtins.match "[1-9][0-9]*:([0-9a-zA-Z._-]+|\\[[0-9a-fA-F:.]+]):[0-9]+" peer != null;
  malformed = lib.filter (peer: !isPeer peer) cfg.peers;
  ids = [ (toString cfg.nodeId) ] ++ map (peer: lib.head (lib.splitString ":" peer)) cfg.peers;

  anywhere = builtins.match "(0\\.0\\.0\\.0|\\[::0?]):.*" cfg.bind != null;
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = malformed == [ ];
        message = ''
          services.blixard.peers: "${lib.head malformed}" is not of the form id:host:port. Write, for
          example, "2:10.0.0.2:7001".
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
