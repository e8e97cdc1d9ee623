"""The filter expressions with which the client asks for runs: ``(Status eq Running) and (Tags/a eq b)``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import werkzeug.exceptions as http

from papershell.orchestration.loopback.limits import FILTER_CHARACTERS

Predicate = Callable[[dict[str, Any]], bool]
_TOKEN = re.compile(r"\(|\)|\s+(?:and|or)\s+|[^()]+?(?=\s+(?:and|or)\s|[()]|$)")
_COMPARISON = re.compile(r"(\S+)\s+(eq|ne|ge|gt|le|lt)\s+(.*)")


def parse_filter(text: str) -> Predicate:
    """Return the predicate on run records that an OData expression of and, or, eq, ne, ge, gt, le, lt means.

    Raises
    ------
    werkzeug.exceptions.BadRequest
        The expression is not one of these, or too long.
    """
    if len(text) > FILTER_CHARACTERS:
        raise http.BadRequest(
            f"the filter is longer than {FILTER_CHARACTERS} characters; ask for less at once"
        )
    tokens = [token.strip() for token in _TOKEN.findall(text) if token.strip()]
    predicate = _either(tokens)
    if tokens:
        raise http.BadRequest(f"filter {text!r} cannot be read from {tokens[0]!r} on")
    return predicate


def _either(tokens: list[str]) -> Predicate:
    return _chain(tokens, "or", lambda rest: _chain(rest, "and", _term, all), any)


def _chain(
    tokens: list[str], word: str, part: Callable[[list[str]], Predicate], combine: Callable[..., bool]
) -> Predicate:
    parts = [part(tokens)]
    while tokens and tokens[0] == word:
        tokens.pop(0)
        parts.append(part(tokens))
    return lambda run: combine(p(run) for p in parts)


def _term(tokens: list[str]) -> Predicate:
    token = tokens.pop(0) if tokens else ""
    if token == "(":
        inner = _either(tokens)
        if not tokens or tokens.pop(0) != ")":
            raise http.BadRequest("the filter has an open parenthesis")
        return inner
    match = _COMPARISON.fullmatch(token)
    if match is None:
        raise http.BadRequest(f"the filter's part {token!r} is no comparison")
    return _comparison(*match.groups())


def _comparison(field: str, name: str, value: str) -> Predicate:
    wanted = (
        None if value == "null" else value.strip("'\"").replace(" ", "T", 1 if name in ("ge", "gt") else 0)
    )
    compare = getattr(operator, name)

    def holds(run: dict[str, Any]) -> bool:
        found = _value(run, field)
        if name in ("eq", "ne"):
            return bool(compare(found if found is None else str(found), wanted))
        return found is not None and wanted is not None and bool(compare(str(found), wanted))

    return holds


def _value(run: dict[str, Any], field: str) -> Any:
    """Return the field of a run record; ``Tags/x`` and ``Properties/x`` look inside."""
    record, _, key = field.partition("/")
    found = run.get(record[0].lower() + record[1:])
    return found.get(key) if key and isinstance(found, dict) else found
