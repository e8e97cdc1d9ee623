"""The right to see the workspace's page: a link that opens once gives a cookie, which reads pages and nothing else."""

from __future__ import annotations

import secrets
import threading
import time

from papershell.orchestration.loopback.tokens import Tokens

LINK_S = 600.0  # a link that was not opened until then opens no more
VISIT_S = 12 * 3600.0
_MOST_LINKS = 64  # that wait to be opened; the oldest make room


class PageAccess:
    """Makes links and cookies of one workspace. The cookie is no bearer token: no service takes it."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._links: dict[str, float] = {}
        self._lock = threading.Lock()

    def link(self) -> str:
        """Return the secret of a new link."""
        secret, now = secrets.token_urlsafe(32), time.monotonic()
        with self._lock:
            waiting = [(s, until) for s, until in self._links.items() if until > now]
            self._links = dict(waiting[1 - _MOST_LINKS :]) | {secret: now + LINK_S}
        return secret

    def redeem(self, secret: str) -> str | None:
        """Return a cookie for the secret of a link, which is used up; None if it opens nothing."""
        with self._lock:
            until = self._links.pop(secret, 0.0)
        if until <= time.monotonic():
            return None
        end = str(int(time.time() + VISIT_S))
        return f"{end}.{self._tokens.signature(_place(end))}"

    def admits(self, cookie: str) -> bool:
        """Return whether a cookie opens the page."""
        end, _, signature = cookie.partition(".")
        known = end.isascii() and end.isdecimal() and self._tokens.opens(_place(end), signature)
        return known and time.time() < int(end)


def _place(end: str) -> str:
    return f"the page until {end}"
