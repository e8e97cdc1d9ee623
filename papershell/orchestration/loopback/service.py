"""The service: a WSGI application over one folder, and the small server that carries it.

Werkzeug carries it (its server is threaded, speaks HTTP/1.1 and hands out the socket), because
one request needs the socket itself: the client sends blobs over https only, through a proxy
if it is told so, and the proxy is this service. CONNECT answers, turns the connection into
TLS with the workspace's own certificate, and serves the blob requests inside.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import ssl
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import werkzeug.exceptions as http
from werkzeug.routing import Map, Rule
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wrappers import Request, Response

from papershell.orchestration.loopback import faults
from papershell.orchestration.loopback.routes import ALL_ROUTES
from papershell.orchestration.loopback.routing import Call, ScopeConverter, error_response
from papershell.orchestration.loopback.runner import Runner
from papershell.orchestration.loopback.store import Store
from papershell.orchestration.loopback.tls import BLOB_HOST
from papershell.orchestration.loopback.tokens import Tokens

HOST = "127.0.0.1"
DISCOVERY = "discovery"
_ACCESS_LOG_BYTES = 10 << 20


@dataclass(frozen=True)
class Identity:
    """What makes a workspace this one: its id, the key that signs its tokens, the port it had last."""

    workspace_id: str
    key: str
    port: int


@dataclass
class Options:
    """What can be asked of a service.

    Attributes
    ----------
    slots : how many runs go on at once; the others stay queued.
    provision_s : seconds that a cluster takes to appear, to resize and to vanish.
    faults : what is to go wrong, see `faults.Fault`.
    """

    slots: int = 2
    provision_s: float = 0.0
    faults: list[faults.Fault] = field(default_factory=list)


class Service:
    """An Azure ML workspace whose state lies under ``root``; a WSGI application.

    Layout of ``root``: ``state.sqlite`` (all records), ``blobs/<container>/...`` (data, artifacts,
    logs, snapshots), ``runs/<run id>/`` (working folders), ``access.log`` (one line per request).
    """

    def __init__(self, root: Path, identity: Identity, options: Options) -> None:
        self.root = root
        self.options = options
        self.tokens = Tokens(identity.key)
        self.store = Store(root / "state.sqlite")
        self.blobs = root / "blobs"
        self.url = ""  # this and the id are known once a server carries the service
        self.workspace_id = ""
        self._identity = identity
        self.last_request = time.monotonic()
        self.runner = Runner(self)
        self._faults = faults.Faults(options.faults)
        self._access = _access_log(root / "access.log")
        self._map = Map(
            [
                Rule("/" + path.lstrip("/"), methods=[method], endpoint=handler)
                for method, path, handler in ALL_ROUTES
            ],
            converters={"scope": ScopeConverter},
            merge_slashes=False,
        )

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Answer one request."""
        request = Request(environ)
        self.last_request = time.monotonic()
        fault = self._faults.take(request)
        response = (faults.before(fault, request) if fault else None) or self._answer(request)
        if fault == "half":
            response = faults.half(request, response)
        self._access.info("%s %s %s", request.method, request.path, response.status_code)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        try:
            handler, parts = self._map.bind_to_environ(request.environ).match()
            self._check_right(request, parts)
            answer = handler(Call(self, request), **{k: v for k, v in parts.items() if k != "scope"})
        except http.HTTPException as error:
            return error_response(error.code or 500, error.name.replace(" ", ""), error.description or "")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # Every value that a handler takes apart came with the request.
            logging.getLogger(__name__).warning("%s %s", request.method, request.path, exc_info=True)
            return error_response(400, "BadRequest", f"not understood: {type(error).__name__}: {error}")
        except Exception as error:
            logging.getLogger(__name__).exception("%s %s", request.method, request.path)
            return error_response(500, "InternalError", f"{type(error).__name__}: {error}")
        if isinstance(answer, Response):
            return answer
        return _json_response(answer)

    def _check_right(self, request: Request, parts: Mapping[str, Any]) -> None:
        if "container" in parts:
            place, signature = parts["container"], request.args.get("sig", "")
        elif "signature" in parts:
            place, signature = DISCOVERY, parts["signature"]
        else:
            self._check_bearer(request)
            return
        if not self.tokens.opens(place, signature):
            raise http.Forbidden("the address carries no signature of this workspace")

    def _check_bearer(self, request: Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        refusal = self.tokens.refusal(token) if scheme == "Bearer" else "the request carries no token"
        if refusal:
            raise http.Unauthorized(refusal)

    def carried_on(self, port: int) -> None:
        """Learn the port. Clients cache addresses by the workspace's id, so the id goes with the port."""
        self.url = f"http://{HOST}:{port}"
        self.workspace_id = str(uuid.uuid5(uuid.UUID(self._identity.workspace_id), str(port)))

    def discovery_url(self) -> str:
        """Return the address of the discovery document, which clients fetch without a token."""
        return f"{self.url}/{DISCOVERY}/{self.tokens.signature(DISCOVERY)}"

    def blob_url(self, container: str, name: str) -> str:
        """Return the signed address under which a blob is written."""
        return f"https://{BLOB_HOST}/{container}/{name}?sig={self.tokens.signature(container)}"

    def content_url(self, container: str, name: str) -> str:
        """Return the signed address under which anyone who has it reads a blob, without TLS."""
        return f"{self.url}/blobs/{container}/{name}?sig={self.tokens.signature(container)}"

    def close(self) -> None:
        """End every run, then close the files."""
        self.runner.close()
        self.store.close()
        for handler in list(self._access.handlers):
            self._access.removeHandler(handler)
            handler.close()


class Handler(WSGIRequestHandler):
    """Requests on the open port: the services in plain http, and CONNECT for the blob host."""

    server: Server
    prefix = ""

    def do_CONNECT(self) -> None:
        """Turn the connection into the blob host's, once the caller has shown the token."""
        self.close_connection = True
        scheme, _, credentials = self.headers.get("Proxy-Authorization", "").partition(" ")
        with contextlib.suppress(ValueError):
            credentials = base64.b64decode(credentials, validate=True).decode()
        refusal = self.server.service.tokens.refusal(credentials.partition(":")[2])
        if scheme != "Basic" or refusal or self.path != f"{BLOB_HOST}:443":
            self.send_error(407 if refusal else 403, explain=refusal or f"only {BLOB_HOST} is served here")
            return
        self.send_response_only(200, "Connection established")
        self.end_headers()
        self.wfile.flush()
        # A client that hangs up, or does not trust the certificate, has nothing to be told here.
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
    """A thread per connection, on 127.0.0.1 only."""

    daemon_threads = True

    def __init__(self, service: Service, tls: ssl.SSLContext, port: int) -> None:
        super().__init__(HOST, port, service, handler=Handler)
        self.service = service
        self.tls = tls
        service.carried_on(self.server_port)

    def log(self, type: str, message: str, *args: Any) -> None:
        """Write the server's own troubles to the service's log."""
        logging.getLogger(__name__).log(logging.ERROR if type == "error" else logging.INFO, message, *args)


def _json_response(answer: Any) -> Response:
    return Response(json.dumps(answer), content_type="application/json; charset=utf-8")


def _access_log(path: Path) -> logging.Logger:
    logger = logging.getLogger(f"{__name__}.access.{path}")
    handler = RotatingFileHandler(path, maxBytes=_ACCESS_LOG_BYTES, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger
