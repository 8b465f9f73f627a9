"""`blixard demo`: a cluster on this machine, without any setup."""

import click


@click.command()
@click.option("--nodes", type=click.IntRange(1, 9), default=3, help="How many nodes (3).")
@click.option("--keep", is_flag=True, help="Leave everything running at the end.")
@click.option("--config", "what", metavar="WHAT", help="What runs as the VM, as for vm create.")
@click.pass_context
def demo(ctx: click.Context, nodes: int, keep: bool, what: str | None) -> None:
    """Start three nodes and a microVM here, restart the leader, lose a host, clean up."""
    from blixard import demo as story

    ctx.exit(story.run(nodes, what, keep=keep))
