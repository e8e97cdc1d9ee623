"""Experiments and the record of their runs."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import werkzeug.exceptions as http

from papershell.orchestration.loopback import outputs
from papershell.orchestration.loopback import run_history as history
from papershell.orchestration.loopback.filters import parse_filter
from papershell.orchestration.loopback.names import timestamp
from papershell.orchestration.loopback.routing import Call, Routes
from papershell.orchestration.loopback.tokens import LIFETIME_S

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
    if found := history.find_experiment(call.store, name_or_id):
        return found
    raise http.NotFound(f"there is no experiment {name_or_id!r}; create it or submit a run to it")


@routes("GET", _BY_NAME, _BY_ID)
def get_experiment(call: Call, experiment: str) -> dict[str, Any]:
    """Return an experiment by name or id."""
    return _experiment(call, experiment)


@routes("POST", _BY_NAME)
def create_experiment(call: Call, experiment: str) -> dict[str, Any]:
    """Create an experiment, or return the one of that name."""
    return history.experiment(call.store, experiment)


@routes("PATCH", _BY_ID)
def change_experiment(call: Call, experiment: str) -> dict[str, Any]:
    """Change an experiment's tags or description."""
    name = _experiment(call, experiment)["name"]
    changes = {k: v for k, v in call.json().items() if k in ("tags", "description", "archivedTime")}
    return call.store.update("experiment", name, lambda e: history.merge(e, changes))


@routes("POST", "/history/v1.0/<scope:scope>/experiments:query")
def query_experiments(call: Call) -> dict[str, Any]:
    """List the experiments that fit a filter."""
    return {"value": _fitting(call.store.all("experiment"), call.json())}


@routes("PATCH", _BY_NAME + "/runs/<run>", _BY_ID + "/runs/<run>")
def change_run(call: Call, experiment: str, run: str) -> dict[str, Any]:
    """Change a run's record, or begin an interactive run."""
    return _change(call, experiment, run, call.json())


@routes("PATCH", _BY_NAME + "/batch/runs")
def change_runs(call: Call, experiment: str) -> dict[str, Any]:
    """Change or begin several runs: how the client makes child runs."""
    wanted = {run.get("runId") or str(uuid.uuid4()): run for run in call.json().get("runs", [])}
    return {"runs": {run: _change(call, experiment, run, w) for run, w in wanted.items()}, "errors": {}}


def _change(call: Call, experiment: str, run: str, changes: dict[str, Any]) -> dict[str, Any]:
    if call.store.get("run", run) is None:
        history.new_run(call.store, history.experiment(call.store, experiment), run, changes)
    return call.store.update("run", run, lambda record: history.merge(record, changes))


@routes("GET", _BY_NAME + "/runs/<run>", _BY_ID + "/runs/<run>", "/history/v1.0/<scope:scope>/runs/<run>")
def get_run(call: Call, run: str, experiment: str = "") -> dict[str, Any]:
    """Return a run's record."""
    return history.run(call.store, run)


@routes("GET", _BY_NAME + "/runs/<run>/details", _BY_ID + "/runs/<run>/details")
def get_details(call: Call, experiment: str, run: str) -> dict[str, Any]:
    """Return a run's record together with its configuration and the addresses of its logs."""
    record = history.run(call.store, run)
    configuration = (call.store.get("submission", run) or {}).get("configuration")
    folder = history.artifact_folder(record)
    logs = [
        path.relative_to(call.blobs / folder).as_posix()
        for path in history.artifact_files(call.blobs, record)
        if path.parent.name in ("user_logs", "system_logs", "azureml-logs")
    ]
    keys = ("runId", "target", "status", "startTimeUtc", "endTimeUtc", "error", "warnings", "properties")
    return {key: record.get(key) for key in keys} | {
        "runDefinition": configuration,
        "inputDatasets": [
            _input_dataset(name, wanted) for name, wanted in ((configuration or {}).get("data") or {}).items()
        ],
        "outputDatasets": (call.store.get(outputs.RECORDS, run) or {"value": []})["value"],
        "logFiles": {name: call.state.download_url(*f"{folder}/{name}".split("/", 1)) for name in logs},
    }


def _input_dataset(name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return an input of a run as the client's lineage of data sets reads it."""
    dataset = ((wanted.get("dataLocation") or {}).get("dataset") or {}).get("id")
    details = {"inputName": name, "mechanism": str(wanted.get("mechanism")).capitalize()}
    return {"identifier": {"savedId": dataset}, "consumptionType": "RunInput", "inputDetails": details}


@routes("GET", _BY_NAME + "/runs/<run>/children", _BY_ID + "/runs/<run>/children")
def children(call: Call, experiment: str, run: str) -> dict[str, Any]:
    """List a run's children."""
    return {"value": [r for r in call.store.all("run") if r.get("parentRunId") == run]}


@routes("POST", _BY_NAME + "/runs:query", _BY_ID + "/runs:query")
def query_runs(call: Call, experiment: str) -> dict[str, Any]:
    """List an experiment's runs that fit a filter, newest first."""
    wanted = _experiment(call, experiment)["experimentId"]
    found = (r for r in reversed(call.store.all("run")) if r["experimentId"] == wanted)
    return {"value": _fitting(found, call.json())}


@routes("GET", "/history/v1.0/<scope:scope>/computes/<name>/runs")
def compute_runs(call: Call, name: str) -> dict[str, Any]:
    """List the runs of a cluster, newest first."""
    return {"value": [r for r in reversed(call.store.all("run")) if r.get("target") == name]}


def _fitting(found: Iterable[dict[str, Any]], query: dict[str, Any]) -> list[dict[str, Any]]:
    fits = parse_filter(query["filter"]) if query.get("filter") else lambda record: True
    return [record for record in found if fits(record)]


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
    store = call.store
    record = history.run(store, run)
    submitted = store.get("submission", run) is not None
    if name in _CANCEL_EVENTS:
        if submitted:
            call.runner.cancel(run)
        else:
            history.move(store, run, "Canceled")
    elif name.endswith(("Warning", "Error")):
        note = {"source": name.rpartition(".")[2], "message": str(event.get("data", {}).get("Message", ""))}
        store.update("run", run, lambda r: r.update(warnings=[*(r.get("warnings") or []), note]))
    elif name in _EVENTS and not (submitted and _EVENTS[name] in history.FINAL):
        history.move(store, record["runId"], _EVENTS[name])


@routes("GET", _BY_NAME + "/runs/<run>/token", _BY_ID + "/runs/<run>/token")
def token(call: Call, experiment: str, run: str) -> dict[str, Any]:
    """Return a fresh token for a run."""
    record = history.run(call.store, run)
    return record | {"token": call.state.tokens.mint(run), "tokenExpiryTimeUtc": timestamp(LIFETIME_S)}


@routes("DELETE", _BY_NAME + "/runs/<run>/tags", _BY_ID + "/runs/<run>/tags")
def delete_tags(call: Call, experiment: str, run: str) -> dict[str, Any]:
    """Take tags off a run."""
    names = call.json(list)

    def change(record: dict[str, Any]) -> None:
        record["tags"] = {k: v for k, v in record["tags"].items() if k not in names}
        record["lastModifiedUtc"] = timestamp()

    return call.store.update("run", run, change)


@routes("GET", _BY_NAME + "/runs/<run>/metricsingest/wait", _BY_ID + "/runs/<run>/metricsingest/wait")
def wait_for_metrics(call: Call, experiment: str, run: str) -> dict[str, Any]:
    """Answer at once: a metric is stored before its request is answered."""
    return {}
