"""Routes from a request to its function: a table per service, one converter of paths, one error format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import werkzeug.exceptions as http
from werkzeug.routing import PathConverter
from werkzeug.wrappers import Request, Response

from papershell.orchestration.loopback.limits import BODY_LEVELS
from papershell.orchestration.loopback.names import LOCATION, SCOPE, timestamp
from papershell.orchestration.loopback.runner import Runner
from papershell.orchestration.loopback.state import State
from papershell.orchestration.loopback.store import Store


class ScopeConverter(PathConverter):
    """This workspace's resource path; Azure ignores the case of it."""

    regex = f"(?i:{re.escape(SCOPE[1:])})"


@dataclass(frozen=True)
class Call:
    """One request to one service.

    Attributes
    ----------
    state : the workspace's, which the request reads and changes.
    runner : carries out the submitted runs.
    request : the request, as Werkzeug parsed it.
    """

    state: State
    runner: Runner
    request: Request

    @property
    def store(self) -> Store:
        """The workspace's records."""
        return self.state.store

    @property
    def blobs(self) -> Path:
        """The folder of the containers."""
        return self.state.blobs

    def json(self, kind: type = dict) -> Any:
        """Return the body, a JSON object or list as ``kind`` says (no body: an empty one).

        Raises
        ------
        werkzeug.exceptions.BadRequest
            The body is something else, or nests too deeply.
        """
        try:
            document = self.request.get_json(force=True) if self.request.get_data() else kind()
        except RecursionError as error:
            raise http.BadRequest(f"the request's body has over {BODY_LEVELS} levels") from error
        if not isinstance(document, kind):
            raise http.BadRequest(f"the request's body is not a JSON {'list' if kind is list else 'object'}")
        if _levels(document) > BODY_LEVELS:
            raise http.BadRequest(f"the request's body has over {BODY_LEVELS} levels")
        return document

    def field(self, document: Any, name: str) -> Any:
        """Return ``document[name]``; its absence is the caller's fault."""
        if not isinstance(document, dict) or name not in document:
            raise http.BadRequest(f"the request has no field {name!r}")
        return document[name]

    def name(self, document: Any) -> str:
        """Return ``document["name"]``, which is to name a thing and a version of it."""
        name = self.field(document, "name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise http.BadRequest(
                f"the name {str(name)[:40]!r} does not fit: take 1 to 255 letters, digits, spaces or signs "
                "other than / and :"
            )
        return name


_NAME = re.compile("[^/:\x00-\x1f\x7f\ud800-\udfff]{1,255}")


def _levels(document: Any) -> int:
    """Return how many objects and lists lie inside each other, counted up to one beyond the bound."""
    level, count = [document], 0
    while level and count <= BODY_LEVELS:
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        count += 1
    return count


Handler = Callable[..., Any]


class Route(NamedTuple):
    """A method and a path, the function that answers, whether it reads the body as it comes, and the right to it.

    The right is a ``token`` or a signature, the ``cookie`` of a browser, or a ``link`` that the function itself checks.
    """

    method: str
    path: str
    handler: Handler
    streams: bool
    right: str


class Routes(list[Route]):
    """A service's routes: ``@routes("GET", path, ...)`` on a function of (call, **path parts).

    A function that changes records runs as one transaction of the store, unless it ``streams``: then
    it may take as long as its client and must leave the store alone.
    """

    def __call__(
        self, method: str, *paths: str, streams: bool = False, right: str = "token"
    ) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            self.extend(Route(method, path, handler, streams, right) for path in paths)
            return handler

        return register


# mlflow/protos/databricks.proto; the client acts on some of them.
_MLFLOW_CODES = {
    400: "INVALID_PARAMETER_VALUE", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "RESOURCE_DOES_NOT_EXIST",
    409: "RESOURCE_ALREADY_EXISTS", 429: "REQUEST_LIMIT_EXCEEDED",
}  # fmt: skip


def error_response(status: int, code: str, message: str) -> Response:
    """Return an error in the one shape that azureml-core (``RootError`` of its models) and MLflow can print."""
    error: dict[str, Any] = {"code": code, "severity": None, "message": message, "messageFormat": None,
             "messageParameters": {}, "referenceCode": None, "detailsUri": None, "target": None,
             "details": [], "innerError": None, "debugInfo": None}  # fmt: skip
    body = {
        "error": error,
        "correlation": {},
        "environment": LOCATION,
        "location": LOCATION,
        "time": timestamp(),
        "error_code": _MLFLOW_CODES.get(status, "INTERNAL_ERROR"),
        "message": message,
    }
    return Response(json.dumps(body), status, content_type="application/json; charset=utf-8")
