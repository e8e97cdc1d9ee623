"""Experiments and the record of their runs."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from functools import partial
from typing import Any

import werkzeug.exceptions as http

from papershell.orchestration.loopback import run_records as records
from papershell.orchestration.loopback.filters import parse_filter
from papershell.orchestration.loopback.routing import Call, Routes, now

routes = Routes()
_BY_NAME = "/history/v1.0/<scope:scope>/experiments/<experiment>"
_BY_ID = "/history/v1.0/<scope:scope>/experimentids/<experiment>"
_EVENTS = {
    "Microsoft.MachineLearning.Run.Start": "Running",
    "Microsoft.MachineLearning.Run.Queued": "Queued",
    "Microsoft.MachineLearning.Run.Completed": "Completed",
    "Microsoft.MachineLearning.Run.Failed": "Failed",
}
_CANCEL_EVENTS = ("Microsoft.MachineLearning.Run.Canceled", "Microsoft.MachineLearning.Run.CancelRequested")


def _experiment(call: Call, name_or_id: str) -> dict[str, Any]:
    found = records.find_experiment(call.service.store, name_or_id)
    if found is None:
        raise http.NotFound(f"there is no experiment {name_or_id!r}")
    return found


@routes("GET", _BY_NAME, _BY_ID)
def get_experiment(call: Call, experiment: str) -> dict[str, Any]:
    """Return an experiment by name or id."""
    return _experiment(call, experiment)


@routes("POST", _BY_NAME)
def create_experiment(call: Call, experiment: str) -> dict[str, Any]:
    """Create an experiment, or return the one of that name."""
    return records.experiment(call.service.store, experiment)


@routes("PATCH", _BY_ID)
def change_experiment(call: Call, experiment: str) -> dict[str, Any]:
    """Change an experiment's tags or description."""
    name = _experiment(call, experiment)["name"]
    changes = {k: v for k, v in call.json().items() if k in ("tags", "description", "archivedTime")}
    return call.service.store.update("experiment", name, lambda e: records.merge(e, changes))


@routes("POST", "/history/v1.0/<scope:scope>/experiments:query")
def query_experiments(call: Call) -> dict[str, Any]:
    """List the experiments that fit a filter."""
    return {"value": _fitting(call.service.store.all("experiment"), call.json())}


@routes("PATCH", _BY_NAME + "/runs/<run>", _BY_ID + "/runs/<run>")
def change_run(call: Call, experiment: str, run: str) -> dict[str, Any]:
    """Change a run's record, or begin one that nothing was submitted for."""
    store = call.service.store
    if store.get("run", run) is None:
        records.new_run(store, records.experiment(store, experiment), run, call.json())
    return store.update("run", run, lambda record: records.merge(record, call.json()))


@routes("PATCH", _BY_NAME + "/batch/runs")
def change_runs(call: Call, experiment: str) -> dict[str, Any]:
    """Change or begin several runs: how the client makes child runs."""
    store, changed = call.service.store, {}
    for wanted in call.json().get("runs", []):
        run_id = wanted.get("runId") or str(uuid.uuid4())
        if store.get("run", run_id) is None:
            records.new_run(store, records.experiment(store, experiment), run_id, wanted)
        changed[run_id] = store.update("run", run_id, partial(_merge_into, wanted))
    return {"runs": changed, "errors": {}}


@routes("GET", _BY_NAME + "/runs/<run>", _BY_ID + "/runs/<run>", "/history/v1.0/<scope:scope>/runs/<run>")
def get_run(call: Call, run: str, experiment: str = "") -> dict[str, Any]:
    """Return a run's record."""
    return records.run(call.service.store, run)


@routes("GET", _BY_NAME + "/runs/<run>/details", _BY_ID + "/runs/<run>/details")
def get_details(call: Call, experiment: str, run: str) -> dict[str, Any]:
    """Return a run's record together with what was submitted and where its logs are."""
    record = records.run(call.service.store, run)
    submission = call.service.store.get("submission", run) or {}
    container = records.artifact_folder(record)
    logs = [
        path.relative_to(call.service.blobs / container).as_posix()
        for path in records.artifact_files(call.service.blobs, record)
        if path.parent.name in ("user_logs", "system_logs")
    ]
    keys = ("runId", "target", "status", "startTimeUtc", "endTimeUtc", "error", "warnings", "properties")
    return {key: record.get(key) for key in keys} | {
        "runDefinition": submission.get("configuration"),
        "inputDatasets": [],
        "outputDatasets": [],
        "logFiles": {
            name: call.service.content_url("azureml", f"{_below(container)}/{name}") for name in logs
        },
    }


