"""The `nix` command, and the daemon of its store."""

import asyncio
import os
from pathlib import Path

import pytest

from drivers.flakes import RUNNER, flake, flake_source, offline_nix
from drivers.processes import wait_until

RUNNER_OF = "#nixosConfigurations.web.config.microvm.declaredRunner"


async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close, with the greeting unread: so does a daemon that cannot open its store."""
    writer.transport.abort()


@pytest.mark.parametrize("is_restarted", [True, False])
async def test_a_daemon_that_refuses_or_is_restarted_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_restarted: bool
) -> None:
    socket = tmp_path / "daemon"
    monkeypatch.setenv("NIX_REMOTE", "daemon")
    monkeypatch.setenv("NIX_DAEMON_SOCKET_PATH", str(socket))
    server = None if is_restarted else await asyncio.start_unix_server(refuse, socket)
    source = flake_source(tmp_path / "flake", flake(RUNNER))
    output = bytearray()

    async def on_output(data: bytes) -> None:
        output.extend(data)

    building = asyncio.create_task(
        offline_nix().run(
            ["build", "--no-link", source.url + RUNNER_OF], timeout_ms=60_000, on_output=on_output
        )
    )
    await wait_until(lambda: b"cannot " in output)
    if server is not None:
        server.close()
        socket.unlink()
    environment = {**os.environ, "NIX_REMOTE": "local"}
    daemon = await asyncio.create_subprocess_exec("nix-daemon", env=environment)
    try:
        assert (await building).status == 0, output.decode()
    finally:
        daemon.terminate()
        await daemon.wait()
