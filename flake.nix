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
      template = path: description: { inherit path description; };
    in
    {
      packages = forEachSystem (
        pkgs: blixard: {
          blixard = pkgs.callPackage ./nix/package.nix { };
          default = blixard;
        }
      );

      # mkVm { modules; name ? "vm"; system ? "x86_64-linux"; }: a guest, for nixosConfigurations.
      lib.mkVm = import ./python/blixard/drivers/wrapper/mk-vm.nix { inherit nixpkgs microvm; };

      templates = {
        cluster = template ./templates/cluster "Three NixOS hosts that keep microVMs running";
        vm = template ./templates/vm "A microVM";
        minimal = template ./vm-templates/minimal "The smallest guest";
        web = template ./vm-templates/web "A web server, with a port and a check of its health";
        stateful = template ./vm-templates/stateful "A store of keys and values, with a volume on its host";
      };

      overlays.default = final: _: { blixard = final.callPackage ./nix/package.nix { }; };

      apps = forEachSystem (
        pkgs: blixard:
        let
          # A finished runner: the nodes of the demo have nothing to evaluate or to fetch.
          guest = self.lib.mkVm {
            inherit (pkgs.stdenv.hostPlatform) system;
            modules = [ ./vm-templates/minimal/configuration.nix ];
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

          # The state machine, the scheduler and the leases, with the interpreter of the package.
          core =
            pkgs.runCommand "blixard-core-tests"
              {
                nativeBuildInputs = [
                  (blixard.python.withPackages (
                    python:
                    blixard.dependencies
                    ++ [
                      python.hypothesis
                      python.pytest
                    ]
                  ))
                ];
              }
              ''
                cp -r ${./tests} tests
                chmod -R u+w tests
                ln -s ${./python} python
                PYTHONPATH=python python -m pytest -p no:cacheprovider tests/core
                touch $out
              '';

          # What is committed is what the pinned generator makes of proto/.
          generated =
            pkgs.runCommand "blixard-generated"
              { nativeBuildInputs = [ (pkgs.python3.withPackages (python: [ python.grpcio-tools ])) ]; }
              ''
                mkdir $out
                python -m grpc_tools.protoc -I ${./proto} --python_out=$out --pyi_out=$out \
                  --grpc_python_out=$out ${./proto}/blixard/v1/*.proto
                diff -r ${./python/blixard/v1} $out/blixard/v1
              '';

          formatting = pkgs.runCommand "blixard-formatting" { nativeBuildInputs = [ pkgs.nixfmt ]; } ''
            find ${./.} -name '*.nix' -exec nixfmt --check {} +
            touch $out
          '';

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
        // import ./tests/nixos { inherit lib pkgs self; }
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
              pyte
              pytest
            ]);
          };
        }
      );

      formatter = forEachSystem (pkgs: _: pkgs.nixfmt);
    };
}
