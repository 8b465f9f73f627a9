{
  description = "Blixard: microVMs on a cluster of NixOS hosts";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    microvm = {
      url = "github:microvm-nix/microvm.nix";
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  outputs =
    {
      self,
      nixpkgs,
      microvm,
    }:
    let
      inherit (nixpkgs) lib;
      forEachSystem =
        f:
        lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
          system: f nixpkgs.legacyPackages.${system} self.packages.${system}.blixard
        );
      app = description: program: {
        type = "app";
        inherit program;
        meta = { inherit description; };
      };
    in
    {
      packages = forEachSystem (
        pkgs: blixard: {
          blixard = pkgs.callPackage ./nix/package.nix { };
          default = blixard;
        }
      );

      overlays.default = final: _: { blixard = final.callPackage ./nix/package.nix { }; };

      apps = forEachSystem (
        pkgs: blixard:
        let
          # A finished runner: the nodes of the demo have nothing to evaluate or to fetch.
          guest = lib.nixosSystem {
            modules = [
              microvm.nixosModules.microvm
              ./vm-templates/minimal/configuration.nix
              { nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system; }
            ];
          };
          demo = pkgs.writeShellScriptBin "blixard-demo" ''
            exec ${lib.getExe blixard} demo --config ${guest.config.microvm.declaredRunner} "$@"
          '';
        in
        {
          default = app "The command line of Blixard" (lib.getExe blixard);
          demo = app "Three nodes and a microVM on this machine" (lib.getExe demo);
        }
      );

      nixosModules = {
        # The options and what follows from them; brings neither the package nor the VM units.
        blixard.imports = [ ./nixos-modules ];

        # All that a host needs.
        default =
          { pkgs, ... }:
          {
            imports = [
              self.nixosModules.blixard
              microvm.nixosModules.host
            ];
            services.blixard.package =
              lib.mkDefault self.packages.${pkgs.stdenv.hostPlatform.system}.blixard;
          };
      };

      checks = forEachSystem (
        pkgs: blixard: {
          package = blixard;

          # The unit of a node inside the whole of NixOS.
          unit =
            (lib.nixosSystem {
              modules = [
                self.nixosModules.default
                {
                  nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system;
                  system.stateVersion = lib.trivial.release;
                  services.blixard = {
                    enable = true;
                    nodeId = 1;
                    bootstrap = true;
                  };
                }
              ];
            }).config.systemd.units."blixard.service".unit;
        }
      );

      devShells = forEachSystem (
        pkgs: blixard: {
          default = pkgs.mkShell {
            inputsFrom = [ blixard ];
            packages = [
              pkgs.nixfmt
              pkgs.qemu
              pkgs.ruff
            ]
            ++ (with pkgs.python3Packages; [
              grpcio-tools
              hypothesis
              mypy
              pytest
            ]);
          };
        }
      );

      formatter = forEachSystem (pkgs: _: pkgs.nixfmt);
    };
}
