"""The right to ask: bearer tokens for requests, signatures in addresses that are fetched without one."""

from __future__ import annotations

import hashlib
import hmac
import time

import jwt

from papershell.orchestration.loopback.names import TENANT

LIFETIME_S = 30 * 24 * 3600


class Tokens:
    """Makes and checks the tokens and signatures of one workspace, from its secret ``key``."""

    def __init__(self, key: str) -> None:
        self._key = key

    def mint(self, subject: str, *, lifetime_s: float = LIFETIME_S) -> str:
        """Return a signed JWT; the client reads ``exp`` and ``tid`` from it."""
        claims = {"exp": int(time.time() + lifetime_s), "tid": TENANT, "oid": subject, "sub": subject}
        return jwt.encode(claims, self._key, algorithm="HS256")

    def refusal(self, token: str) -> str | None:
        """Return why ``token`` is not valid here, or None if it is."""
        try:
            jwt.decode(token, self._key, algorithms=["HS256"], options={"require": ["exp", "sub"]})
        except jwt.ExpiredSignatureError:
            return "the token has expired; connect to the workspace again"
        except (jwt.InvalidTokenError, ValueError, RecursionError):
            return "the token is not of this workspace; use the one of its own folder"
        return None

    def signature(self, place: str) -> str:
        """Return the signature that opens ``place``: a blob container, or the discovery document."""
        return hmac.new(self._key.encode(), f"open {place}".encode(), hashlib.sha256).hexdigest()

    def opens(self, place: str, signature: str) -> bool:
        """Return whether ``signature`` opens ``place``."""
        return hmac.compare_digest(signature.encode(), self.signature(place).encode())
