"""From the flags to a client, and from what the client says to what the user reads."""

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from blixard.cli.failure import Failure, failure, tell
from blixard.cli.lazy import nearest
from blixard.cli.terminal import Options
from blixard.cli.who import who
from blixard.errors import Code
from blixard.model import Fix, Rejected

if TYPE_CHECKING:
    from blixard.wire.client import CallFailed, Client

SOCKET: Final = Path("/run/blixard/api.sock")
READ_MS: Final = 10_000
CHANGE_MS: Final = 30_000

_ADDRESS: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}|unix:/.+")


def addresses(options: Options) -> tuple[str, ...]:
    """Where the cluster is asked: --address, else BLIXARD_ADDRESS, else this host's socket.

    Raises `Failure` (BLX-5001) if there is none, and for an address of a wrong form.
    """
    said = os.environ.get("BLIXARD_ADDRESS", "")
    if options.addresses:
        source, found = "--address", options.addresses
    elif said.replace(",", " ").strip():
        source, found = "BLIXARD_ADDRESS", tuple(said.replace(",", " ").split())
    elif SOCKET.exists():
        source, found = "this host", (f"unix:{SOCKET}",)
    else:
        raise _no_address()
    for address in found:
        if not _ADDRESS.fullmatch(address):
            message = f'{source}: "{address}" is no address'
            raise failure(Code.BAD_ARGUMENT, message, fix="write HOST:PORT or unix:/PATH")
    options.trace(f"{source}: {', '.join(found)}")
    return found


def _no_address() -> Failure:
    fixes = (
        Fix("ask a node elsewhere", "blixard --address HOST:7001 cluster status"),
        Fix("or run one here", "systemctl start blixard"),
    )
    tried = {"--address": "not given", "BLIXARD_ADDRESS": "not set", str(SOCKET): "not there"}
    return Failure(
        Rejected(Code.NO_ADDRESS, "no address to ask", fixes=fixes),
        facts=[f"{source:21}  {what}" for source, what in tried.items()],
    )


@contextmanager
def connected(options: Options, timeout_ms: int = READ_MS) -> Iterator["Client"]:
    """A client for the verb's duration; its refusals leave as `Failure`."""
    asked = addresses(options)
    from blixard.wire.client import CallFailed, Client
    from blixard.wire.request_id import parse_request_id

    try:
        repeated = parse_request_id(options.request_id) if options.request_id else None
    except ValueError as error:
        message = f'--request-id: "{options.request_id}" is none'
        raise failure(Code.BAD_ARGUMENT, message, fix=str(error)) from error
    with Client(
        asked,
        timeout_ms=options.timeout_ms or timeout_ms,
        request_id=repeated,
        trace=options.trace,
        notice=options.talk,
        actor=who(),
    ) as client:
        try:
            yield client
        except CallFailed as failed:
            raise told(failed, client) from failed


def for_each(
    names: Sequence[str], act: Callable[[str], None], client: "Client", options: Options
) -> None:
    """Act for every name, whatever becomes of the others; ends the command with the exit code of
    the first failure."""
    from blixard.wire.client import CallFailed

    first = 0
    for name in names:
        try:
            act(name)
        except (CallFailed, Failure) as raised:
            failed = raised if isinstance(raised, Failure) else told(raised, client)
            tell(failed, options)
            first = first or failed.rejected.code.exit_status
    if first:
        raise click.exceptions.Exit(first)


def told(failed: "CallFailed", client: "Client") -> Failure:
    """A client's refusal in the user's words: with the name that was probably meant."""
    rejected = failed.rejected
    if rejected.code is Code.NO_SUCH_VM:
        _, _, quoted = rejected.message.partition('"')
        rejected = replace(rejected, fixes=(*_meant(quoted.rstrip('"'), client), *rejected.fixes))
    return Failure(rejected, facts=failed.facts, request_id=failed.request_id)


def _meant(name: str, client: "Client") -> Iterator[Fix]:
    from blixard.wire.client import CallFailed

    try:
        known = [vm.name for vm in client.list_vms(stale=True).vms]
    except CallFailed:
        return
    near = nearest(name, known)
    if near:
        arguments = [near if argument == name else argument for argument in sys.argv[1:]]
        yield Fix(f'did you mean "{near}"?', f"blixard {shlex.join(arguments)}")
