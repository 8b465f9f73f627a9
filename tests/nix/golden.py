"""What `services.blixard` makes of a host, as one text: its files, each under its path.

Store paths are there by the name of their package alone: `@blixard@/bin/blixard`. So a text changes
only with the module, and the hosts of tests/hosts put their own programs in these places.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

GOLDEN: Final = Path(__file__).with_name("golden")
UNITS: Final = "etc/systemd/system"

_NAME: Final = r"[A-Za-z][\w+.]*?(?:-[A-Za-z_+@][\w+.]*?)*"
_STORE: Final = re.compile(rf"/nix/store/\w{{32}}-({_NAME})(?:-[\d.]+(?:-p\d+)?)?(?=[/\" \n])")
_HEADER: Final = re.compile(r"^#=== (.*)\n", re.MULTILINE)
# What NixOS gives to every unit, and what changes with every package.
_OF_NO_INTEREST: Final = re.compile(
    r'^(X-Restart-Triggers=|Environment="(LOCALE_ARCHIVE|TZDIR)=).*\n', re.MULTILINE
)


def toml(table: Mapping[str, Any], path: str = "") -> str:
    """The table as nixpkgs renders it. TOML writes strings, numbers and lists as JSON does."""
    lines = [f"[{path}]"] if path else []
    lines += [f"{k} = {json.dumps(v)}" for k, v in table.items() if not isinstance(v, dict)]
    inner = [toml(v, f"{path}.{k}".lstrip(".")) for k, v in table.items() if isinstance(v, dict)]
    return "\n".join([*lines, *inner])


def rendered(host: Mapping[str, Any]) -> str:
    """The text of a host of hosts.nix."""
    files = {
        "etc/blixard/blixard.toml": toml(host["settings"]),
        "etc/blixard/vms.toml": toml({"vms": host["declared"]}),
        "etc/polkit-1/rules.d/10-nixos.rules": host["polkit"],
        "firewall.json": json.dumps(host["ports"]),
        "tmpfiles.json": json.dumps(host["tmpfiles"].get("10-blixard", {}), indent=2),
        "users.json": json.dumps(host["user"], indent=2),
        **{f"{UNITS}/{name}": text for name, text in host["units"].items()},
    }
    return "\n".join(f"#=== {path}\n{_plain(text)}" for path, text in sorted(files.items()))


def _plain(text: str) -> str:
    named = _STORE.sub(r"@\1@", _OF_NO_INTEREST.sub("", text.strip() + "\n"))
    return re.sub(r"/python3\.\d+", "/python3", re.sub(r"\n{2,}", "\n\n", named))


def units(name: str) -> dict[str, str]:
    """The units of a golden text, by name."""
    _, *parts = _HEADER.split((GOLDEN / name).read_text())
    files = dict(zip(parts[::2], parts[1::2], strict=True))
    return {
        path.removeprefix(f"{UNITS}/"): text.strip() + "\n"
        for path, text in files.items()
        if path.startswith(UNITS)
    }
