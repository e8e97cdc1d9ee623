"""MLflow's tracking API (https://mlflow.org/docs/latest/rest-api.html) over the run history.

``mlflow`` asks for it, and azureml-mlflow. A call that is not here gets a 404.
"""

from __future__ import annotations

from typing import Any

from papershell.orchestration.loopback import metric_records
from papershell.orchestration.loopback import mlflow_records as mlflow
from papershell.orchestration.loopback import run_history as history
from papershell.orchestration.loopback.mlflow_search import search
from papershell.orchestration.loopback.routing import Call, Routes
from papershell.orchestration.loopback.store import Document

routes = Routes()
API = "/mlflow/v2.0/<scope:scope>/api/2.0/mlflow"
_PREVIEW = "/mlflow/v2.0/<scope:scope>/api/2.0/preview/mlflow"  # of azureml-mlflow
_MOST_RUNS, _MOST_VALUES = 1000, 25_000  # in one answer


@routes("GET", API + "/experiments/get", API + "/experiments/get-by-name")
def get_experiment(call: Call) -> dict[str, Any]:
    """Return an experiment by id or name."""
    args = call.request.args
    found = mlflow.experiment(call.store, args.get("experiment_id") or args.get("experiment_name", ""))
    return {"experiment": mlflow.as_experiment(call.state, found)}


@routes("POST", API + "/experiments/create")
def create_experiment(call: Call) -> dict[str, Any]:
    """Create an experiment, or return the id of the one of that name."""
    wanted = call.json()
    created = history.experiment(call.store, mlflow.text(wanted, "name"))
    _set_experiment_tags(call, created["name"], wanted.get("tags") or [])
    return {"experiment_id": created["experimentId"]}


@routes("POST", API + "/experiments/set-experiment-tag")
def set_experiment_tag(call: Call) -> dict[str, Any]:
    """Set a tag of an experiment."""
    wanted = call.json()
    name = mlflow.experiment(call.store, mlflow.text(wanted, "experiment_id"))["name"]
    _set_experiment_tags(call, name, [wanted])
    return {}


def _set_experiment_tags(call: Call, name: str, tags: list[dict[str, Any]]) -> None:
    new = {mlflow.text(tag, "key"): str(tag.get("value", "")) for tag in tags}
    call.store.update("experiment", name, lambda record: history.merge(record, {"tags": new}))


@routes("POST", API + "/experiments/search")
def search_experiments(call: Call) -> dict[str, Any]:
    """List the experiments that fit a filter."""
    found = [mlflow.as_experiment(call.state, e) for e in call.store.all("experiment")]
    page, token = search(found, call.json(), _MOST_RUNS)
    return {"experiments": page, "next_page_token": token}


@routes("POST", API + "/runs/create")
def create_run(call: Call) -> dict[str, Any]:
    """Begin a run."""
    return _run(call, mlflow.begin_run(call.store, call.json()))


@routes("GET", API + "/runs/get")
def get_run(call: Call) -> dict[str, Any]:
    """Return a run."""
    return _run(call, history.run(call.store, call.request.args.get("run_id", "")))


def _run(call: Call, record: Document) -> dict[str, Any]:
    return {"run": mlflow.as_run(call.state, record)}


def _wanted(call: Call) -> tuple[dict[str, Any], str]:
    """Return a request's body, and the id of the run that it is about and that exists."""
    wanted = call.json()
    run_id = mlflow.text(wanted, "run_id")
    history.run(call.store, run_id)
    return wanted, run_id


@routes("POST", API + "/runs/update")
def update_run(call: Call) -> dict[str, Any]:
    """Change a run's state or name."""
    wanted, run_id = _wanted(call)
    mlflow.change_run(call.store, run_id, wanted)
    return {"run_info": mlflow.as_run(call.state, history.run(call.store, run_id))["info"]}


@routes("POST", API + "/runs/delete", API + "/runs/restore")
def hide_run(call: Call) -> dict[str, Any]:
    """Hide a run from lists, or show it again; its record stays."""
    _, run_id = _wanted(call)
    hidden = call.request.path.endswith("delete")
    call.store.update("run", run_id, lambda record: record.update(hidden=hidden))
    return {}


