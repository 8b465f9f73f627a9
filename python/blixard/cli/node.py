"""`blixard node`: the daemon of this host, told by flags, by a file, or by both."""

from pathlib import Path
from typing import Any

import click

from blixard.cli.failure import Failure, tell


@click.command()
@click.option("--config", "file", metavar="FILE", help="A TOML file; flags win over it.")
@click.option("--id", "id_", type=int, help="This node's number, 1 to 65535.")
@click.option("--bind", metavar="HOST:PORT", help="Where it listens (127.0.0.1:7001).")
@click.option("--advertise", metavar="HOST:PORT", help="Where its peers reach it (--bind).")
@click.option("--peer", "peers", multiple=True, metavar="ID:HOST:PORT", help="Another node.")
@click.option(
    "--bootstrap/--no-bootstrap",
    default=None,
    help="Found a cluster if no peer knows one. Without peers that is the default.",
)
@click.option("--data-dir", metavar="DIR", help="What it must not forget (/var/lib/blixard).")
@click.option("--socket", metavar="PATH", help="For callers on this host (/run/blixard/api.sock).")
@click.option("--driver", metavar="auto|systemd|process", help="What runs the VMs (auto).")
@click.option("--log-level", metavar="debug|info|warning|error", help="How much it tells (info).")
@click.option("--vcpus", type=int, help="vCPUs for VMs (the machine's).")
@click.option("--memory-mib", type=int, help="Memory for VMs (the machine's, less the reserve).")
@click.option("--reserve-memory-mib", type=int, help="Memory kept for the host (512).")
@click.option("--nix-binary", metavar="PATH", help="The nix program (nix).")
@click.option("--nix-build-timeout-s", type=int, help="When a build is given up (3600).")
@click.option(
    "--nix-option",
    "nix_options",
    multiple=True,
    nargs=2,
    metavar="NAME VALUE",
    help="Passed to nix as --option.",
)
@click.pass_context
def node(ctx: click.Context, /, file: str | None, **given: Any) -> None:
    """Run the daemon of this host.

    \b
    blixard node --id 1 --bind 10.0.0.1:7001
    blixard node --id 2 --bind 10.0.0.2:7001 --peer 1:10.0.0.1:7001
    blixard node --config /etc/blixard/blixard.toml
    """
    from blixard import config

    try:
        loaded = config.load(Path(file) if file else None, _as_tables(given))
    except config.Misconfigured as wrong:
        failures = [Failure(problem.rejected, facts=problem.facts) for problem in wrong.problems]
        for failed in failures[:-1]:
            tell(failed, ctx.obj)
        raise failures[-1] from wrong
    from blixard import daemon

    ctx.exit(daemon.run(loaded))


def _as_tables(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The flags that were given, as the tables of a configuration file."""
    tables = {
        "node": {
            "id": given["id_"],
            "bind": given["bind"],
            "advertise": given["advertise"],
            "peers": list(given["peers"]) or None,
            "bootstrap": given["bootstrap"],
            "data_dir": _absolute(given["data_dir"]),
            "socket": _absolute(given["socket"]),
            "driver": given["driver"],
            "log_level": given["log_level"],
        },
        "capacity": {key: given[key] for key in ("vcpus", "memory_mib", "reserve_memory_mib")},
        "nix": {
            "binary": given["nix_binary"],
            "build_timeout_s": given["nix_build_timeout_s"],
            "options": dict(given["nix_options"]) or None,
        },
    }
    return {
        table: {key: value for key, value in keys.items() if value is not None}
        for table, keys in tables.items()
    }


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())
