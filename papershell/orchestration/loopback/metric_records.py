"""Logged metrics: one document per value, so that a repeated request logs no value twice.

Both clients log into these documents: azureml-core in the shape that is stored, MLflow through
`papershell.orchestration.loopback.mlflow_records`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from papershell.orchestration.loopback.store import Document, Store, key_of

SCALAR, LIST = "azureml.v1.scalar", "azureml.v1.list"
MOST_POINTS = 400  # of a curve


def key(run_id: str, name: str) -> str:
    """Return the key of a metric's record."""
    return key_of(run_id, name)


def log(store: Store, run_id: str, metric: Document, values: Sequence[Document]) -> None:
    """Add values to a metric of a run.

    Parameters
    ----------
    metric : its ``name``, ``columns`` (name to type) and ``properties``.
    values : each with ``metricId`` (its own), ``createdUtc``, ``data`` (column to value) and perhaps ``step``.
    """
    for part in (metric.get("columns"), metric.get("properties"), *(value["data"] for value in values)):
        if not isinstance(part, dict | None):
            raise TypeError(f"a metric has objects for columns, properties and data, not {part!r:.40}")
    own = key(run_id, metric["name"])
    last = (store.get("metric", own) or {}).get("last")
    for value in values:
        store.add("metric-value", f"{own}/{key_of(value['metricId'])}", value)
        last = value if last is None or step(value) >= step(last) else last
    store.put("metric", own, metric | {"runId": run_id, "last": last})


def step(value: Document) -> int:
    """Return the step of a value, 0 if it has none."""
    return int(value.get("step") or 0)


def metrics(store: Store, run_id: str) -> list[Document]:
    """Return the metrics of a run; ``last`` is the value of the highest step, the newest among equals."""
    found = store.all("metric", key_of(run_id, ""))
    return [metric if "last" in metric else metric | {"last": _newest(store, metric)} for metric in found]


def _newest(store: Store, metric: Document) -> Document | None:
    """Return the newest value of a metric that an earlier version of papershell kept."""
    found = store.sample("metric-value", key_of(metric["runId"], metric["name"], ""), 1)
    return found[-1][1] if found else None


def values(store: Store, run_id: str, name: str) -> list[Document]:
    """Return every value of one metric, in the order in which they were logged."""
    return store.all("metric-value", key_of(run_id, name, ""))


def number(metric: Document, value: Document) -> float | None:
    """Return a value of a metric that holds single numbers, else None."""
    kind = (metric.get("properties") or {}).get("uxMetricType", SCALAR)
    found = (value.get("data") or {}).get(metric["name"])
    if kind not in (SCALAR, LIST) or not isinstance(found, (int, float)):
        return None
    try:
        return float(found)
    except OverflowError:  # a long integer
        return math.inf


def curve(store: Store, metric: Document) -> list[tuple[float, float]]:
    """Return (step, value) of about `MOST_POINTS` of a metric's numbers; a value without a step has its place."""
    values = store.sample("metric-value", key_of(metric["runId"], metric["name"], ""), MOST_POINTS)
    found = [(place if v.get("step") is None else step(v), number(metric, v)) for place, v in values]
    return [(float(x), y) for x, y in found if y is not None]


def numbers(found: Iterable[Document]) -> dict[str, float]:
    """Return the last value of each metric that holds single numbers."""
    last = {m["name"]: number(m, m["last"]) for m in found if m.get("last")}
    return {name: value for name, value in last.items() if value is not None}
