{ lib, pkgs, ... }:

let
  inherit (lib)
    literalExpression
    mkEnableOption
    mkOption
    mkPackageOption
    types
    ;

  milliseconds =
    default: least: most: description:
    mkOption {
      type = types.ints.between least most;
      inherit default description;
      example = 2 * default;
    };

  address = types.strMatching "(\\[[0-9a-fA-F:.]+]|[A-Za-z0-9._-]+):[0-9]{1,5}" // {
    description = "address with a port, host:port";
  };
in
{
  options.services.blixard = {
    enable = mkEnableOption "this host as a node of a Blixard cluster";

    package = mkPackageOption pkgs "blixard" { };

    nodeId = mkOption {
      type = types.ints.between 1 65535;
      example = 1;
      description = ''
        The number by which the cluster knows this host. No two nodes share one, and a host that lost
        its data directory comes back under a new one.
      '';
    };

    bind = mkOption {
      type = address;
      default = "127.0.0.1:7001";
      example = "10.0.0.1:7001";
      description = ''
        `host:port` on which this node listens, for the other nodes and for clients. Connections are
        not encrypted yet: choose a network that you trust.
      '';
    };

    advertise = mkOption {
      type = types.nullOr address;
      default = null;
      example = "node-a.example.net:7001";
      description = ''
        `host:port` at which the other nodes reach this one, where that is not
        {option}`services.blixard.bind`.
      '';
    };

    peers = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [
        "2:10.0.0.2:7001"
        "3:10.0.0.3:7001"
      ];
      description = ''
        Other nodes, each as `id:host:port`. A node that belongs to no cluster yet finds theirs through
        them; from then on the cluster itself knows its members.
      '';
    };

    bootstrap = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether this node founds the cluster, once, when neither its data directory nor a peer knows
        of one. Set it on exactly one node. Give that node its peers too: asked first, they keep it
        from founding a second cluster after it has lost its data.
      '';
    };

    dataDir = mkOption {
      type = types.path;
      default = "/var/lib/blixard";
      example = "/srv/blixard";
      description = ''
        Where this node keeps its copy of the cluster's log, and the links that keep the runners it
        built from being collected as garbage.
      '';
    };

    driver = mkOption {
      type = types.enum [
        "systemd"
        "process"
      ];
      default = "systemd";
      example = "process";
      description = ''
        How VMs run: `systemd` starts them as {file}`microvm@NAME.service`, `process` as children of
        guard processes, which outlive the daemon but not a stop of the host's service manager.
      '';
    };

    reserve.memory = mkOption {
      type = types.ints.between 0 67108864;
      default = 512;
      example = 4096;
      description = "Memory that VMs leave to the host, in MiB.";
    };

    reserve.disk = mkOption {
      type = types.ints.between 0 1073741824;
      default = 1024;
      example = 20480;
      description = ''
        Disk that VMs leave to the host, in MiB, of the file system of
        {option}`services.blixard.dataDir`.
      '';
    };

    labels = mkOption {
      type = types.attrsOf (types.strMatching "[A-Za-z0-9._-]{1,63}");
      default = { };
      example = {
        rack = "b7";
        zone = "cellar";
      };
      description = ''
        What is to be known of this host when a VM is placed, such as where it stands. `node`, `arch`
        and `kvm` it says of itself.
      '';
    };

    lease = {
      duration = milliseconds 9000 1000 600000 ''
        How long this host may run its VMs after it sent a renewal that the cluster accepted, in ms.
        About this long after a host is lost, others start its VMs.
      '';
      renewal = milliseconds 1000 100 60000 "From one renewal to the next, in ms.";
      killBudget = milliseconds 1000 1000 60000 ''
        How long before the end of the lease the fence begins to end VMs, in ms; 1000 at least, for
        which it was measured.
      '';
    };

    metrics.bind = mkOption {
      type = types.nullOr address;
      default = null;
      example = "127.0.0.1:9101";
      description = ''
        `host:port` on which this node answers Prometheus; null: nowhere. Whoever reaches it reads the
        names of VMs, so the firewall is left as it is.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether to open the port of {option}`services.blixard.bind` in the firewall.";
    };

    settings = mkOption {
      type = types.submodule { freeformType = (pkgs.formats.toml { }).type; };
      default = { };
      example = literalExpression ''
        {
          capacity.vcpus = 12;
          nix.build_timeout_s = 7200;
          node.log_level = "debug";
        }
      '';
      description = ''
        The rest of {file}`/etc/blixard/blixard.toml`. The options beside this one set their own keys
        in it, and a second value for one of those keys is an error.
      '';
    };
  };
}
