"""`blixard node`: the daemon of this host, told by flags or a file; and the verbs about nodes."""

from pathlib import Path
from typing import Any

import click

from blixard.cli import flags, node_drain
from blixard.cli.cluster_view import named, show_node, show_node_json, show_nodes
from blixard.cli.connect import CHANGE_MS, connected
from blixard.cli.failure import Failure, failure, tell
from blixard.cli.lazy import Noun
from blixard.cli.output import emit, emit_json
from blixard.cli.question import confirm_by_name
from blixard.cli.terminal import Options
from blixard.cli.watching import watch_nodes
from blixard.cli.who import who
from blixard.errors import Code


@click.group(cls=Noun, aliases={"ls": "list"}, invoke_without_command=True)
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
@click.option("--disk-mib", type=int, help="Disk for VMs (free at its data directory).")
@click.option("--reserve-disk-mib", type=int, help="Disk kept for the host (1024).")
@click.option(
    "--label", "labels", multiple=True, nargs=2, metavar="KEY VALUE", help="For --require and such."
)
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
@click.option("--lease-ms", type=int, help="How long VMs run after an accepted renewal (9000).")
@click.option("--renew-ms", type=int, help="Between two renewals (1000).")
@click.option("--kill-ms", type=int, help="How long ending all VMs may take, 1000 at least (1000).")
@click.option("--watchdog-ms", type=int, help="When an unpetted watchdog resets the host (6000).")
@click.option(
    "--watchdog-mode",
    metavar="auto|guaranteed|best-effort",
    help="guaranteed: refuse to start without a watchdog (auto).",
)
@click.option("--metrics-bind", metavar="HOST:PORT", help="Where Prometheus is answered (nowhere).")
@click.option("--check", is_flag=True, help="Say whether the configuration is sound, and end.")
@click.pass_context
def node(ctx: click.Context, /, file: str | None, check: bool, **given: Any) -> None:
    """Run the daemon of this host. With a verb: look at nodes, and say what became of them.

    \b
    blixard node --id 1 --bind 10.0.0.1:7001
    blixard node --id 2 --bind 10.0.0.2:7001 --peer 1:10.0.0.1:7001
    blixard node --config /etc/blixard/blixard.toml
    """
    if ctx.invoked_subcommand is not None:
        if file or check or any(_as_tables(given).values()):
            message = f"{ctx.invoked_subcommand} takes no flags of the daemon"
            raise failure(Code.USAGE, message, fix=f"blixard node {ctx.invoked_subcommand} --help")
        return
    from blixard import config

    def read() -> config.NodeConfig:
        return config.load(Path(file) if file else None, _as_tables(given))

    try:
        loaded = read()
    except config.Misconfigured as wrong:
        failures = [Failure(problem.rejected, facts=problem.facts) for problem in wrong.problems]
        for failed in failures[:-1]:
            tell(failed, ctx.obj)
        raise failures[-1] from wrong
    if check:
        emit(f"node-{loaded.node_id}: the configuration is sound")
        return
    from blixard import daemon

    ctx.exit(daemon.run(loaded, read))


