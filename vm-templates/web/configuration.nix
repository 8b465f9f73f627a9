# A web server that ends itself when it no longer answers: Blixard starts a guest that has ended
# anew, and on another host if it ends too often.
#
#     blixard vm create --name web --config .#web --memory 512 --wait
#     curl http://HOST:8080/        # HOST: the node that `blixard vm status web` names
#
# A host with a firewall opens that port: networking.firewall.allowedTCPPorts = [ 8080 ].
{ lib, pkgs, ... }:

{
  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
  system.stateVersion = "26.05";
  networking.hostName = "web";
  networking.firewall.allowedTCPPorts = [ 80 ];

  microvm = {
    hypervisor = "qemu";
    mem = 512;

    # Behind QEMU's own network, so the host needs no bridge: a port of the host leads to the guest.
    interfaces = [
      {
        type = "user";
        id = "web";
        mac = "02:00:00:00:00:01";
      }
    ];
    forwardPorts = [
      {
        from = "host";
        host.port = 8080;
        guest.port = 80;
      }
    ];

    shares = [
      {
        proto = "9p";
        tag = "ro-store";
        source = "/nix/store";
        mountPoint = "/nix/.ro-store";
      }
    ];
  };

  users.mutableUsers = false;
  users.allowNoPasswordLogin = true;

  services.nginx = {
    enable = true;
    virtualHosts.default = {
      default = true;
      locations."/".root = pkgs.writeTextDir "index.html" "Hello from a microVM.\n";
      locations."/health".return = "200 ok";
    };
  };

  systemd.services.health = {
    description = "Whether nginx answers";
    after = [ "nginx.service" ];
    startAt = "*:*:0/10";
    path = [ pkgs.curl ];
    script = "curl --silent --fail --max-time 5 --retry 3 --retry-all-errors localhost/health";
    serviceConfig.Type = "oneshot";
    unitConfig.FailureAction = "poweroff-force";
  };
  systemd.timers.health.timerConfig.AccuracySec = "1s";
}
