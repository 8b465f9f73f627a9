"""`blixard vm`: the verbs of a VM's life."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from blixard.cli import flags
from blixard.cli.change import change
from blixard.cli.connect import CHANGE_MS, connected, for_each
from blixard.cli.failure import failure
from blixard.cli.lazy import Noun
from blixard.cli.output import emit
from blixard.cli.question import confirm
from blixard.cli.source import create_request
from blixard.cli.terminal import Options
from blixard.cli.vm_view import (
    NONE_YET,
    policy_text,
    show_list,
    show_page,
    show_status_json,
    summary,
)
from blixard.errors import Code

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb
    from blixard.wire.client import Client

MAX_NODE_ID = 65_535
LOCK_MS = 120_000
"""How long creating may take: a flake reference is fetched before it can be locked."""


@click.group(cls=Noun, aliases={"ls": "list", "rm": "delete", "show": "status"})
def vm() -> None:
    """Create and run VMs."""


def _names(command: flags.Command) -> flags.Command:
    return click.argument(
        "names", metavar="NAME...", nargs=-1, required=True, shell_complete=_complete
    )(command)


def _complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Names of VMs for the shell; nothing, and never a message, if the cluster does not answer."""
    from contextlib import suppress

    options = ctx.ensure_object(Options)
    options.quiet = True
    with suppress(Exception), connected(options, 300) as client:
        return [vm.name for vm in client.list_vms(stale=True).vms if vm.name.startswith(incomplete)]
    return []


@vm.command()
@click.argument("positional", metavar="[NAME]", required=False)
@click.option("--name", help="The VM's name, if it is not given before the flags.")
@click.option(
    "--config",
    "what",
    required=True,
    metavar="WHAT",
    help="REF#NAME, a microvm.nix, a folder, or the store path of a runner.",
)
@click.option("--vcpus", type=int, default=1, help="Virtual CPUs (1).")
@click.option("--memory", "memory_mib", type=flags.memory, default="512", help="512, 2GiB (512).")
@click.option("--stopped", is_flag=True, help="Declare it, and do not start it yet.")
@flags.policy
@flags.waiting
@flags.request_id
@flags.shared
@click.pass_obj
def create(
    options: Options,
    /,
    positional: str | None,
    name: str | None,
    what: str,
    vcpus: int,
    memory_mib: int,
    stopped: bool,
    **policy: str | int | None,
) -> None:
    """Declare a VM; it starts at once, unless --stopped.

    \b
    blixard vm create web --config github:me/infra#web --vcpus 2 --wait
    blixard vm create web --config ./microvm.nix --memory 2GiB
    blixard vm create web --config ./result --failover always
    """
    if (name is None) == (positional is None):
        raise failure(
            Code.USAGE, "create takes one name", fix="blixard vm create NAME --config WHAT"
        )
    wanted = name or positional or ""
    request = create_request(wanted, what, vcpus, memory_mib, stopped, options)
    request.policy.CopyFrom(_policy(policy))
    change(
        [wanted],
        lambda client, _: client.create_vm(request),
        options,
        goal="stopped" if stopped else "running",
        timeout_ms=LOCK_MS if request.HasField("flake") else CHANGE_MS,
    )


def _policy(given: Mapping[str, str | int | None]) -> "pb.Policy":
    from blixard.v1 import blixard_pb2 as pb

    return pb.Policy(
        on_quorum_loss=cast("str | None", given["on_quorum_loss"]),
        failover=cast("str | None", given["failover"]),
        restart_limit=cast("int | None", given["restart_limit"]),
    )


@vm.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--owner", required=True, metavar="NODE", help="The node whose configuration this is."
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@flags.shared
@click.pass_obj
def apply(options: Options, /, file: Path, owner: str, dry_run: bool) -> None:
    """Declare the VMs of a file: create, change, or disown them.

    The owner alone changes them. What is declared no more goes on, until it is deleted.

    \b
    blixard vm apply vms.toml --owner node-1 --dry-run
    blixard vm apply vms.toml --owner node-1
    """
    from blixard.cli.apply import apply as applied

    number = owner.removeprefix("node-")
    if not number.isdecimal() or not 1 <= int(number) <= MAX_NODE_ID:
        message = f'--owner: "{owner}" is no node'
        raise failure(Code.BAD_ARGUMENT, message, fix="write node-1, or the number alone")
    applied(file, int(number), dry_run, options)


@vm.command("set")
@click.argument("name", shell_complete=_complete)
@flags.policy
@flags.request_id
@flags.shared
@click.pass_obj
def set_(options: Options, /, name: str, **policy: str | int | None) -> None:
    """Change how the cluster treats a VM when something fails.

    --on-quorum-loss holds from the next start on, the others at once.

    \b
    blixard vm set web --failover always
    blixard vm set web --on-quorum-loss keep --restart-limit 0
    """
    changed = _policy(policy)
    if not changed.ListFields():
        raise failure(
            Code.USAGE,
            "nothing is to be changed",
            fix="give --on-quorum-loss, --failover or --restart-limit",
        )

    def send(client: "Client", name: str) -> "pb.ChangeResponse":
        from blixard.v1 import blixard_pb2 as pb

        answer = client.set_vm_policy(pb.SetVmPolicyRequest(name=name, policy=changed))
        answer.note = answer.note or f"{name}: {policy_text(answer.vm)}"
        return answer

    change([name], send, options, goal="")


