"""How a request finds its function: a table per service, path converters, one error format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import werkzeug.exceptions as http
from werkzeug.routing import PathConverter
from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from papershell.orchestration.loopback.service import Service

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
RESOURCE_GROUP = "papershell"
WORKSPACE = "loopback"
LOCATION = "here"
PROVIDER = "providers/Microsoft.MachineLearningServices"
SCOPE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}/{PROVIDER}/workspaces/{WORKSPACE}"


class ScopeConverter(PathConverter):
    """This workspace's resource path; Azure ignores the case of it."""

    regex = f"(?i:{re.escape(SCOPE[1:])})"


@dataclass(frozen=True)
class Call:
    """One request to one service.

    Attributes
    ----------
    service : whose state it reads and changes.
    request : the request, as Werkzeug parsed it.
    """

    service: Service
    request: Request

    def json(self) -> dict[str, Any]:
        """Return the body's JSON object (nothing: {}); any other body is the caller's fault."""
        document = self.request.get_json(force=True) if self.request.get_data() else {}
        if not isinstance(document, dict):
            raise http.BadRequest("the request's body is not a JSON object")
        return document

    def field(self, document: Any, name: str) -> Any:
        """Return ``document[name]``; its absence is the caller's fault."""
        if not isinstance(document, dict) or name not in document:
            raise http.BadRequest(f"the request has no field {name!r}")
        return document[name]


Handler = Callable[..., Any]


class Routes(list[tuple[str, str, Handler]]):
    """A service's routes: ``@routes("GET", path, ...)`` on a function of (call, **path parts)."""

    def __call__(self, method: str, *paths: str) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            self.extend((method, path, handler) for path in paths)
            return handler

        return register


def now() -> str:
    """Return the present instant as the services write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")


def error_response(status: int, code: str, message: str) -> Response:
    """Return an error in the one shape that the client can print (``RootError`` of its models)."""
    error: dict[str, Any] = {"code": code, "severity": None, "message": message, "messageFormat": None,
             "messageParameters": {}, "referenceCode": None, "detailsUri": None, "target": None,
             "details": [], "innerError": None, "debugInfo": None}  # fmt: skip
    body = {"error": error, "correlation": {}, "environment": LOCATION, "location": LOCATION, "time": now()}
    return Response(json.dumps(body), status, content_type="application/json; charset=utf-8")