def _as_tables(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The flags that were given, as the tables of a configuration file."""
    from blixard.config import KEYS

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
            "labels": dict(given["labels"]) or None,
        },
        "capacity": {key: given[key] for key in KEYS["capacity"]},
        "nix": {
            "binary": given["nix_binary"],
            "build_timeout_s": given["nix_build_timeout_s"],
            "options": dict(given["nix_options"]) or None,
        },
        "lease": {key: given[key] for key in ("lease_ms", "renew_ms", "kill_ms", "watchdog_ms")},
        "watchdog": {"mode": given["watchdog_mode"]},
        "metrics": {"bind": given["metrics_bind"]},
    }
    return {
        table: {key: value for key, value in keys.items() if value is not None}
        for table, keys in tables.items()
    }


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Names of nodes for the shell; nothing, and never a message, if nobody answers."""
    from contextlib import suppress

    options = ctx.ensure_object(Options)
    options.quiet = True
    with suppress(Exception), connected(options, 300) as client:
        seen = client.cluster_status(stale=True)
        return [node.name for node in seen.nodes if node.name.startswith(incomplete)]
    return []


@node.command("list")
@click.option("--watch", is_flag=True, help="Stay, and show every change.")
@flags.stale
@flags.no_headers
@flags.shared
@click.pass_obj
def list_(options: Options, watch: bool, stale: bool) -> None:
    """List nodes: how each is, and for how long it may run VMs without another renewal."""
    if watch:
        watch_nodes(options)
        return
    with connected(options) as client:
        seen = client.cluster_status(stale=stale)
    show_nodes(seen, options)


@node.command()
@click.argument("name", shell_complete=_complete)
@flags.stale
@flags.shared
@click.pass_obj
def status(options: Options, name: str, stale: bool) -> None:
    """Everything about a node, and the VMs that it holds."""
    with connected(options) as client:
        found = named(name, client.cluster_status(stale=stale).nodes, "blixard node status")
        listed = client.list_vms(stale=stale)
    held = [vm for vm in listed.vms if vm.node_id == found.node_id]
    if options.output == "json":
        show_node_json(found, held, listed.as_of)
    else:
        show_node(found, held, options)


@node.command()
@click.argument("name", shell_complete=_complete)
@click.option("--reason", default="", help="Why, for the others.")
@click.option("--deadline", "deadline_ms", type=flags.duration, default="30m", help="(30m)")
@click.option("--detach", is_flag=True, help="Do not watch it.")
@click.option("--until-restart", is_flag=True, help="It ends when the host has restarted.")
@click.option("--dry-run", is_flag=True, help="Say where each VM would go, and change nothing.")
@flags.request_id
@flags.shared
@click.pass_obj
def drain(options: Options, /, name: str, dry_run: bool, **given: Any) -> None:
    """Let a node take no more VMs, and move away those it holds, one by one.

    It is watched until none is left. Given again, it is watched again, and what did not move is
    tried again. A VM that no other node can run stays, and is named with what blocks it.

    \b
    blixard node drain node-3 --dry-run
    blixard node drain node-3 --reason "kernel update" --until-restart
    """
    if dry_run:
        node_drain.plan(name, options)
    else:
        node_drain.drain(name, options=options, **given)


@node.command()
@click.argument("name", shell_complete=_complete)
@flags.request_id
@flags.shared
@click.pass_obj
def resume(options: Options, name: str) -> None:
    """Let a node take VMs again; a drain that is under way is called off."""
    node_drain.resume(name, options)


@node.command("confirm-down")
@click.argument("name", shell_complete=_complete)
@flags.naming
@flags.request_id
@flags.shared
@click.pass_obj
def confirm_down(options: Options, name: str) -> None:
    """Confirm that a lost node is switched off, so that what it may still run can start elsewhere.

    That is needed for VMs that go on when their host loses the cluster (--on-quorum-loss keep); all
    others are started elsewhere without it. It never shortens a lease. Whoever confirms it of a
    host that lives makes its VMs run twice.

    \b
    blixard node confirm-down node-3
    """
    from blixard.v1 import blixard_pb2 as pb

    with connected(options, CHANGE_MS) as client:
        found = named(name, client.cluster_status().nodes, "blixard node confirm-down")
        held = [vm.name for vm in client.list_vms().vms if vm.node_id == found.node_id]
        typed = confirm_by_name(name, _what_follows(name, held), options)
        options.after_interrupt = "interrupted; see what became of it: blixard vm list"
        request = pb.ConfirmNodeDownRequest(
            node_id=found.node_id, name=typed, by=who(), incarnation=found.incarnation
        )
        confirmed = client.confirm_node_down(request)
        request_id = client.request_id
    if options.output == "json":
        facts = {"node": name, "index": confirmed.index, "note": confirmed.note}
        emit_json("node_confirmed_down", {**facts, "request_id": request_id})
    else:
        emit(f"{name} is confirmed down; {confirmed.note}")


def _what_follows(name: str, held: list[str]) -> str:
    frees = f"frees {', '.join(held)}" if held else "frees no VM"
    return (
        f"This {frees}. If {name} still runs one of its VMs, that VM will run twice, on two hosts, "
        "and may destroy its data.\nMake sure that the host is switched off."
    )
