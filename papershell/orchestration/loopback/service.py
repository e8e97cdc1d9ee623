"""The service: a WSGI application over the state of one workspace."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any
from urllib.parse import quote

import werkzeug.exceptions as http
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from papershell.orchestration.loopback import faults, pages
from papershell.orchestration.loopback.limits import ADDRESS_CHARACTERS, BODY_BYTES, UPLOAD_BYTES
from papershell.orchestration.loopback.names import ARTIFACTS
from papershell.orchestration.loopback.routes import ALL_ROUTES
from papershell.orchestration.loopback.routing import Call, Route, ScopeConverter, error_response
from papershell.orchestration.loopback.runner import Runner
from papershell.orchestration.loopback.state import DISCOVERY, Identity, State
from papershell.orchestration.loopback.stored_files import remove_unfinished

_ACCESS_LOG_BYTES = 10 << 20
_SIGNATURE = re.compile("[0-9a-f]{64}")  # as `Tokens.signature` makes them; none gets into the log
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass
class Options:
    """Settings of a service.

    Attributes
    ----------
    slots : how many runs go on at once; the others stay queued.
    provision_s : seconds that a cluster takes to appear, to resize and to vanish.
    faults : the faults to inject, see `faults.Fault`.
    """

    slots: int = 2
    provision_s: float = 0.0
    faults: list[faults.Fault] = field(default_factory=list)


class Service:
    """An Azure ML workspace whose state lies under ``root``; a WSGI application."""

    def __init__(self, root: Path, identity: Identity, options: Options) -> None:
        for folder in ("blobs", "blocks"):
            remove_unfinished(root / folder)
        self.state = State(root, identity, provision_s=options.provision_s)
        self.runner = Runner(self.state, options.slots)
        self.last_request = time.monotonic()
        self._faults = faults.Faults(options.faults)
        self._access = _access_log(root / "access.log")
        self._map = Map(
            [
                Rule("/" + route.path.lstrip("/"), methods=[route.method], endpoint=route)
                for route in ALL_ROUTES
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
        path = _SIGNATURE.sub("SIGNATURE", quote(request.path))
        self._access.info("%s %s %s", quote(request.method), path, response.status_code)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        try:
            answer = self._routed(request)
        except http.HTTPException as error:
            return _refusal(error, request)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            # Every value that a handler takes apart came with the request.
            logging.getLogger(__name__).warning("%s %s", request.method, request.path, exc_info=True)
            return _refusal(http.BadRequest(f"not understood: {type(error).__name__}: {error}"), request)
        except Exception as error:
            return _trouble(error, request)
        if isinstance(answer, Response):
            return answer
        return Response(json.dumps(answer), content_type="application/json; charset=utf-8")

    def _routed(self, request: Request) -> Any:
        """Return the answer of the route's function, within the bounds and with the right to it."""
        if len(request.path) > ADDRESS_CHARACTERS:
            raise http.RequestURITooLarge(
                f"the address is longer than {ADDRESS_CHARACTERS} characters; shorten it"
            )
        route, parts = self._map.bind_to_environ(request.environ).match()
        self._check_right(request, route, parts)
        with self._transaction(request, route):
            call = Call(self.state, self.runner, request)
            return route.handler(call, **{k: v for k, v in parts.items() if k != "scope"})

    def _transaction(self, request: Request, route: Route) -> contextlib.AbstractContextManager[None]:
        """Return the step that a function is: its body has arrived before it locks the store."""
        request.max_content_length = UPLOAD_BYTES if route.streams else BODY_BYTES + 1
        if route.streams or request.method in ("GET", "HEAD"):
            return contextlib.nullcontext()
        # Werkzeug cuts a body without a length silently at the bound.
        if (request.content_length or 0) > BODY_BYTES or len(request.get_data()) > BODY_BYTES:
            raise http.RequestEntityTooLarge(f"the body is longer than {BODY_BYTES} bytes; send less at once")
        return self.state.store.transaction()

    def _check_right(self, request: Request, route: Route, parts: Mapping[str, Any]) -> None:
        if route.right != "token":
            self._check_visitor(request, route)
            return
        if "container" in parts:
            place, signature = parts["container"], request.args.get("sig", "")
        elif "signature" in parts:
            place, signature = DISCOVERY, parts["signature"]
        elif "artifacts_signature" in parts:
            place, signature = ARTIFACTS, parts["artifacts_signature"]
        else:
            self._check_bearer(request)
            return
        if not self.state.tokens.opens(place, signature):
            raise http.Forbidden("the address carries no signature of this workspace")

    def _check_visitor(self, request: Request, route: Route) -> None:
        """Check the cookie of a browser; under another name for this machine it would not be this page's."""
        if f"http://{request.host}" != self.state.url:
            raise http.Forbidden(f"this page is at {self.state.url} only")
        cookie = request.cookies.get(pages.cookie_name(self.state), "")
        if route.right == "cookie" and not self.state.page_access.admits(cookie):
            raise http.Unauthorized(
                "this browser may not see the workspace yet: run papershell workspace open "
                "(with --root and its folder, unless it is your own default workspace)"
            )

    def _check_bearer(self, request: Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        refusal = self.state.tokens.refusal(token) if scheme == "Bearer" else "the request carries no token"
        if refusal:
            raise http.Unauthorized(refusal)

    def close(self) -> None:
        """End every run, then close the files."""
        self.runner.close()
        self.state.store.close()
        for handler in list(self._access.handlers):
            self._access.removeHandler(handler)
            handler.close()


def _refusal(error: http.HTTPException, request: Request) -> Response:
    """Return the answer to a request that its sender has to change: a page for a browser, else what clients read."""
    if "text/html" in request.headers.get("Accept", ""):
        return pages.error_page(error, request)
    return error_response(error.code or 500, error.name.replace(" ", ""), error.description or "")


def _trouble(error: Exception, request: Request) -> Response:
    """Return the answer to a request that failed in the file system or in this program."""
    if isinstance(error, OSError) and error.errno is None:  # of the connection: its pieces make no body
        return error_response(400, "BadRequest", f"the body did not arrive: {error}; send it again")
    if isinstance(error, FileNotFoundError):
        return error_response(404, "NotFound", "the file was removed while it was asked for")
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return error_response(
            507, "InsufficientStorage", "the workspace's disk is full; make room, then try again"
        )
    logging.getLogger(__name__).error("%s %s", request.method, request.path, exc_info=error)
    return error_response(500, "InternalError", f"{type(error).__name__}: {error}")


def _access_log(path: Path) -> logging.Logger:
    logger = logging.getLogger(f"{__name__}.access.{path}")
    handler = RotatingFileHandler(path, maxBytes=_ACCESS_LOG_BYTES, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger
