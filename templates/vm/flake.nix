{
  description = "A microVM for Blixard";

  inputs = {
    blixard.url = "github:OWNER/blixard";
    nixpkgs.follows = "blixard/nixpkgs";
  };

  # blixard vm create --name web --config .#web --wait
  outputs =
    { blixard, ... }:
    {
      nixosConfigurations.web = blixard.lib.mkVm {
        name = "web";
        modules = [ ./web.nix ];
      };
    };
}
