"""`blixard version`."""

import click

from blixard import __version__
from blixard.cli.output import emit, emit_json
from blixard.cli.terminal import Options


@click.command()
@click.option("-o", "--output", type=click.Choice(["table", "json"]), help="table or json.")
@click.pass_obj
def version(options: Options, output: str | None) -> None:
    """Print the version."""
    if (output or options.output) == "json":
        emit_json("version", {"version": __version__})
    else:
        emit(f"blixard {__version__}")
