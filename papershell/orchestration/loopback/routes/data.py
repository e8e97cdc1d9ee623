"""Datastores and datasets."""

from __future__ import annotations

import uuid
from typing import Any

import werkzeug.exceptions as http

from papershell.orchestration.loopback.routing import RESOURCE_GROUP, SUBSCRIPTION, Call, Routes, now
from papershell.orchestration.loopback.store import Document, Store
from papershell.orchestration.loopback.tls import ACCOUNT, DOMAIN

routes = Routes()
_DATASTORE = "/datastore/v1.0/<scope:scope>"
_DATASET = "/dataset/v1.0/<scope:scope>"
CONTAINERS = {"workspaceblobstore": "azureml-blobstore", "workspaceartifactstore": "azureml"}


def _datastore(call: Call, name: str) -> dict[str, Any]:
    if name not in CONTAINERS:
        raise http.NotFound(f"there is no datastore {name!r}; there are {', '.join(CONTAINERS)}")
    return {
        "name": name, "dataStoreType": "AzureBlob", "hasBeenValidated": True, "tags": {},
        "azureStorageSection": {
            "accountName": ACCOUNT, "containerName": CONTAINERS[name], "endpoint": DOMAIN,
            "protocol": "https", "credentialType": "Sas", "credential": "", "isSas": True,
            "accountKey": None, "sasToken": "sig=" + call.service.tokens.signature(CONTAINERS[name]),
            "areWorkspaceManagedIdentitiesAllowed": False,
            "subscriptionId": SUBSCRIPTION, "resourceGroup": RESOURCE_GROUP,
        },
    }  # fmt: skip


@routes("GET", _DATASTORE + "/default")
def default_datastore(call: Call) -> dict[str, Any]:
    """Return the default datastore."""
    return _datastore(call, "workspaceblobstore")


@routes("GET", _DATASTORE + "/datastores/<name>")
def datastore(call: Call, name: str) -> dict[str, Any]:
    """Return a datastore."""
    return _datastore(call, name)


@routes("GET", _DATASTORE + "/datastores")
def datastores(call: Call) -> dict[str, Any]:
    """List the datastores."""
    return {"value": [_datastore(call, name) for name in CONTAINERS]}


@routes("POST", _DATASET + "/datasets", _DATASET + "/datasets/register")
def register(call: Call) -> dict[str, Any]:
    """Register a dataset, or its next version when that is allowed."""
    wanted = call.json()
    name = call.field(wanted, "name")
    versions = call.service.store.all("dataset", f"{name}/")
    definition = wanted.get("latest") or {}
    if versions and versions[-1]["latest"].get("dataflow") == definition.get("dataflow"):
        return versions[-1]
    if versions and call.request.args.get("ifExistsOk", "").lower() != "true":
        raise http.Conflict(f"there is a dataset {name!r} already; ask for a new version")
    dataset_id = versions[0]["datasetId"] if versions else str(uuid.uuid4())
    number = str(len(versions) + 1)
    stamps = {"versionId": number, "savedDatasetId": str(uuid.uuid4()), "datasetId": dataset_id}
    dataset = wanted | {"datasetId": dataset_id, "createdTime": now(), "latest": definition | stamps}
    return call.service.store.put("dataset", f"{name}/{number}", dataset)


def _by_saved_id(store: Store, saved: str) -> Document:
    for dataset in store.all("dataset"):
        if dataset["latest"]["savedDatasetId"] == saved:
            return dataset
    raise http.NotFound(f"there is no dataset with the id {saved!r}; register it first")


def saved_definition(store: Store, saved: str) -> Document:
    """Return the definition of a dataset (its dataflow) by its saved id."""
    return store.get("saved-dataset", saved) or _by_saved_id(store, saved)["latest"]


@routes("GET", _DATASET + "/datasets/query/name=<name>")
def by_name(call: Call, name: str) -> dict[str, Any]:
    """Return the newest version of a dataset, or the one asked for."""
    version = call.request.args.get("versionId", "latest")
    versions = call.service.store.all("dataset", f"{name}/")
    if not versions:
        raise http.NotFound(f"there is no dataset {name!r}; register it first")
    fitting = [d for d in versions if version in ("latest", "None", d["latest"]["versionId"])]
    if not fitting:
        raise http.NotFound(f"dataset {name!r} has no version {version}; the newest is {len(versions)}")
    return fitting[-1]


@routes("GET", _DATASET + "/datasets/query/savedDatasetId=<saved>")
def by_saved_id(call: Call, saved: str) -> dict[str, Any]:
    """Return the dataset of a saved id."""
    return _by_saved_id(call.service.store, saved)


@routes("GET", _DATASET + "/saveddatasets/<saved>")
def saved_dataset(call: Call, saved: str) -> dict[str, Any]:
    """Return a saved definition."""
    return saved_definition(call.service.store, saved) | {"id": saved}


@routes("GET", _DATASET + "/datasets")
def list_datasets(call: Call) -> dict[str, Any]:
    """List the newest version of every dataset."""
    newest = {d["name"]: d for d in call.service.store.all("dataset")}
    return {"value": list(newest.values())}


@routes("POST", _DATASET + "/saveddatasets", _DATASET + "/saveddatasets/from-request")
def save_dataset(call: Call) -> dict[str, Any]:
    """Keep a definition that is used without being registered."""
    wanted = call.json()
    saved = wanted | {"id": str(uuid.uuid4()), "dataflow": call.field(wanted, "dataflowJson")}
    return call.service.store.put("saved-dataset", saved["id"], saved)


@routes("GET", "/data/v1.0/<scope:scope>/dataversion/<name>/versions/<version>")
def data_version(call: Call, name: str, version: str) -> dict[str, Any]:
    """Return the dataflow behind a dataset that the client names by its saved id."""
    definition = saved_definition(call.service.store, name.removeprefix("unregistered-"))
    return {"legacyDataflow": definition.get("dataflow")}
