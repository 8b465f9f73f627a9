{
  lib,
  glib,
  gobject-introspection,
  installShellFiles,
  python3,
  wrapGAppsNoGuiHook,
}:

let
  python = python3.override {
    self = python;
    # The consensus layer corrects this very release of pysyncobj and refuses any other.
    packageOverrides = final: prev: {
      pysyncobj = prev.pysyncobj.overridePythonAttrs {
        version = "0.3.17";
        src = final.fetchPypi {
          pname = "pysyncobj";
          version = "0.3.17";
          hash = "sha256-iq72gUFxTVVhc3eKUbzE4iG2/UyXHcEkDzq0wNLf52U=";
        };
      };
    };
  };

  dependencies = with python.pkgs; [
    cattrs
    click
    grpcio
    grpcio-health-checking
    grpcio-reflection
    msgspec
    prometheus-client
    protobuf
    pydbus
    pygobject3
    pysyncobj
    systemd-python
    textual
    tomli
  ];
in
python.pkgs.buildPythonApplication {
  pname = "blixard";
  version = "0.1.0";
  pyproject = true;

  src = lib.cleanSource ../python;

  build-system = [ python.pkgs.setuptools ];

  inherit dependencies;
  passthru = { inherit python; };

  nativeBuildInputs = [
    gobject-introspection
    installShellFiles
    wrapGAppsNoGuiHook
  ];

  buildInputs = [ glib ];
  dontWrapGApps = true;
  # pydbus finds GLib through its type library. The demo starts its daemons with `python -m blixard`.
  preFixup = ''
    makeWrapperArgs+=(
      "''${gappsWrapperArgs[@]}"
      --prefix PYTHONPATH : "$out/${python.sitePackages}:${python.pkgs.makePythonPath dependencies}"
    )
  '';

  postInstall = ''
    installShellCompletion --cmd blixard \
      --bash <($out/bin/blixard completion bash) \
      --fish <($out/bin/blixard completion fish) \
      --zsh <($out/bin/blixard completion zsh)
  '';

  pythonImportsCheck = [ "blixard" ];

  meta = {
    description = "Keeps microVMs running on a cluster of hosts, each on exactly one of them";
    license = lib.licenses.mit;
    mainProgram = "blixard";
    platforms = lib.platforms.linux;
  };
}