@routes("POST", API + "/runs/log-metric")
def log_metric(call: Call) -> dict[str, Any]:
    """Log one value."""
    wanted, run_id = _wanted(call)
    mlflow.log_metrics(call.store, run_id, [wanted])
    return {}


@routes("POST", API + "/runs/log-parameter")
def log_parameter(call: Call) -> dict[str, Any]:
    """Log one parameter."""
    wanted, run_id = _wanted(call)
    mlflow.log_parameters(call.store, run_id, [wanted])
    return {}


@routes("POST", API + "/runs/set-tag")
def set_tag(call: Call) -> dict[str, Any]:
    """Set one tag of a run."""
    wanted, run_id = _wanted(call)
    mlflow.set_tags(call.store, run_id, [wanted])
    return {}


@routes("POST", API + "/runs/delete-tag")
def delete_tag(call: Call) -> dict[str, Any]:
    """Take a tag off a run."""
    wanted, run_id = _wanted(call)
    key = mlflow.text(wanted, "key")
    call.store.update("run", run_id, lambda record: record["tags"].pop(key, None))
    return {}


@routes("POST", API + "/runs/log-batch", _PREVIEW + "/runs/log-batch-async")
def log_batch(call: Call) -> dict[str, Any]:
    """Log metrics, parameters and tags in one step."""
    wanted, run_id = _wanted(call)
    mlflow.log_metrics(call.store, run_id, wanted.get("metrics") or [])
    mlflow.log_parameters(call.store, run_id, wanted.get("params") or [])
    mlflow.set_tags(call.store, run_id, wanted.get("tags") or [])
    return {}


@routes("POST", API + "/runs/log-inputs")
def log_inputs(call: Call) -> dict[str, Any]:
    """Note the data sets that a run used."""
    wanted, run_id = _wanted(call)
    return _note(call, run_id, "mlflowDatasets", wanted.get("datasets") or [])


@routes("POST", API + "/runs/outputs")
def log_outputs(call: Call) -> dict[str, Any]:
    """Note the models that a run made."""
    wanted, run_id = _wanted(call)
    return _note(call, run_id, "mlflowModels", wanted.get("models") or [])


def _note(call: Call, run_id: str, field: str, new: list[Any]) -> dict[str, Any]:
    def change(record: Document) -> None:
        known = record.setdefault(field, [])
        known += [item for item in new if item not in known]

    call.store.update("run", run_id, change)
    return {}


@routes("POST", API + "/runs/log-model")
def log_model(call: Call) -> dict[str, Any]:
    """Take note of a model of MLflow 2; its files are the run's already."""
    _wanted(call)
    return {}


@routes("POST", API + "/runs/search")
def search_runs(call: Call) -> dict[str, Any]:
    """List the runs of some experiments that fit a filter, newest first unless another order is asked for."""
    wanted = call.json()
    owners = {mlflow.experiment(call.store, e)["experimentId"] for e in wanted.get("experiment_ids") or []}
    found = [
        r for r in reversed(call.store.all("run")) if r["experimentId"] in owners and not r.get("hidden")
    ]
    page, token = search([mlflow.as_run(call.state, record) for record in found], wanted, _MOST_RUNS)
    return {"runs": page, "next_page_token": token}


@routes("GET", API + "/metrics/get-history")
def metric_history(call: Call) -> dict[str, Any]:
    """Return the values of one metric, a page of them at a time."""
    args = call.request.args
    run_id, key = history.run(call.store, args.get("run_id", ""))["runId"], args.get("metric_key", "")
    metric = {"name": key} | (call.store.get("metric", metric_records.key(run_id, key)) or {})
    first = int(args.get("page_token") or 0)
    count = min(int(args.get("max_results") or _MOST_VALUES), _MOST_VALUES)
    values = metric_records.values(call.store, run_id, key)
    shown = enumerate(values[first : first + count], first)
    numbers = ((i, value, metric_records.number(metric, value)) for i, value in shown)
    found = [mlflow.as_metric(key, number, value, i) for i, value, number in numbers if number is not None]
    more = {"next_page_token": str(first + count)} if first + count < len(values) else {}
    return {"metrics": found} | more
