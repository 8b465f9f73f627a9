"""The names of VMs as arguments, completed by the shell."""

import click

from blixard.cli import flags
from blixard.cli.connect import connected
from blixard.cli.terminal import Options


def names(command: flags.Command) -> flags.Command:
    """One name or several."""
    return click.argument(
        "names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_names
    )(command)


def complete_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Names of VMs for the shell; nothing, and never a message, if the cluster does not answer."""
    from contextlib import suppress

    options = ctx.ensure_object(Options)
    options.quiet = True
    with suppress(Exception), connected(options, 300) as client:
        return [vm.name for vm in client.list_vms(stale=True).vms if vm.name.startswith(incomplete)]
    return []
