"""The daemon as a process: what it does when a part of it is broken."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from blixard import config, daemon
from blixard.drivers.nix import NixBuilder
from cluster.loopback import free_port


def _config(directory: Path) -> config.NodeConfig:
    node = {
        "id": 1,
        "bind": f"127.0.0.1:{free_port()}",
        "data_dir": str(directory),
        "socket": str(directory / "api.sock"),
        "driver": "process",
    }
    return config.load(None, {"node": node})


def test_a_defect_in_a_driver_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_as_usual = NixBuilder.open

    async def broken(builder: NixBuilder) -> None:
        async def work() -> None:
            raise KeyError("web")

        await open_as_usual(builder)
        builder._tasks.begin("web", work)

    monkeypatch.setattr(NixBuilder, "open", broken)

    async def run() -> Any:
        async with asyncio.timeout(20):
            await daemon.Daemon(_config(tmp_path)).run()

    with pytest.raises(KeyError, match="web"):
        asyncio.run(run())