@vm.command()
@_names
@flags.waiting
@flags.request_id
@flags.shared
@click.pass_obj
def start(
    options: Options,
    names: tuple[str, ...],
) -> None:
    """Start VMs; one that runs already is left alone."""

    def send(client: "Client", name: str) -> "pb.ChangeResponse":
        from blixard.v1 import blixard_pb2 as pb

        return client.start_vm(pb.StartVmRequest(name=name))

    change(names, send, options, goal="running")


@vm.command()
@_names
@flags.stopping
@flags.waiting
@flags.request_id
@flags.shared
@click.pass_obj
def stop(
    options: Options,
    names: tuple[str, ...],
    grace_ms: int | None,
    kill: bool,
) -> None:
    """Stop VMs gracefully, and keep them stopped."""

    def send(client: "Client", name: str) -> "pb.ChangeResponse":
        from blixard.v1 import blixard_pb2 as pb

        return client.stop_vm(pb.StopVmRequest(name=name, grace_ms=grace_ms, kill=kill))

    change(names, send, options, goal="stopped")


@vm.command()
@_names
@flags.stopping
@flags.waiting
@flags.request_id
@flags.shared
@click.pass_obj
def restart(
    options: Options,
    names: tuple[str, ...],
    grace_ms: int | None,
    kill: bool,
) -> None:
    """Stop VMs gracefully, and start them again, perhaps on another node."""

    def send(client: "Client", name: str) -> "pb.ChangeResponse":
        from blixard.v1 import blixard_pb2 as pb

        return client.restart_vm(pb.RestartVmRequest(name=name, grace_ms=grace_ms, kill=kill))

    change(names, send, options, goal="running")


@vm.command()
@_names
@click.option("--if-exists", is_flag=True, help="A VM that does not exist is no failure.")
@flags.stopping
@flags.waiting
@flags.request_id
@flags.asking
@flags.shared
@click.pass_obj
def delete(
    options: Options,
    names: tuple[str, ...],
    if_exists: bool,
    grace_ms: int | None,
    kill: bool,
) -> None:
    """Stop VMs and forget them; their volumes stay on their hosts."""

    def send(client: "Client", name: str) -> "pb.ChangeResponse":
        from blixard.v1 import blixard_pb2 as pb
        from blixard.wire.client import CallFailed

        try:
            return client.delete_vm(pb.DeleteVmRequest(name=name, grace_ms=grace_ms, kill=kill))
        except CallFailed as failed:
            if if_exists and failed.rejected.code is Code.NO_SUCH_VM:
                return pb.ChangeResponse(note=f"{name} does not exist")
            raise

    confirm(f"Delete {', '.join(names)}? The volumes stay, the declaration is lost.", options)
    change(names, send, options, goal="deleted")


@vm.command("list")
@click.argument("globs", nargs=-1, metavar="[GLOB]...")
@flags.stale
@flags.no_headers
@flags.shared
@click.pass_obj
def list_(options: Options, globs: tuple[str, ...], stale: bool) -> None:
    """List VMs: all, or those that match a pattern such as 'web-*'."""
    from fnmatch import fnmatchcase

    with connected(options) as client:
        response = client.list_vms(stale=stale)
    names = {vm.name for vm in response.vms}
    missing = [glob for glob in globs if glob not in names and not set(glob) & set("*?[")]
    shown = [vm for vm in response.vms if not globs or any(fnmatchcase(vm.name, g) for g in globs)]
    show_list(shown, response.as_of, options)
    if missing:
        raise failure(
            Code.NO_SUCH_VM,
            f'no VM named "{missing[0]}"',
            fix="all names",
            command="blixard vm list -o name",
        )
    if options.output in ("table", "wide"):
        options.talk(summary(shown, response.as_of) if shown else NONE_YET)


@vm.command()
@_names
@flags.stale
@flags.shared
@click.pass_obj
def status(options: Options, names: tuple[str, ...], stale: bool) -> None:
    """Everything about VMs: where each is, since when, and why."""
    seen: list[pb.GetVmStatusResponse] = []

    def look(name: str) -> None:
        response = client.vm_status(name, stale=stale)
        if options.output == "name":
            emit(response.vm.name)
        elif options.output != "json":
            if seen:
                emit("")
            show_page(response.vm, response.as_of)
        seen.append(response)

    with connected(options) as client:
        try:
            for_each(names, look, client, options)
        finally:
            if options.output == "json" and seen:
                show_status_json(seen, several=len(names) > 1)
