# A stand-in for nixpkgs, made of parts: real NixOS modules and the real lib around an old but whole
# package set. It evaluates NixOS; nothing of it can be built. Below are the names that the modules
# expect and the old set lacks. `inputs` is the directory described in ../conftest.py.
inputs:

let
  lib = import (inputs + "/lib/lib");
  nixos = import (inputs + "/nixos/nixos/lib") { inherit lib; };

  # The real one asks more of Nix than 2.8 knows.
  fileset = {
    toSource = { root, ... }: root;
    unions = lib.id;
  };

  formats = lib.genAttrs [ "ini" "json" "keyValue" "toml" "yaml" ] (
    _: _: {
      type = lib.types.attrsOf lib.types.anything;
      generate = name: value: builtins.toFile name (builtins.toJSON value);
    }
  );

  packages =
    final: prev:
    let
      empty = name: lib.fix (self: prev.runCommand name { } "" // { override = _: self; });
      initrd =
        _:
        empty "initrd"
        // {
          compressorArgs = [ ];
          compressorExecutableFunction = _: "gzip";
        };
    in
    lib.genAttrs [
      "iproute2"
      "kexec-tools"
      "makeInitrdNGTool"
      "nixfmt"
      "nixos-firewall-tool"
      "nixos-option"
      "nixos-rebuild"
      "nsncd"
      "ruff"
      "util-linux"
      "wrapGAppsNoGuiHook"
    ] empty
    // {
      inherit formats;
      OVMF.override = _: {
        fd = empty "OVMF" // {
          firmware = "/firmware";
          variables = "/variables";
          systemManagementModeRequired = false;
        };
      };
      erofs-utils = empty "erofs-utils" // {
        overrideAttrs = _: final.erofs-utils;
      };
      cacert = prev.cacert // {
        override = _: final.cacert;
        p11kit = final.p11-kit;
      };
      concatText = name: _: empty name;
      libxcrypt = empty "libxcrypt" // {
        enabledCryptSchemeIds = [ "y" ];
      };
      makeDBusConf = _: empty "dbus-1";
      makeInitrd = initrd;
      makeInitrdNG = initrd;
      substitute = _: empty "substitute";
      writeShellApplication =
        { name, text, ... }:
        lib.addMetaAttrs { mainProgram = name; } (prev.writeShellScriptBin name text);

      python3 = prev.python3 // {
        override =
          args:
          prev.python3.override (
            args
            // {
              packageOverrides = lib.composeExtensions pythonPackages args.packageOverrides;
            }
          );
      };

      systemd =
        prev.systemd
        // {
          inherit (final) kbd util-linux;
          interfaceVersion = 2;
        }
        // lib.genAttrs [
          "withBootloader"
          "withCryptsetup"
          "withHostnamed"
          "withImportd"
          "withLocaled"
          "withMachined"
          "withPortabled"
          "withTimedated"
          "withTpm2Tss"
          "withUtmp"
        ] (_: false);
    };

  pythonPackages =
    final: prev:
    lib.genAttrs
      [
        "cattrs"
        "grpcio-health-checking"
        "grpcio-reflection"
        "msgspec"
        "prometheus-client"
        "pysyncobj"
        "systemd-python"
        "textual"
        "tomli"
      ]
      (
        pname:
        final.buildPythonPackage {
          inherit pname;
          version = "0";
          src = null;
        }
      );

  gaps = {
    options.systemd.tpm2.enable = lib.mkEnableOption "TPM2";
    options.boot.initrd.systemd.tpm2.enable = lib.mkEnableOption "TPM2";
    config = {
      boot.enableContainers = false;
      documentation.enable = false;
      security.wrappers = lib.mkForce { };
      system.disableInstallerTools = true;
    };
  };

  module =
    { config, ... }:
    {
      imports = [ gaps ];
      nixpkgs.pkgs = legacyPackages.${config.nixpkgs.hostPlatform.system};
    };

  legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
    system:
    let
      extend =
        overlays:
        let
          pkgs = import (inputs + "/pkgs") {
            inherit system overlays;
            config = { };
          };
          whole = pkgs // {
            inherit lib;
            _type = "pkgs";
            appendOverlays = more: extend (overlays ++ more);
            __splicedPackages = whole;
            buildPackages = whole;
            callPackage = lib.callPackageWith (whole // { lib = lib // { inherit fileset; }; });
            stdenv = pkgs.stdenv // {
              hostPlatform = lib.systems.elaborate system // {
                linux-kernel.target = "bzImage";
              };
            };
            testers.runNixOSTest =
              test:
              nixos.runTest {
                imports = [ test ];
                hostPkgs = whole;
                node.pkgs = whole;
                extraBaseModules = gaps;
              };
          };
        in
        whole;
    in
    extend [ packages ]
  );
in
{
  inherit legacyPackages;

  lib = lib // {
    nixosSystem =
      args:
      import (inputs + "/nixos/nixos/lib/eval-config.nix") (
        {
          inherit lib;
          system = null;
        }
        // args
        // {
          modules = args.modules ++ [ module ];
        }
      );
  };
}
