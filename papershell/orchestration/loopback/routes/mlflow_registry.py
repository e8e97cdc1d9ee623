"""MLflow's model registry over the workspace's models: both clients see the same names and versions."""

from __future__ import annotations

import uuid
from typing import Any

import werkzeug.exceptions as http

from papershell.orchestration.loopback import mlflow_records as mlflow
from papershell.orchestration.loopback.mlflow_search import search
from papershell.orchestration.loopback.names import timestamp
from papershell.orchestration.loopback.routes.mlflow_tracking import API
from papershell.orchestration.loopback.routes.models import add_version
from papershell.orchestration.loopback.routing import Call, Routes
from papershell.orchestration.loopback.store import Document

routes = Routes()
_NAMES, _VERSIONS = API + "/registered-models", API + "/model-versions"


@routes("POST", _NAMES + "/create")
def create_name(call: Call) -> dict[str, Any]:
    """Reserve a name for models."""
    wanted = call.json()
    name = call.name(wanted)
    if call.store.get("model-name", name) or call.store.all("model", f"{name}:"):
        raise http.Conflict(f"there is a model {name!r} already; add a version to it")
    record = {
        "name": name, "createdTime": timestamp(), "description": wanted.get("description"),
        "tags": wanted.get("tags") or [],
    }  # fmt: skip
    call.store.put("model-name", name, record)
    return {"registered_model": _named(call, name)}


def _named(call: Call, name: str) -> dict[str, Any]:
    """Return a name in MLflow's form, with its newest version."""
    versions = call.store.all("model", f"{name}:")
    record = call.store.get("model-name", name) or (versions[0] if versions else None)
    if record is None:
        raise http.NotFound(f"there is no model {name!r}; register one")
    created = mlflow.milliseconds(record["createdTime"])
    newest = versions[-1:]
    return {
        "name": name, "creation_timestamp": created, "description": record.get("description") or "",
        "last_updated_timestamp": mlflow.milliseconds(newest[0]["createdTime"]) if newest else created,
        "latest_versions": [_version(call, model) for model in newest], "tags": record.get("tags") or [],
    }  # fmt: skip


@routes("GET", _NAMES + "/get")
def get_name(call: Call) -> dict[str, Any]:
    """Return the newest version of a name."""
    return {"registered_model": _named(call, call.request.args.get("name", ""))}


@routes("GET", _NAMES + "/search")
def search_names(call: Call) -> dict[str, Any]:
    """List the names that fit a filter."""
    names = {record["name"]: None for kind in ("model-name", "model") for record in call.store.all(kind)}
    page, token = search([_named(call, name) for name in names], _wanted(call), 1000)
    return {"registered_models": page, "next_page_token": token}


def _wanted(call: Call) -> dict[str, Any]:
    args = call.request.args
    return args.to_dict() | {"order_by": args.getlist("order_by")}


@routes("GET", _NAMES + "/get-latest-versions")
@routes("POST", _NAMES + "/get-latest-versions")
def latest_versions(call: Call) -> dict[str, Any]:
    """Return the newest version of a name, as a list."""
    name = call.request.args.get("name") or mlflow.text(call.json(), "name")
    return {"model_versions": _named(call, name)["latest_versions"]}


@routes("POST", _VERSIONS + "/create")
def create_version(call: Call) -> dict[str, Any]:
    """Register files of a run, or of a logged model, as the next version of a name."""
    wanted = call.json()
    name = call.name(wanted)
    logged = _logged(call, wanted)
    prefix = logged["folder"] if logged else _prefix(call, wanted)
    asset: Document = {"name": name, "artifacts": [{"prefix": prefix}], "id": uuid.uuid4().hex}
    call.store.put("asset", asset["id"], asset)
    tags = {mlflow.text(tag, "key"): str(tag.get("value", "")) for tag in wanted.get("tags") or []}
    model = {
        "name": name, "url": f"aml://asset/{asset['id']}", "mimeType": "application/json", "unpack": False,
        "framework": "Custom", "kvTags": tags, "description": wanted.get("description"), "datasets": [],
        "runId": wanted.get("run_id") or logged.get("source_run_id"), "loggedModel": logged.get("model_id"),
    }  # fmt: skip
    return {"model_version": _version(call, add_version(call.store, model))}


def _logged(call: Call, wanted: Document) -> Document:
    """Return the logged model that a wanted version is made of; empty if it is made of other files."""
    model_id = wanted.get("model_id") or mlflow.text(wanted, "source").removeprefix("models:/")
    return call.store.get("logged-model", model_id) or {}


def _prefix(call: Call, wanted: Document) -> str:
    """Return where the files of a wanted version lie, below the container of artifacts."""
    source = mlflow.text(wanted, "source")
    if source.startswith(call.state.files_url("")):
        return source.removeprefix(call.state.files_url(""))
    raise http.BadRequest(
        f"the source {source[:80]!r} lies outside this workspace; log the model to a run first"
    )


def _version(call: Call, model: Document) -> dict[str, Any]:
    """Return a registered model in MLflow's form."""
    created = mlflow.milliseconds(model["createdTime"])
    return {
        "name": model["name"], "version": str(model["version"]), "status": "READY", "current_stage": "None",
        "creation_timestamp": created, "last_updated_timestamp": created, "source": _source(call, model),
        "run_id": model.get("runId") or "", "model_id": model.get("loggedModel") or "",
        "description": model.get("description") or "", "tags": mlflow.pairs(model.get("kvTags") or {}),
    }  # fmt: skip


def _source(call: Call, model: Document) -> str:
    asset = call.store.get("asset", str(model.get("url")).removeprefix("aml://asset/")) or {}
    prefixes = [part.get("prefix") or part.get("id") for part in asset.get("artifacts") or []]
    return call.state.files_url(str(prefixes[0])) if prefixes else ""


@routes("GET", _VERSIONS + "/get")
def get_version(call: Call) -> dict[str, Any]:
    """Return a version."""
    return {"model_version": _version(call, _existing(call))}


def _existing(call: Call) -> Document:
    key = f"{call.request.args.get('name')}:{call.request.args.get('version')}"
    return call.store.require("model", key, f"there is no model {key!r}; list the models")


@routes("GET", _VERSIONS + "/get-download-uri")
def download_uri(call: Call) -> dict[str, Any]:
    """Return where the files of a version lie."""
    return {"artifact_uri": _source(call, _existing(call))}


@routes("GET", _VERSIONS + "/search")
def search_versions(call: Call) -> dict[str, Any]:
    """List the versions that fit a filter, newest first."""
    found = [_version(call, model) for model in reversed(call.store.all("model"))]
    page, token = search(found, _wanted(call), 1000)
    return {"model_versions": page, "next_page_token": token}
