"""`blixard vm`: the verbs that look."""

from typing import TYPE_CHECKING

import click

from blixard.cli import flags
from blixard.cli.connect import connected, for_each
from blixard.cli.failure import failure
from blixard.cli.output import emit
from blixard.cli.terminal import Options
from blixard.cli.vm_names import complete_names, names
from blixard.cli.vm_view import NONE_YET, show_list, show_page, show_status_json, summary
from blixard.cli.watching import watch_vms
from blixard.cli.why import explain
from blixard.errors import Code

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb


@click.command()
@click.argument("name", shell_complete=complete_names)
@flags.shared
@click.pass_obj
def why(options: Options, name: str) -> None:
    """Why a VM is where it is, or runs nowhere: every node, and what each rule says of it.

    \b
    blixard vm why web
    """
    explain(name, options)


@click.command("list")
@click.argument("globs", nargs=-1, metavar="[GLOB]...")
@click.option("--watch", is_flag=True, help="Stay, and show every change.")
@flags.stale
@flags.no_headers
@flags.shared
@click.pass_obj
def list_(options: Options, globs: tuple[str, ...], watch: bool, stale: bool) -> None:
    """List VMs: all, or those that match a pattern such as 'web-*'."""
    from fnmatch import fnmatchcase

    def wanted(name: str) -> bool:
        return not globs or any(fnmatchcase(name, glob) for glob in globs)

    if watch:
        watch_vms(wanted, options)
        return
    with connected(options) as client:
        response = client.list_vms(stale=stale)
    names = {vm.name for vm in response.vms}
    missing = [glob for glob in globs if glob not in names and not set(glob) & set("*?[")]
    shown = [vm for vm in response.vms if wanted(vm.name)]
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


@click.command()
@names
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
