"""Faults on demand, to try how a client bears each failure of a service."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from werkzeug.wrappers import Request, Response

KINDS = ("429", "500", "503", "garbage", "half", "nothing", "cut")


@dataclass
class Fault:
    """The next ``count`` requests whose path holds ``path`` go wrong in one way.

    Written ``KIND[:COUNT][@PATH]``, as in ``503:2@/metric/``. Kinds: a status (429, 500, 503),
    ``garbage`` (a body that is not JSON), ``half`` (half of the answer's body), ``nothing``
    (the connection closes with no answer), ``cut`` (the connection closes in the middle of an upload).
    """

    kind: str
    count: int = 1
    path: str = "/"

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read ``KIND[:COUNT][@PATH]``; a `ValueError` names the expected form."""
        head, _, path = text.partition("@")
        kind, _, count = head.partition(":")
        if kind not in KINDS or not (count or "1").isdecimal():
            raise ValueError(f"fault {text!r} is not KIND[:COUNT][@PATH] with a kind of {', '.join(KINDS)}")
        return cls(kind, int(count or "1"), path or "/")


class Faults:
    """The faults still to come; each request takes at most one."""

    def __init__(self, faults: list[Fault]) -> None:
        self._faults = faults
        self._lock = threading.Lock()

    def take(self, request: Request) -> str | None:
        """Return the kind of fault that this request meets, if any, and use it up."""
        with self._lock:
            for fault in self._faults:
                fits = fault.path in request.path and (fault.kind != "cut" or request.method == "PUT")
                if fits and fault.count > 0:
                    fault.count -= 1
                    return fault.kind
        return None


def before(kind: str, request: Request) -> Response | None:
    """Return the faulty answer that replaces the real one, or None when the real one is needed."""
    if kind.isdecimal():
        return Response('{"error": {"code": "Injected", "message": "a fault was asked for"}}', int(kind))
    if kind == "garbage":
        return Response(b"\x00<html>not what you asked for", 200, content_type="application/json")
    if kind in ("nothing", "cut"):
        if kind == "cut":
            request.stream.read(max(1, (request.content_length or 2) // 2))
        _hang_up(request)
        return Response(status=500)
    return None


def half(request: Request, response: Response) -> Response:
    """Return ``response`` with its full length announced and half of its body sent."""
    body = b"".join(response.iter_encoded())

    def first_half() -> Iterator[bytes]:
        yield body[: len(body) // 2]
        _hang_up(request)

    return Response(first_half(), response.status, {**response.headers, "Content-Length": str(len(body))})


def _hang_up(request: Request) -> None:
    connection: socket.socket = request.environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)
