"""Commands that are imported when they run, and suggestions for those that do not exist."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class Lazy:
    """Where a command lives, and its line of help."""

    module: str
    attribute: str
    help: str


class Noun(click.Group):
    """A group whose commands appear in the order of their story, some under a second name.

    No abbreviation is accepted, because a later command would change what a script does; a near
    miss is answered with what was probably meant. Alone, it prints its help.
    """

    def __init__(self, *args: Any, aliases: Mapping[str, str] = {}, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.aliases = aliases

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, known = args[0], self.list_commands(ctx)
        if name not in known and name not in self.aliases and not ctx.resilient_parsing:
            near = nearest(name, known)
            path = ctx.command_path
            hint = f'did you mean "{near}"?  {path} {near}' if near else f"see {path} --help"
            raise UnknownCommand(f'"{path} {name}" is no command', hint, ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(Noun):
    """A group with a static table: its help is printed without importing any command."""

    def __init__(self, *args: Any, table: Mapping[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.table)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        cmd_name: str,
    ) -> click.Command | None:
        lazy = self.table.get(cmd_name)
        if lazy is None:
            return None
        command: click.Command = getattr(import_module(lazy.module), lazy.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self.table.items()])


class UnknownCommand(click.UsageError):
    """A command that does not exist, and what was probably meant."""

    def __init__(self, message: str, hint: str, ctx: click.Context) -> None:
        super().__init__(message, ctx)
        self.hint = hint


def nearest(name: str, known: list[str]) -> str:
    """The known name that was probably meant, or an empty string."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, known, n=1, cutoff=0.5)), "")
