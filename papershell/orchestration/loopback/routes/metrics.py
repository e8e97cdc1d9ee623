"""Metrics as azureml-core logs and reads them."""

from __future__ import annotations

from typing import Any

from papershell.orchestration.loopback import metric_records
from papershell.orchestration.loopback import run_history as history
from papershell.orchestration.loopback.names import timestamp
from papershell.orchestration.loopback.routing import Call, Routes

routes = Routes()
_RUN = "/metric/v2.0/<scope:scope>/runs/<run>"


@routes("POST", _RUN + "/batch")
def log_batch(call: Call, run: str) -> dict[str, Any]:
    """Store logged values."""
    history.run(call.store, run)
    for metric in call.json().get("values", []):
        values = metric.get("value") or []
        for name in ("metricId", "data"):
            [call.field(value, name) for value in values]
        call.field(metric, "name")
        metric_records.log(call.store, run, {k: v for k, v in metric.items() if k != "value"}, values)
    return {"errors": []}


@routes("POST", _RUN + "/list")
def list_metrics(call: Call, run: str) -> dict[str, Any]:
    """List the names under which a run logged."""
    found = metric_records.metrics(call.store, run)
    return {"value": [{"metricKey": {"name": m["name"]}, "columns": m.get("columns") or {}} for m in found]}


@routes("POST", _RUN + "/full")
def full_metric(call: Call, run: str) -> dict[str, Any]:
    """Return every value of one metric."""
    name = call.field(call.json(), "metricName")
    sentence = f"run {run} has no metric {name!r}; list its metrics"
    metric = call.store.require("metric", metric_records.key(run, name), sentence)
    values = metric_records.values(call.store, run, name)
    record = history.run(call.store, run)
    times = {"createdUtc": timestamp()}
    shape = {k: v for k, v in metric.items() if k != "last"}
    return shape | {"dataContainerId": record["dataContainerId"], "value": [times | v for v in values]}
