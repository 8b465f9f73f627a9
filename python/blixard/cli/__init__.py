"""The command line: `blixard NOUN VERB [NAME...] [FLAGS]`.

Exit codes: 0 done, 1 the world failed, 2 wrong usage, 3 rejected, 4 not found, 5 cluster
unavailable, 6 the wait ended first, 130 Ctrl-C, 141 closed pipe. Results go to stdout, all talk to
stderr. No module here imports gRPC or protobuf at its top: help and errors stay fast.
"""

import os
import sys
from io import TextIOWrapper

import click

from blixard.cli.failure import Failure, failure, tell
from blixard.cli.flags import asking, no_headers, shared
from blixard.cli.lazy import Lazy, LazyGroup, UnknownCommand
from blixard.cli.terminal import Options
from blixard.errors import BlixardError, Code

INTERRUPTED = 130
CLOSED_PIPE = 141

COMMANDS = {
    "vm": Lazy("blixard.cli.vm", "vm", "Create and run VMs."),
    "cluster": Lazy("blixard.cli.cluster", "cluster", "Look at the cluster, join it, leave it."),
    "node": Lazy("blixard.cli.node", "node", "Run the daemon of this host; look at nodes."),
    "top": Lazy("blixard.cli.top", "top", "The cluster live, in this terminal."),
    "events": Lazy("blixard.cli.events", "events", "What has happened, who asked, what happens."),
    "demo": Lazy("blixard.cli.demo", "demo", "A cluster and a microVM on this machine, at once."),
    "sim": Lazy("blixard.cli.sim", "sim", "Simulate a cluster from a seed, and check it."),
    "completion": Lazy("blixard.cli.completion", "completion", "Completion for your shell."),
    "version": Lazy("blixard.cli.version", "version", "Print the version."),
}


@click.group(
    "blixard",
    cls=LazyGroup,
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 the world failed, 2 wrong usage, 3 rejected, 4 not found, "
    "5 cluster unavailable, 6 the wait ended first.",
)
@shared
@no_headers
@asking
def root() -> None:
    """Blixard keeps microVMs running on a cluster of hosts, each on exactly one of them.

    \b
    blixard vm create web --config github:me/infra#web --wait
    blixard vm list
    blixard cluster status
    """


def main() -> int:
    """Run the command line; returns the exit code."""
    completing = os.environ.get("_BLIXARD_COMPLETE")
    if completing is not None:
        from click.shell_completion import shell_complete

        return shell_complete(root, {}, "blixard", "_BLIXARD_COMPLETE", completing)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = Options()
    try:
        return _run(sys.argv[1:], options)
    except BrokenPipeError:
        # What is still buffered has no reader; at exit Python would complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except KeyboardInterrupt:
        options.talk(f"\n{options.after_interrupt}")
        return INTERRUPTED


def _run(arguments: list[str], options: Options) -> int:
    try:
        _refuse_undecodable(arguments)
        with root.make_context("blixard", list(arguments), obj=options) as ctx:
            root.invoke(ctx)
        sys.stdout.flush()
        return 0
    except click.exceptions.Exit as ended:
        sys.stdout.flush()
        return ended.exit_code
    except click.UsageError as error:
        # Parsing broke off, so the flag that asks for JSON may not have been reached.
        if any(word in ("json", "-ojson", "--output=json") for word in arguments):
            options.output = "json"
        failed = _wrong_usage(error)
    except Failure as raised:
        failed = raised
    except BlixardError as error:
        failed = failure(error.code, error.message, fix=error.remedy)
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 - a defect is told like any other failure
        failed = _defect(error, options)
    tell(failed, options)
    return failed.rejected.code.exit_status


def _refuse_undecodable(arguments: list[str]) -> None:
    """Bytes that are no UTF-8 reach Python as lone surrogates, which cannot be sent to a node."""
    for argument in arguments:
        if not argument.isprintable() and any("\ud800" <= one <= "\udfff" for one in argument):
            raise failure(Code.USAGE, f"{argument!a} is not UTF-8")


def _wrong_usage(error: click.UsageError) -> Failure:
    path = error.ctx.command_path if error.ctx is not None else "blixard"
    match error:
        case UnknownCommand():
            return failure(Code.USAGE, error.message, fix=error.hint)
        case click.NoSuchOption():
            near = ", ".join(sorted(error.possibilities or []))
            hint = f"did you mean {near}?" if near else f"all flags: {path} --help"
            return failure(Code.USAGE, f'"{path}" has no flag {error.option_name}', fix=hint)
        case _:
            message = error.format_message().rstrip(".")
            return failure(Code.USAGE, message, fix=f"how it is used: {path} --help")


def _defect(error: Exception, options: Options) -> Failure:
    if options.debug:
        import traceback

        traceback.print_exc()
    return failure(
        Code.INTERNAL,
        f"{type(error).__name__}: {error}",
        why="this is a defect of Blixard",
        fix="run it again with --debug, and report what it prints",
    )
