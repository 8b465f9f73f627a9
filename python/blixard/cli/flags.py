"""The flags that several verbs share, and the types of their values."""

import re
from collections.abc import Callable
from typing import Any, Final

import click
from click.core import ParameterSource

from blixard.cli.terminal import Options

Command = Callable[..., Any]
Given = str | int | tuple[str, ...] | None
"""What a flag was given; None, or no text at all, if it was not."""

Decorator = Callable[[Command], Command]

_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_UNITS_MIB: Final = {"": 1, "MiB": 1, "GiB": 1024, "TiB": 1024 * 1024}


def duration(value: str) -> int:
    """`500ms`, `90s`, `10m` or `2h`, in milliseconds."""
    match = re.fullmatch(r"([0-9]{1,9})(ms|s|m|h)", value)
    if match is None:
        raise click.BadParameter(f'"{value}" is no duration; write 90s, 10m or 2h')
    return int(match[1]) * _UNITS_MS[match[2]]


def memory(value: str) -> int:
    """MiB as a plain number, or `512MiB`, `2GiB`."""
    match = re.fullmatch(r"([0-9]{1,9})(MiB|GiB|TiB|)", value)
    if match is None:
        raise click.BadParameter(f'"{value}" is no amount of memory; write 512 (MiB) or 2GiB')
    return int(match[1]) * _UNITS_MIB[match[2]]


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep a flag in the shared `Options`; what stands after the verb wins."""
    assert param.name is not None
    if ctx.get_parameter_source(param.name) is not ParameterSource.DEFAULT:
        setattr(ctx.ensure_object(Options), param.name, value)


def _option(*names: str, **settings: Any) -> Decorator:
    return click.option(*names, expose_value=False, callback=_remember, **settings)


def _together(*decorators: Decorator) -> Decorator:
    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def shared(command: Command) -> Command:
    """What every verb that talks to a cluster takes."""
    return _together(
        _option(
            "-o",
            "--output",
            type=click.Choice(["table", "wide", "name", "json"]),
            help="How results are printed (table).",
        ),
        _option(
            "--address",
            "addresses",
            multiple=True,
            metavar="ADDRESS",
            help="Whom to ask: host:port or unix:/path; several may be given.",
        ),
        _option(
            "--timeout",
            "timeout_ms",
            type=duration,
            help="For how long to look for a node that can serve (10s; changes 30s).",
        ),
        _option("--color", type=click.Choice(["auto", "always", "never"]), help="Colors (auto)."),
        _option("-q", "--quiet", is_flag=True, help="No talk but errors."),
        _option("-v", "--verbose", is_flag=True, help="Request ids, who answered, how fast."),
        _option("--debug", is_flag=True, help="The same, and a traceback of a defect."),
    )(command)


def no_headers(command: Command) -> Command:
    """For verbs that print tables."""
    return _option("--no-headers", is_flag=True, help="Tables without their first line.")(command)


def asking(command: Command) -> Command:
    """For verbs that ask before they act."""
    return _together(
        _option("-y", "--yes", is_flag=True, help="Answer the question with yes."),
        _option("--no-input", is_flag=True, help="Never ask; refuse instead."),
    )(command)


def naming(command: Command) -> Command:
    """For verbs that want a name typed before they act; --yes is not enough for them."""
    return _together(
        _option("--confirm", metavar="NAME", help="Type the name beforehand."),
        _option("--no-input", is_flag=True, help="Never ask; refuse instead."),
    )(command)


def policy(command: Command) -> Command:
    """How the cluster treats a VM: when something fails, and where it may run."""
    terms = {
        "--require": ("LABEL=VALUE", "Only on nodes with this label (or LABEL!=VALUE: without)."),
        "--prefer": ("LABEL=VALUE", "On such nodes if there is one."),
        "--near": (
            "GROUP[/LABEL]",
            "Only where that group or VM runs (or where LABEL says the same).",
        ),
        "--prefer-near": ("GROUP[/LABEL]", "There if possible."),
        "--apart": ("GROUP[/LABEL]", "Only where that group or VM does not run."),
        "--prefer-apart": ("GROUP[/LABEL]", "There if possible."),
    }
    return _together(
        click.option("--group", metavar="GROUP", help="The group it belongs to, for the others."),
        *(
            click.option(flag, multiple=True, metavar=metavar, help=f"{text} May be repeated.")
            for flag, (metavar, text) in terms.items()
        ),
        click.option(
            "--strategy",
            type=click.Choice(["spread", "pack"]),
            help="Of the nodes left: the one with most memory free (spread), or with least.",
        ),
        click.option(
            "--priority",
            type=click.IntRange(-1000, 1000),
            help="Of VMs that wait, those of a higher one come first (0).",
        ),
        click.option(
            "--on-quorum-loss",
            type=click.Choice(["stop", "keep"]),
            help="When its host loses the cluster: end with the lease (stop), or go on, and never "
            "start elsewhere by itself.",
        ),
        click.option(
            "--failover",
            type=click.Choice(["auto", "always", "never"]),
            help="When its host is lost: start elsewhere if it has no volumes (auto), even so, or "
            "not.",
        ),
        click.option(
            "--restart-limit",
            type=click.IntRange(0, 1000),
            help="How often in a row it is restarted when it ends by itself (5).",
        ),
    )(command)


def check(command: Command) -> Command:
    """How its host finds out whether a guest serves."""
    return _together(
        click.option(
            "--check",
            metavar="WHAT",
            help="tcp:HOST:PORT, http://URL, command:PROGRAM, console:TEXT, or none.",
        ),
        click.option("--check-interval", type=duration, help="From one check to the next (10s)."),
        click.option("--check-timeout", type=duration, help="When one has failed (5s)."),
        click.option(
            "--check-failures", type=click.IntRange(1, 100), help="So many in a row: failing (3)."
        ),
        click.option(
            "--check-start-period", type=duration, help="Failures before it do not count (60s)."
        ),
        click.option(
            "--check-on-failure",
            type=click.Choice(["report", "restart"]),
            help="What becomes of a failing guest (report).",
        ),
    )(command)


def stale(command: Command) -> Command:
    """For verbs that read."""
    return click.option(
        "--stale", is_flag=True, help="The asked node's last known picture, without a leader."
    )(command)


def request_id(command: Command) -> Command:
    """For verbs that change something."""
    text = "Repeat a change whose outcome was lost; it never acts twice."
    return _option("--request-id", metavar="ID", help=text)(command)


def waiting(command: Command) -> Command:
    """For verbs whose effect takes a while."""
    return _together(
        _option("--wait", is_flag=True, help="Wait until it is done, and show how it goes."),
        _option(
            "--wait-timeout", "wait_timeout_ms", type=duration, help="For how long to wait (10m)."
        ),
        _option(
            "--progress",
            type=click.Choice(["auto", "fancy", "plain", "none"]),
            help="How progress is shown (auto: fancy on a terminal, else plain).",
        ),
    )(command)


def stopping(command: Command) -> Command:
    """For verbs that stop a guest."""
    return _together(
        click.option(
            "--grace",
            "grace_ms",
            type=duration,
            help="How long the guest may take to power off by itself (30s).",
        ),
        click.option("--kill", is_flag=True, help="Terminate the guest at once."),
    )(command)