def _below(folder: str) -> str:
    return folder.partition("/")[2]


@routes("GET", _BY_NAME + "/runs/<run>/children", _BY_ID + "/runs/<run>/children")
def children(call: Call, experiment: str, run: str) -> dict[str, Any]:
    """List a run's children."""
    return {"value": [r for r in call.service.store.all("run") if r.get("parentRunId") == run]}


@routes("POST", _BY_NAME + "/runs:query", _BY_ID + "/runs:query")
def query_runs(call: Call, experiment: str) -> dict[str, Any]:
    """List an experiment's runs that fit a filter, newest first."""
    wanted = _experiment(call, experiment)["experimentId"]
    found = (r for r in reversed(call.service.store.all("run")) if r["experimentId"] == wanted)
    return {"value": _fitting(found, call.json())}


@routes("GET", "/history/v1.0/<scope:scope>/computes/<name>/runs")
def compute_runs(call: Call, name: str) -> dict[str, Any]:
    """List the runs of a cluster, newest first."""
    return {"value": [r for r in reversed(call.service.store.all("run")) if r.get("target") == name]}


def _merge_into(changes: dict[str, Any], record: dict[str, Any]) -> None:
    records.merge(record, changes)


def _fitting(records_: Iterable[dict[str, Any]], query: dict[str, Any]) -> list[dict[str, Any]]:
    fits = parse_filter(query["filter"]) if query.get("filter") else lambda record: True
    return [record for record in records_ if fits(record)]


@routes("POST", _BY_NAME + "/runs/<run>/events", _BY_ID + "/runs/<run>/events")
def post_event(call: Call, experiment: str, run: str) -> dict[str, Any]:
    """Take one event of a run."""
    _take_event(call, run, call.json())
    return {}


@routes("POST", _BY_NAME + "/batch/events", _BY_ID + "/batch/events")
def post_events(call: Call, experiment: str) -> dict[str, Any]:
    """Take events of several runs."""
    for event in call.json().get("events", []):
        _take_event(call, call.field(event.get("data"), "RunId"), event)
    return {"errors": []}


def _take_event(call: Call, run: str, event: dict[str, Any]) -> None:
    """Move a run to the state that an event says.

    The word of a submitted run's own process is not its end: only the process' exit is.
    """
    name = call.field(event, "name")
    store = call.service.store
    record = records.run(store, run)
    submitted = store.get("submission", run) is not None
    if name in _CANCEL_EVENTS:
        if submitted:
            call.service.runner.cancel(run)
        else:
            records.move(store, run, "Canceled")
    elif name.endswith(("Warning", "Error")):
        note = {"source": name.rpartition(".")[2], "message": str(event.get("data", {}).get("Message", ""))}
        store.update("run", run, lambda r: r.update(warnings=[*(r.get("warnings") or []), note]))
    elif name in _EVENTS and not (submitted and _EVENTS[name] in records.FINAL):
        records.move(store, record["runId"], _EVENTS[name])


@routes("GET", _BY_NAME + "/runs/<run>/token", _BY_ID + "/runs/<run>/token")
def token(call: Call, experiment: str, run: str) -> dict[str, Any]:
    """Return a fresh token for a run."""
    record = records.run(call.service.store, run)
    return record | {"token": call.service.tokens.mint(run), "tokenExpiryTimeUtc": "2100-01-01T00:00:00Z"}


@routes("DELETE", _BY_NAME + "/runs/<run>/tags", _BY_ID + "/runs/<run>/tags")
def delete_tags(call: Call, experiment: str, run: str) -> dict[str, Any]:
    """Take tags off a run."""
    names = call.request.get_json(force=True)
    if not isinstance(names, list):
        raise http.BadRequest("the request's body is not a list of tags")

    def change(record: dict[str, Any]) -> None:
        record["tags"] = {k: v for k, v in record["tags"].items() if k not in names}
        record["lastModifiedUtc"] = now()

    return call.service.store.update("run", run, change)


@routes("GET", _BY_NAME + "/runs/<run>/metricsingest/wait", _BY_ID + "/runs/<run>/metricsingest/wait")
def wait_for_metrics(call: Call, experiment: str, run: str) -> dict[str, Any]:
    """Answer at once: a metric is stored before its request is answered."""
    return {}
