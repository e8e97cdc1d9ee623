"""The server that carries the service: connections, their bounds, and the tunnel to the blob host.

Werkzeug's server (threaded, HTTP/1.1, one request a connection) hands out the socket, which one request
needs: the client sends blobs over https only, through a proxy if it is told so, and this service
is the proxy. CONNECT answers, turns the connection into TLS with the workspace's own certificate, and
serves the blob requests inside.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import socket
import ssl
import threading
import time
from typing import Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from papershell.orchestration.loopback.limits import CONNECTIONS, HEAD_S, SILENCE_S
from papershell.orchestration.loopback.names import BLOB_HOST
from papershell.orchestration.loopback.service import Service
from papershell.orchestration.loopback.state import HOST

_FULL = (
    b"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nRetry-After: 1\r\n\r\n"
    b"too many connections are open; try again in a second\n"
)


class Handler(WSGIRequestHandler):
    """Requests on the open port: the services in plain http, and CONNECT for the blob host."""

    server: Server
    prefix = ""
    timeout = SILENCE_S

    def setup(self) -> None:
        """Begin to wait for the request's head."""
        super().setup()
        self.server.waiting[self.connection] = time.monotonic() + self.server.head_s

    def parse_request(self) -> bool:
        """Read the head; return whether it is one."""
        parsed = super().parse_request()
        self.server.waiting.pop(self.connection, None)
        return parsed

    def finish(self) -> None:
        """Forget the connection."""
        self.server.waiting.pop(self.connection, None)
        with contextlib.suppress(OSError):  # of a connection that was cut
            super().finish()

    def send_response(self, code: int, message: str | None = None) -> None:
        """Begin an answer; after a refusal the caller has as long as for a head to take it and leave."""
        if code >= 400:
            self.server.waiting[self.connection] = time.monotonic() + self.server.head_s
        super().send_response(code, message)

    def run_wsgi(self) -> None:
        """Answer the request; an address that is none is the caller's fault."""
        try:
            super().run_wsgi()
        except ValueError as error:
            self.send_error(400, explain=f"the address is not understood: {error}")

    def do_CONNECT(self) -> None:
        """Turn the connection into the blob host's, once the caller has shown the token."""
        self.close_connection = True
        scheme, _, credentials = self.headers.get("Proxy-Authorization", "").partition(" ")
        with contextlib.suppress(ValueError):
            credentials = base64.b64decode(credentials, validate=True).decode()
        refusal = self.server.service.state.tokens.refusal(credentials.partition(":")[2])
        if scheme != "Basic" or refusal or self.path != f"{BLOB_HOST}:443":
            self.send_error(407 if refusal else 403, explain=refusal or f"only {BLOB_HOST} is served here")
            return
        self.send_response_only(200, "Connection established")
        self.end_headers()
        self.wfile.flush()
        # A client that hangs up, or does not trust the certificate, has no use for an answer here.
        with (
            contextlib.suppress(OSError),
            self.server.tls.wrap_socket(self.connection, server_side=True) as tunnel,
        ):
            BlobHandler(tunnel, self.client_address, self.server)

    def make_environ(self) -> dict[str, Any]:
        """Return the WSGI environment, the blob host's paths below ``/blobs``."""
        environ = super().make_environ()
        environ["PATH_INFO"] = self.prefix + environ["PATH_INFO"]
        return environ

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Leave the log to the service."""

    def log_error(self, format: str, *args: Any) -> None:
        """Leave the log to the service."""

    def connection_dropped(self, error: BaseException, environ: Any = None) -> None:
        """A client may leave."""


class BlobHandler(Handler):
    """Requests inside the tunnel."""

    prefix = "/blobs"


class Server(ThreadedWSGIServer):
    """A thread per connection, a bounded number of them, on 127.0.0.1 only.

    Parameters
    ----------
    connections, head_s : bounds, see `limits`.

    Attributes
    ----------
    waiting : connections whose request's head has not arrived yet, and until when it may.
    """

    daemon_threads = True

    def __init__(
        self,
        service: Service,
        tls: ssl.SSLContext,
        port: int,
        *,
        connections: int = CONNECTIONS,
        head_s: float = HEAD_S,
    ) -> None:
        super().__init__(HOST, port, service, handler=Handler)
        self.service = service
        self.tls = tls
        self.head_s = head_s
        self.waiting: dict[socket.socket, float] = {}
        self._free = threading.BoundedSemaphore(connections)
        service.state.carried_on(self.server_port)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, or refuse it if there are too many."""
        if self._free.acquire(blocking=False):
            try:
                return super().process_request(request, client_address)
            except BaseException:  # no thread could be started
                self._free.release()
                raise
        with contextlib.suppress(OSError):
            request.setblocking(False)
            request.sendall(_FULL)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection and free its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def service_actions(self) -> None:
        """Cut the connections that have not sent a request's head in time; called between two requests."""
        for connection, until in list(self.waiting.items()):
            if time.monotonic() > until:
                with contextlib.suppress(OSError):  # of the socket below TLS, whose state another thread uses
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Write an error of a connection, which is cut, to the service's log."""
        logging.getLogger(__name__).warning("a connection ended with an error", exc_info=True)

    def log(self, type: str, message: str, *args: Any) -> None:
        """Write the server's own troubles to the service's log."""
        logging.getLogger(__name__).log(logging.ERROR if type == "error" else logging.INFO, message, *args)
