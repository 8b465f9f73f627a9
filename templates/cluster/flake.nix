{
  description = "Three NixOS hosts that keep microVMs running with Blixard";

  inputs = {
    blixard.url = "github:OWNER/blixard";
    nixpkgs.follows = "blixard/nixpkgs";
  };

  outputs =
    {
      self,
      nixpkgs,
      blixard,
    }:
    let
      inherit (nixpkgs) lib;

      # A host keeps its number as long as it keeps its disk.
      hosts = {
        host-a = {
          id = 1;
          address = "10.0.0.1:7001";
        };
        host-b = {
          id = 2;
          address = "10.0.0.2:7001";
        };
        host-c = {
          id = 3;
          address = "10.0.0.3:7001";
        };
      };

      node =
        name: host:
        lib.nixosSystem {
          modules = [
            blixard.nixosModules.default
            # The rest of the host: its disks, its boot loader, its users.
            ./${name}.nix
            {
              networking.hostName = name;
              services.blixard = {
                enable = true;
                nodeId = host.id;
                bind = host.address;
                bootstrap = name == "host-a";
                peers = lib.mapAttrsToList (_: peer: "${toString peer.id}:${peer.address}") (
                  removeAttrs hosts [ name ]
                );
                openFirewall = true;

                # Every host declares the same VMs, and has what is needed to run them in its store.
                vms.web = {
                  source = "${self.nixosConfigurations.web.config.microvm.declaredRunner}";
                  memory = 512;
                  failover = "always";
                };
              };
            }
          ];
        };
    in
    {
      nixosConfigurations = lib.mapAttrs node hosts // {
        web = blixard.lib.mkVm {
          name = "web";
          modules = [ ./web.nix ];
        };
      };
    };
}
