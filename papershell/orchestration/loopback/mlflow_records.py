"""The records of the run history as MLflow's REST API shows them, and the other way round.

MLflow's words (``mlflow/protos/service.proto``): info, data, params, tags, lifecycle. A run has one record here,
whichever client wrote it: metrics, tags and files are those of azureml-core; parameters, which that client
lacks, lie in the run's record.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import werkzeug.exceptions as http

from papershell.orchestration.loopback import metric_records
from papershell.orchestration.loopback import run_history as history
from papershell.orchestration.loopback.names import timestamp, utc
from papershell.orchestration.loopback.state import State
from papershell.orchestration.loopback.store import Document, Store

DEFAULT_EXPERIMENT = "0"  # the id that MLflow's client takes if none was set
_MOST_MS = 4_102_444_800_000  # the year 2100
_STATES = {"Running": "RUNNING", "Finalizing": "RUNNING", "CancelRequested": "RUNNING", "Completed": "FINISHED",
           "Failed": "FAILED", "Canceled": "KILLED"}  # fmt: skip
_MOVES = {"RUNNING": "Running", "FINISHED": "Completed", "FAILED": "Failed", "KILLED": "Canceled"}
RUN_NAME, PARENT = "mlflow.runName", "mlflow.parentRunId"


def experiment(store: Store, name_or_id: str) -> Document:
    """Return an experiment; MLflow's default one is made when it is asked for.

    Raises
    ------
    werkzeug.exceptions.NotFound
        There is none.
    """
    if name_or_id == DEFAULT_EXPERIMENT:
        return history.experiment(store, "Default")
    if found := history.find_experiment(store, name_or_id):
        return found
    raise http.NotFound(f"there is no experiment {name_or_id!r}; create it: mlflow.set_experiment(name)")


def as_experiment(state: State, record: Document) -> dict[str, Any]:
    """Return an experiment in MLflow's form."""
    created = milliseconds(record["createdUtc"])
    return {
        "experiment_id": record["experimentId"], "name": record["name"], "lifecycle_stage": _stage(record),
        "artifact_location": state.files_url(f"Experiment/{record['experimentId']}"),
        "creation_time": created, "last_update_time": created, "tags": pairs(record.get("tags") or {}),
    }  # fmt: skip


def _stage(record: Document) -> str:
    return "deleted" if record.get("archivedTime") or record.get("hidden") else "active"


def as_run(state: State, record: Document) -> dict[str, Any]:
    """Return a run in MLflow's form, with the last value of each metric."""
    tags = dict(record.get("tags") or {})
    name = history.display_name(record)
    tags |= {RUN_NAME: name} | ({PARENT: record["parentRunId"]} if record.get("parentRunId") else {})
    found = metric_records.metrics(state.store, record["runId"])
    last = {m["name"]: m["last"] for m in found if m.get("last")}
    numbers = metric_records.numbers(found)
    return {
        "info": _info(state, record) | {"run_name": name},
        "data": {
            "metrics": [as_metric(key, number, last[key]) for key, number in numbers.items()],
            "params": pairs(record.get("parameters") or {}),
            "tags": pairs(tags),
        },
        "inputs": {"dataset_inputs": record.get("mlflowDatasets") or []},
        "outputs": {"model_outputs": record.get("mlflowModels") or []},
    }


def _info(state: State, record: Document) -> dict[str, Any]:
    return {
        "run_id": record["runId"], "run_uuid": record["runId"], "experiment_id": record["experimentId"],
        "user_id": (record.get("createdBy") or {}).get("userName", ""), "lifecycle_stage": _stage(record),
        "status": _STATES.get(record["status"], "SCHEDULED"), "artifact_uri": run_files_url(state, record),
        "start_time": milliseconds(record.get("startTimeUtc") or record["createdUtc"]),
        "end_time": milliseconds(record["endTimeUtc"]) if record.get("endTimeUtc") else None,
    }  # fmt: skip


def run_files_url(state: State, record: Document) -> str:
    """Return the signed address below which MLflow's client reads and writes the files of a run."""
    return state.files_url(history.artifact_folder(record).partition("/")[2])


def as_metric(key: str, number: float, value: Document, index: int = 0) -> dict[str, Any]:
    """Return a logged number in MLflow's form; a value that was logged without a step has its ``index``."""
    text = (
        number if math.isfinite(number) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(number, "NaN")
    )
    step = value["step"] if value.get("step") is not None else index
    return {"key": key, "value": text, "step": step, "timestamp": milliseconds(value.get("createdUtc"))}


