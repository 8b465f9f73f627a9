"""`make screenshot`: what `blixard top` shows of a real cluster that has just lost a host."""

import asyncio
import re
import sys
import tempfile
from pathlib import Path

from blixard.cli.top_app import Screenful, Top
from blixard.cli.top_feed import Feed
from blixard.cli.top_fetch import Fetcher
from blixard.wire.client import Client
from cluster.loopback import LoopbackCluster, three_nodes, wait_until
from cluster.runners import flake_of_runner

COLUMNS, LINES = 100, 24
GUEST = """while [ ! -e stop ]; do
  sleep 0.2
done
"""
DEADLINE_S = 20.0


def prepare(cluster: LoopbackCluster, directory: Path) -> None:
    """VMs in several states, and one host that is gone."""
    guest = flake_of_runner(directory / "guest", GUEST)
    for name, memory in (("cache", "1GiB"), ("db", "4GiB"), ("mail", "512"), ("web", "2GiB")):
        cluster.cli("vm", "create", name, "--config", guest, "--memory", memory, "--wait")
    cluster.cli("vm", "create", "batch", "--config", guest, "--stopped")
    for name in ("ci", "render"):
        cluster.cli("vm", "create", name, "--config", guest, "--memory", "6GiB")
    lost = cluster.host_of("db")
    cluster.lose(lost)
    wait_until(lambda: cluster.vm("db")["node"] != f"node-{lost}", "db has left", 60)

    def settled() -> bool:
        states = {vm["state"] for vm in cluster.json("vm", "list")["items"]}
        return states == {"pending", "running", "stopped"}

    wait_until(settled, "what fits runs, the rest waits", 60)


async def picture(cluster: LoopbackCluster, directory: Path) -> str:
    """What the live view shows of it, as SVG."""
    addresses = [node.address for node in cluster.nodes.values()]

    def open_client() -> Client:
        return Client(addresses, timeout_ms=3000)

    app = Top(1000, Fetcher(open_client), unicode=True, color=True)
    feed = Feed(open_client, 1000, app.heard)
    async with app.run_test(size=(COLUMNS, LINES)) as pilot:
        feed.start()
        for _ in range(round(DEADLINE_S / 0.1)):
            await pilot.pause(0.1)
            screenful = app.query_one(Screenful)
            # The rate is there from the second look on.
            if "/s" in screenful.render_line(1).text:
                break
        else:
            raise AssertionError(f"nothing was seen in {DEADLINE_S} s; see {directory}")
        feed.stop()
        svg = app.export_screenshot(title="blixard top")
    # Whoever looks at it shall not fetch a font from elsewhere.
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        with three_nodes(directory / "cluster") as cluster:
            prepare(cluster, directory)
            svg = asyncio.run(picture(cluster, directory))
    Path(sys.argv[1]).write_text(svg)


if __name__ == "__main__":
    main()
