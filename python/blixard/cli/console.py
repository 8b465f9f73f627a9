"""`blixard vm logs` and `blixard vm console`: what VMs write, from any node."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from blixard.cli import flags
from blixard.cli.connect import connected
from blixard.cli.failure import failure
from blixard.cli.output import emit
from blixard.cli.terminal import Options, harmless, is_unicode
from blixard.cli.vm_names import complete_names
from blixard.errors import Code

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb

MAX_LINES = 10_000


@click.command()
@click.argument("name", shell_complete=complete_names)
@click.option("-f", "--follow", is_flag=True, help="Go on, on whichever host it runs.")
@click.option(
    "-n", "--lines", type=click.IntRange(0, MAX_LINES), default=100, help="The last lines (100)."
)
@click.option("--build", is_flag=True, help="The output of its build instead of its console.")
@flags.shared
@click.pass_obj
def logs(options: Options, /, name: str, follow: bool, lines: int, build: bool) -> None:
    """What a VM has written to its console, on whichever host it runs or ran last.

    \b
    blixard vm logs web -n 20
    blixard vm logs web --follow
    blixard vm logs web --build
    """
    from blixard.v1 import blixard_pb2 as pb

    options.after_interrupt = f"{name} goes on"
    request = pb.ReadLogRequest(name=name, lines=lines, follow=follow, build=build)
    with connected(options) as client:
        for chunk in client.read_log(request):
            _show(name, chunk, options)
            sys.stdout.flush()


def _show(name: str, chunk: "pb.LogChunk", options: Options) -> None:
    if options.output == "json":
        _show_json(name, chunk)
        return
    if chunk.note:
        options.talk(f"-- {harmless(chunk.note)} --")
    for line in chunk.lines:
        text = harmless(line.text)
        emit(
            f"{_time(line.at_ms) or '-':24}  {chunk.node}  {text}"
            if options.output == "wide"
            else text
        )


def _show_json(name: str, chunk: "pb.LogChunk") -> None:
    """An object a line, also on a terminal."""
    import json

    as_ascii = not is_unicode(sys.stdout)
    usual = {"schema": "blixard.v1/log", "vm": name, "node": chunk.node}
    if chunk.note:
        noted = {**usual, "type": "note", "at": None, "text": chunk.note}
        emit(json.dumps(noted, ensure_ascii=as_ascii))
    for line in chunk.lines:
        told = {**usual, "type": "line", "at": _time(line.at_ms) or None, "text": line.text}
        emit(json.dumps(told, ensure_ascii=as_ascii))


def _time(at_ms: int) -> str:
    """RFC 3339, in milliseconds; empty if it is not known."""
    if not at_ms:
        return ""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03}Z"


def _key(_: click.Context, __: click.Parameter, value: str) -> bytes:
    """`^]` for Ctrl-], or one character that is typed alone."""
    if len(value) == 2 and value[0] == "^" and "@" <= value[1].upper() <= "_":
        return bytes([ord(value[1].upper()) & 0x1F])
    if len(value) == 1 and value.isascii():
        return value.encode()
    raise click.BadParameter(f'"{value}" is no key; write ^] for Ctrl-], or one character')


@click.command()
@click.argument("name", shell_complete=complete_names)
@click.option("--escape", default="^]", metavar="KEY", callback=_key, help="What leaves it (^]).")
@flags.shared
@click.pass_obj
def console(options: Options, /, name: str, escape: bytes) -> None:
    """A terminal on a VM's serial console, on whichever host it runs.

    One person at a time holds it. It follows the VM when that is moved or restarted.

    \b
    blixard vm console web
    blixard vm console web --escape ^A
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise failure(
            Code.USAGE,
            "a console needs a terminal, and this is none",
            why="what is typed and what the guest writes passes through as it is",
            fix="read what it writes",
            command=f"blixard vm logs {name} --follow",
        )
    from blixard.cli.console_session import Session

    with connected(options) as client:
        Session(name, escape, options).run(client.console)
