"""MLflow's search: ``metrics.accuracy > 0.9 and tags.kind = 'probe'``, orders, and pages.

https://mlflow.org/docs/latest/search-runs.html
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import werkzeug.exceptions as http

from papershell.orchestration.loopback.limits import FILTER_CHARACTERS

Item = dict[str, Any]  # a run or an experiment in MLflow's form
_FIELD = r"""\s*(?P<field>\w+(?:\.(?:[\w./-]+|"[^"]+"|`[^`]+`))?)\s*"""
_COMPARISON = re.compile(
    _FIELD + r"""(?P<sign>!=|>=|<=|=|>|<|(?:not\s+)?in\b|i?like\b|is\s+(?:not\s+)?null\b)\s*"""
    r"""(?P<value>'[^']*'|"[^"]*"|\([^()]*\)|[-+.\w]+)?\s*""",
    re.IGNORECASE,
)
_AND = re.compile(r"and\b", re.IGNORECASE)
_ORDER = re.compile(_FIELD + r"(?P<way>asc|desc)?\s*", re.IGNORECASE)
_GROUPS = {
    "metric": "metrics",
    "param": "params",
    "parameter": "params",
    "parameters": "params",
    "tag": "tags",
}
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
    "in": lambda found, wanted: found in wanted, "not in": lambda found, wanted: found not in wanted,
    "like": lambda found, wanted: _like(found, wanted, re.DOTALL),
    "ilike": lambda found, wanted: _like(found, wanted, re.DOTALL | re.IGNORECASE),
}  # fmt: skip


def search(found: Sequence[Item], wanted: Mapping[str, Any], most: int) -> tuple[list[Item], str | None]:
    """Return one page of the runs or experiments that fit, and the token of the next page.

    Parameters
    ----------
    wanted : the request: ``filter``, ``order_by``, ``max_results`` and ``page_token``, each of them optional.

    Raises
    ------
    werkzeug.exceptions.BadRequest
        The filter or the order is not understood.
    """
    fits = _parsed(str(wanted.get("filter") or ""))
    fitting = _ordered([item for item in found if fits(item)], wanted.get("order_by") or [])
    first = int(wanted.get("page_token") or 0)
    count = max(1, min(int(wanted.get("max_results") or most), most))
    more = str(first + count) if first + count < len(fitting) else None
    return fitting[first : first + count], more


def _parsed(text: str) -> Callable[[Item], bool]:
    if len(text) > FILTER_CHARACTERS:
        raise http.BadRequest(f"the filter is longer than {FILTER_CHARACTERS} characters; ask for less")
    parts, place = [], 0
    while text[place:].strip():
        match = _COMPARISON.match(text, place)
        if match is None:
            raise http.BadRequest(
                f"the filter cannot be read from {text[place:][:60]!r} on; write field = 'value'"
            )
        parts.append(_comparison(*match.group("field", "sign", "value")))
        joint = _AND.match(text, match.end())
        if joint is None and match.end() < len(text):
            raise http.BadRequest(
                f"the filter joins comparisons by AND only, not by {text[match.end() :][:20]!r}"
            )
        place = joint.end() if joint else len(text)
    return lambda item: all(part(item) for part in parts)


def _comparison(field: str, sign: str, value: str | None) -> Callable[[Item], bool]:
    sign = " ".join(sign.lower().split())
    if sign.startswith("is"):
        return lambda item: (_value(item, field) is None) == (sign == "is null")
    if value is None:
        raise http.BadRequest(f"the filter compares {field!r} with nothing; write {field} {sign} 'value'")
    listed = [part.strip().strip("'\"") for part in value.strip("()").split(",")]
    wanted: Any = listed if "in" in sign.split() else value.strip("'\"")

    def holds(item: Item) -> bool:
        found = _value(item, field)
        if isinstance(found, (int, float)) and isinstance(wanted, str):
            return _SIGNS[sign](found, float(wanted))
        return found is not None and _SIGNS[sign](str(found), wanted)

    return holds


def _value(item: Item, field: str) -> Any:
    """Return what a field names in a run or an experiment, or None."""
    group, _, key = field.partition(".")
    group, key = _GROUPS.get(group, group), key.strip('"`')
    if group in ("metrics", "params", "tags"):
        pairs = item["data"][group] if "data" in item else item.get(group, [])
        found = next((pair["value"] for pair in pairs if pair["key"] == key), None)
        return float(found) if group == "metrics" and found is not None else found
    name = key if group in ("attributes", "attribute", "attr", "run") else field
    return item.get("info", item).get({"created": "start_time", "Created": "start_time"}.get(name, name))


def _like(found: str, pattern: str, flags: int) -> bool:
    regex = "".join({"%": ".*", "_": "."}.get(sign, re.escape(sign)) for sign in pattern)
    return re.fullmatch(regex, found, flags) is not None


def _ordered(items: list[Item], orders: Sequence[str]) -> list[Item]:
    """Return the items by the first order, those that are equal by the next; without a value they come last."""
    for order in reversed(orders):
        match = _ORDER.fullmatch(str(order))
        if match is None:
            raise http.BadRequest(f"the order {order!r} is not a field with ASC or DESC")
        field = match["field"]
        has = [item for item in items if _value(item, field) is not None]
        lacks = [item for item in items if _value(item, field) is None]
        down = (match["way"] or "asc").lower() == "desc"
        items = sorted(has, key=lambda item: _value(item, field), reverse=down) + lacks
    return items