def log_metrics(store: Store, run_id: str, wanted: Sequence[Mapping[str, Any]]) -> None:
    """Add MLflow's metrics (key, value, timestamp in ms, step) to a run."""
    by_name: dict[str, list[Document]] = {}
    for metric in wanted:
        name = text(metric, "key")
        by_name.setdefault(name, []).append(_value(name, metric))
    for name, values in by_name.items():
        shape = {"columns": {name: "double"}, "properties": {"uxMetricType": metric_records.SCALAR}}
        metric_records.log(store, run_id, {"name": name} | shape, values)


def _value(name: str, metric: Mapping[str, Any]) -> Document:
    number, step = float(metric["value"]), int(metric.get("step") or 0)
    at_ms = int(metric.get("timestamp") or 0)
    if not 0 <= at_ms < _MOST_MS or abs(step) >= 1 << 63:
        raise http.BadRequest(f"metric {name!r} has a timestamp of {at_ms} ms or a step that no clock gives")
    own = uuid.uuid5(uuid.NAMESPACE_OID, f"{at_ms} {step} {number!r}")  # repeated, it is the same value
    return {"metricId": str(own), "createdUtc": utc(at_ms / 1000), "step": step, "data": {name: number}}


def log_parameters(store: Store, run_id: str, wanted: Sequence[Mapping[str, Any]]) -> None:
    """Add parameters to a run.

    Raises
    ------
    werkzeug.exceptions.BadRequest
        One is there already with another value.
    """

    def change(record: Document) -> None:
        own = record.setdefault("parameters", {})
        for parameter in wanted:
            name, value = text(parameter, "key"), str(parameter.get("value", ""))
            if own.setdefault(name, value) != value:
                raise http.BadRequest(
                    f"parameter {name!r} of run {run_id} is {own[name]!r} already; log {value!r} under another name"
                )

    store.update("run", run_id, change)


def set_tags(store: Store, run_id: str, wanted: Sequence[Mapping[str, Any]]) -> None:
    """Set tags of a run; the one that names it does so."""
    tags = {text(tag, "key"): str(tag.get("value", "")) for tag in wanted}
    name = {"displayName": tags.pop(RUN_NAME)} if RUN_NAME in tags else {}
    store.update("run", run_id, lambda record: history.merge(record, {"tags": tags} | name))


def begin_run(store: Store, wanted: Mapping[str, Any]) -> Document:
    """Begin a run that MLflow's client wants; a tag of it may name its parent."""
    owner = experiment(store, text(wanted, "experiment_id"))
    tags = {text(tag, "key"): str(tag.get("value", "")) for tag in wanted.get("tags") or []}
    run_id = str(uuid.uuid4())
    name = wanted.get("run_name") or tags.pop(RUN_NAME, None)
    fields = {"parentRunId": tags.pop(PARENT, None), "tags": tags, "displayName": name}
    history.new_run(store, owner, run_id, fields)
    history.move(store, run_id, "Running")
    return history.run(store, run_id)


def change_run(store: Store, run_id: str, wanted: Mapping[str, Any]) -> None:
    """Change a run's name or state. A submitted run has ended when its process has, not when it says so."""
    state = _MOVES.get(str(wanted.get("status")))
    if wanted.get("run_name"):
        store.update("run", run_id, lambda record: record.update(displayName=str(wanted["run_name"])))
    submitted = store.get("submission", run_id) is not None
    if state and not (submitted and state in history.FINAL):
        history.move(store, run_id, state)


def pairs(mapping: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return MLflow's form of a dictionary."""
    return [{"key": key, "value": str(value)} for key, value in mapping.items()]


def text(wanted: Mapping[str, Any], name: str) -> str:
    """Return a field that has to be text and not empty."""
    value = wanted.get(name)
    if not isinstance(value, str) or not value:
        raise http.BadRequest(f"the request has no field {name!r}")
    return value


def milliseconds(time: str | None) -> int:
    """Return the milliseconds since 1970 of a time that a client may have written, 0 if it is none."""
    try:
        return int(datetime.fromisoformat(str(time)).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return 0


def now_ms() -> int:
    """Return the present time in milliseconds since 1970."""
    return milliseconds(timestamp())
