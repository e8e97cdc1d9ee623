"""Registered models and the assets that say which files they are."""

from __future__ import annotations

import uuid
from typing import Any

from papershell.orchestration.loopback.names import timestamp
from papershell.orchestration.loopback.routing import Call, Routes
from papershell.orchestration.loopback.store import Document, Store

routes = Routes()
_BASE = "/modelmanagement/v1.0/<scope:scope>"


@routes("POST", _BASE + "/assets")
def create_asset(call: Call) -> dict[str, Any]:
    """Keep an asset."""
    asset = call.json() | {"id": uuid.uuid4().hex}
    return call.store.put("asset", asset["id"], asset)


@routes("GET", _BASE + "/assets/<asset>")
def get_asset(call: Call, asset: str) -> dict[str, Any]:
    """Return an asset."""
    return call.store.require("asset", asset, f"there is no asset {asset}; register the model again")


@routes("POST", _BASE + "/models")
def register(call: Call) -> dict[str, Any]:
    """Register the next version of a model."""
    model = call.json()
    call.name(model)
    return add_version(call.store, model)


def add_version(store: Store, model: Document) -> Document:
    """Keep ``model`` as the next version of its name."""
    name = model["name"]
    version = 1 + max((m["version"] for m in store.all("model", f"{name}:")), default=0)
    key = f"{name}:{version}"
    stamps = {"id": key, "version": version, "createdTime": timestamp(), "modifiedTime": timestamp()}
    # azureml-core, which goes through them, cannot list a model without data sets
    return store.put("model", key, model | stamps | {"datasets": model.get("datasets") or []})


@routes("GET", _BASE + "/models")
def list_models(call: Call) -> dict[str, Any]:
    """List models, newest first, by name, run, framework or tags."""
    args = call.request.args
    wanted = {k: args[k] for k in ("name", "runId", "framework") if args.get(k)}
    tags = [tag.partition("=") for tag in args.get("tags", "").split(",") if tag]

    def fits(model: dict[str, Any]) -> bool:
        own = model.get("kvTags") or {}
        return all(model.get(k) == v for k, v in wanted.items()) and all(
            key in own and (not sign or str(own[key]) == value) for key, sign, value in tags
        )

    found = [model for model in reversed(call.store.all("model")) if fits(model)]
    return {"value": found[: int(args["count"])] if args.get("count") else found}


@routes("GET", _BASE + "/models/<model>")
def get_model(call: Call, model: str) -> dict[str, Any]:
    """Return a model by its id ``name:version``."""
    sentence = f"there is no model {model!r}; list the models to see names and versions"
    return call.store.require("model", model, sentence)


@routes("DELETE", _BASE + "/models/<model>")
def delete_model(call: Call, model: str) -> dict[str, Any]:
    """Forget a model."""
    call.store.remove("model", model)
    return {}
