"""`blixard completion`: what a shell needs to complete verbs, flags and names."""

import click

from blixard.cli.output import emit


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    \b
    blixard completion bash > /etc/bash_completion.d/blixard
    blixard completion zsh  > ~/.zfunc/_blixard
    blixard completion fish > ~/.config/fish/completions/blixard.fish
    """
    from click.shell_completion import get_completion_class

    root = ctx.find_root().command
    maker = get_completion_class(shell)
    assert maker is not None
    script = maker(root, {}, "blixard", "_BLIXARD_COMPLETE")
    # The template itself: `source` would first run the shell to learn its version.
    emit((script.source_template % script.source_vars()).strip())
