"""The HTTP listener that Prometheus asks: one thread listens, and one serves each connection."""

import socket as sockets
from socketserver import TCPServer
from threading import Thread
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from blixard.errors import BlixardError, Code

PATIENCE_S: Final = 10.0
"""How long a caller may take to ask; then its connection is closed."""


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Whoever scrapes does so all day."""


class _Server(ThreadingWSGIServer):
    def server_bind(self) -> None:
        """As usual, but without looking up the name of the address: with a name server that does
        not answer, that takes longer than a lease, while a daemon starts."""
        TCPServer.server_bind(self)
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever only knocks, or hangs up early, needs no traceback in the log."""


class Listener:
    """Answers from the moment it is made until `close`."""

    def __init__(self, registry: CollectorRegistry, bind: str) -> None:
        """Listen at `bind` (host:port). Raises `BlixardError`."""
        host, _, port = bind.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            found = sockets.getaddrinfo(host, int(port), type=sockets.SOCK_STREAM)
            family = found[0][0]
            server = type("Server", (_Server,), {"address_family": family})
            app = make_wsgi_app(registry)
            self._server: WSGIServer = make_server(host, int(port), app, server, _Handler)
        except OSError as error:
            raise BlixardError(
                f"cannot serve metrics at {bind}: {error.strerror or error}",
                remedy="see who listens with `ss -ltnp`, or choose another --metrics-bind",
                code=Code.ADDRESS_IN_USE,
            ) from error
        self._thread = Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no more. Waits up to half a second for the thread that listens."""
        self._server.shutdown()
        self._server.server_close()
