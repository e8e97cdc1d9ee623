"""Metrics: one document per logged value, so that a repeated request logs no value twice."""

from __future__ import annotations

from typing import Any

from papershell.orchestration.loopback import run_history as history
from papershell.orchestration.loopback.names import timestamp
from papershell.orchestration.loopback.routing import Call, Routes
from papershell.orchestration.loopback.store import key_of

routes = Routes()
_RUN = "/metric/v2.0/<scope:scope>/runs/<run>"


@routes("POST", _RUN + "/batch")
def log_batch(call: Call, run: str) -> dict[str, Any]:
    """Store logged values."""
    history.run(call.store, run)
    for metric in call.json().get("values", []):
        name = call.field(metric, "name")
        shape = {k: v for k, v in metric.items() if k != "value"}
        call.store.put("metric", key_of(run, name), shape | {"runId": run})
        for value in metric.get("value") or []:
            call.store.add("metric-value", key_of(run, name, call.field(value, "metricId")), value)
    return {"errors": []}


@routes("POST", _RUN + "/list")
def list_metrics(call: Call, run: str) -> dict[str, Any]:
    """List the names under which a run logged."""
    found = call.store.all("metric", key_of(run, ""))
    return {"value": [{"metricKey": {"name": m["name"]}, "columns": m.get("columns") or {}} for m in found]}


@routes("POST", _RUN + "/full")
def full_metric(call: Call, run: str) -> dict[str, Any]:
    """Return every value of one metric."""
    name = call.field(call.json(), "metricName")
    metric = call.store.require(
        "metric", key_of(run, name), f"run {run} has no metric {name!r}; list its metrics"
    )
    values = call.store.all("metric-value", key_of(run, name, ""))
    record = history.run(call.store, run)
    times = {"createdUtc": timestamp()}
    return metric | {"dataContainerId": record["dataContainerId"], "value": [times | v for v in values]}
