"""Pages of HTML from one template file: every text in them is escaped, and they load nothing from elsewhere."""

from __future__ import annotations

import secrets
from functools import cache
from typing import Any

import werkzeug.exceptions as http
from werkzeug.wrappers import Request, Response

from papershell.orchestration.loopback.state import State

_HEADERS = {
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
}  # fmt: skip


def cookie_name(state: State) -> str:
    """Return the name of this workspace's cookie: browsers do not keep the ports of a host apart."""
    return f"papershell-{state.url.rpartition(':')[2]}"


def page(name: str, status: int = 200, **values: Any) -> Response:
    """Return a page of ``page.html``, which shows ``values`` as the page ``name``."""
    nonce = secrets.token_urlsafe(16)
    text = _template().render(page=name, nonce=nonce, **values)
    return Response(
        text,
        status,
        _HEADERS | {"Content-Security-Policy": _policy(nonce)},
        content_type="text/html; charset=utf-8",
    )


def _policy(nonce: str) -> str:
    """Return the policy by which a browser runs the page's own script and style and no others."""
    return (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def error_page(error: http.HTTPException, request: Request) -> Response:
    """Return what a browser shows instead of a page.

    A strict cookie does not come along from another site's link: then the page asks for itself once more.
    """
    again = error.code == 401 and request.headers.get("Sec-Fetch-Site") == "cross-site"
    return page("error", error.code or 500, title=error.name, sentence=error.description, again=again)


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("papershell.orchestration.loopback", "")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html")
