"""The caller's end of a console: who is there, and that leaving never depends on a node."""

import getpass
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from blixard.cli.console_session import Session
from blixard.cli.terminal import Options
from blixard.v1 import blixard_pb2 as pb
from blixard.wire.client import Client
from cli.fake_node import Context, FakeNode


class DeafNode(FakeNode):
    """Opens a console, and hears nothing of what is typed, nor that somebody leaves."""

    def __init__(self, socket: Path) -> None:
        self.is_left = threading.Event()
        super().__init__(socket)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if not handler_call_details.method.endswith("/AttachConsole"):
            return super().service(handler_call_details)
        return grpc.stream_stream_rpc_method_handler(
            self._sit,
            request_deserializer=pb.ConsoleInput.FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )

    def _sit(self, requests: Any, context: Context) -> Iterator[pb.ConsoleOutput]:
        context.add_callback(self.is_left.set)
        yield pb.ConsoleOutput(note="web has moved from node-1 to node-2")
        self.is_left.wait(10)


def test_who_leaves_is_not_kept_by_a_node_that_hears_nothing(tmp_path: Path) -> None:
    def typed() -> Iterator[pb.ConsoleInput]:
        yield pb.ConsoleInput(open=pb.ConsoleOpen(name="web", by="me"))

    began_s = time.monotonic()
    with DeafNode(tmp_path / "api.sock") as node, Client([node.socket], timeout_ms=2_000) as client:
        told = [output.note for output in client.console(typed())]
        assert time.monotonic() - began_s < 5
        assert node.is_left.wait(5), "the console is free"
    assert told == ["web has moved from node-1 to node-2"]


def test_who_has_no_name_here_sits_at_a_console_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr(getpass, "getuser", nobody)
    monkeypatch.setattr("os.getuid", lambda: 1234)
    opened = next(Session("web", b"\x1d", Options())._typed()).open
    assert opened.by.startswith("1234@")
