"""Metrics, kept one document per logged value so that a repeated request logs nothing twice."""

from __future__ import annotations

from typing import Any

import werkzeug.exceptions as http

from papershell.orchestration.loopback import run_records as records
from papershell.orchestration.loopback.routing import Call, Routes, now

routes = Routes()
_RUN = "/metric/v2.0/<scope:scope>/runs/<run>"


@routes("POST", _RUN + "/batch")
def log_batch(call: Call, run: str) -> dict[str, Any]:
    """Store what the client logged."""
    records.run(call.service.store, run)
    for metric in call.json().get("values", []):
        name = call.field(metric, "name")
        shape = {k: v for k, v in metric.items() if k != "value"}
        call.service.store.put("metric", f"{run}/{name}", shape | {"runId": run})
        for value in metric.get("value") or []:
            call.service.store.add("metric-value", f"{run}/{name}/{call.field(value, 'metricId')}", value)
    return {"errors": []}


@routes("POST", _RUN + "/list")
def list_metrics(call: Call, run: str) -> dict[str, Any]:
    """List the names under which a run logged."""
    found = call.service.store.all("metric", f"{run}/")
    return {"value": [{"metricKey": {"name": m["name"]}, "columns": m.get("columns") or {}} for m in found]}


@routes("POST", _RUN + "/full")
def full_metric(call: Call, run: str) -> dict[str, Any]:
    """Return every value of one metric."""
    name = call.json().get("metricName")
    metric = call.service.store.get("metric", f"{run}/{name}")
    if metric is None:
        raise http.NotFound(f"run {run} has no metric {name!r}")
    values = call.service.store.all("metric-value", f"{run}/{name}/")
    record = records.run(call.service.store, run)
    times = {"createdUtc": now()}
    return metric | {"dataContainerId": record["dataContainerId"], "value": [times | v for v in values]}
