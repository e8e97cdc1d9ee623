"""Models that MLflow 3 logs: a record each, whose files lie beside the other files of the run that made it."""

from __future__ import annotations

import uuid
from typing import Any

from papershell.orchestration.loopback import mlflow_records as mlflow
from papershell.orchestration.loopback import run_history as history
from papershell.orchestration.loopback.mlflow_search import search
from papershell.orchestration.loopback.routes.mlflow_tracking import API
from papershell.orchestration.loopback.routing import Call, Routes
from papershell.orchestration.loopback.store import Document

routes = Routes()
_MODELS = API + "/logged-models"
_MODEL = _MODELS + "/<model>"


@routes("POST", _MODELS)
def create(call: Call) -> dict[str, Any]:
    """Begin a model; its files come next."""
    wanted = call.json()
    model_id = f"m-{uuid.uuid4().hex}"
    now_ms = mlflow.now_ms()
    record = {
        "model_id": model_id, "name": str(wanted.get("name") or "model"), "status": "LOGGED_MODEL_PENDING",
        "experiment_id": mlflow.experiment(call.store, mlflow.text(wanted, "experiment_id"))["experimentId"],
        "source_run_id": wanted.get("source_run_id"), "model_type": wanted.get("model_type"),
        "creation_timestamp_ms": now_ms, "last_updated_timestamp_ms": now_ms,
        "tags": wanted.get("tags") or [], "params": wanted.get("params") or [],
    }  # fmt: skip
    record["folder"] = _folder(call, record)
    return _answer(call, call.store.put("logged-model", model_id, record))


def _folder(call: Call, record: Document) -> str:
    """Return the folder of a model: its name in its run's, and a longer one if that is taken."""
    if not record["source_run_id"]:
        return f"Model/{record['model_id']}"
    run = history.run(call.store, record["source_run_id"])
    folder = history.artifact_folder(run).partition("/")[2] + "/" + record["name"]
    taken = any(model["folder"] == folder for model in call.store.all("logged-model"))
    return f"{folder}-{record['model_id']}" if taken else folder


def _answer(call: Call, record: Document) -> dict[str, Any]:
    info = {k: v for k, v in record.items() if k not in ("folder", "params") and v is not None}
    info["artifact_uri"] = call.state.files_url(record["folder"])
    return {"model": {"info": info, "data": {"params": record["params"], "metrics": []}}}


@routes("GET", _MODEL)
def get(call: Call, model: str) -> dict[str, Any]:
    """Return a model."""
    return _answer(call, _existing(call, model))


def _existing(call: Call, model: str) -> Document:
    sentence = f"there is no logged model {model!r}; search the models of its experiment"
    return call.store.require("logged-model", model, sentence)


def _change(call: Call, model: str, changes: Document) -> dict[str, Any]:
    _existing(call, model)
    stamped = changes | {"last_updated_timestamp_ms": mlflow.now_ms()}
    return _answer(call, call.store.update("logged-model", model, lambda record: record.update(stamped)))


@routes("PATCH", _MODEL)
def finalize(call: Call, model: str) -> dict[str, Any]:
    """Say whether a model's files arrived."""
    return _change(call, model, {"status": mlflow.text(call.json(), "status")})


@routes("PATCH", _MODEL + "/tags")
def set_tags(call: Call, model: str) -> dict[str, Any]:
    """Set tags of a model."""
    tags = {tag["key"]: tag for tag in [*_existing(call, model)["tags"], *call.json().get("tags", [])]}
    return _change(call, model, {"tags": list(tags.values())})


@routes("POST", _MODEL + "/params")
def log_parameters(call: Call, model: str) -> dict[str, Any]:
    """Add parameters to a model."""
    return _change(call, model, {"params": _existing(call, model)["params"] + call.json().get("params", [])})


@routes("POST", _MODELS + "/search")
def search_models(call: Call) -> dict[str, Any]:
    """List the models of some experiments."""
    wanted = call.json()
    owners = {mlflow.experiment(call.store, e)["experimentId"] for e in wanted.get("experiment_ids") or []}
    found = [m for m in reversed(call.store.all("logged-model")) if m["experiment_id"] in owners]
    page, token = search([_answer(call, m)["model"] for m in found], wanted, 1000)
    return {"models": page, "next_page_token": token}


@routes("DELETE", _MODEL)
def delete(call: Call, model: str) -> dict[str, Any]:
    """Forget a model; its files stay with the run."""
    call.store.remove("logged-model", model)
    return {}
