"""Datastores and datasets."""

from __future__ import annotations

from typing import Any

import werkzeug.exceptions as http

from papershell.orchestration.loopback import datasets
from papershell.orchestration.loopback.names import (
    ACCOUNT,
    DATASTORES,
    DOMAIN,
    RESOURCE_GROUP,
    SUBSCRIPTION,
)
from papershell.orchestration.loopback.routing import Call, Routes

routes = Routes()
_DATASTORE = "/datastore/v1.0/<scope:scope>"
_DATASET = "/dataset/v1.0/<scope:scope>"


def _datastore(call: Call, name: str) -> dict[str, Any]:
    if name not in DATASTORES:
        raise http.NotFound(f"there is no datastore {name!r}; there are {', '.join(DATASTORES)}")
    return {
        "name": name, "dataStoreType": "AzureBlob", "hasBeenValidated": True, "tags": {},
        "azureStorageSection": {
            "accountName": ACCOUNT, "containerName": DATASTORES[name], "endpoint": DOMAIN,
            "protocol": "https", "credentialType": "Sas", "credential": "", "isSas": True,
            "accountKey": None, "sasToken": "sig=" + call.state.tokens.signature(DATASTORES[name]),
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
    return {"value": [_datastore(call, name) for name in DATASTORES]}


@routes("POST", _DATASET + "/datasets", _DATASET + "/datasets/register")
def register(call: Call) -> dict[str, Any]:
    """Register a dataset, or its next version when that is allowed."""
    wanted = call.json()
    name = call.name(wanted)
    may_be_new = call.request.args.get("ifExistsOk", "").lower() == "true"
    return datasets.register(call.store, wanted | {"name": name}, new_version=may_be_new)


@routes("GET", _DATASET + "/datasets/query/name=<name>")
def by_name(call: Call, name: str) -> dict[str, Any]:
    """Return the newest version of a dataset, or the one asked for."""
    version = call.request.args.get("versionId", "latest")
    versions = datasets.versions(call.store, name)
    if not versions:
        raise http.NotFound(f"there is no dataset {name!r}; register it first")
    fitting = [d for d in versions if version in ("latest", "None", d["latest"]["versionId"])]
    if not fitting:
        raise http.NotFound(f"dataset {name!r} has no version {version}; the newest is {len(versions)}")
    return fitting[-1]


@routes("GET", _DATASET + "/datasets/query/savedDatasetId=<saved>")
def by_saved_id(call: Call, saved: str) -> dict[str, Any]:
    """List the registered datasets of a saved id: one, or none."""
    definition = datasets.saved_dataset(call.store, saved)
    found = call.store.get("dataset", definition.get("registeredAs", ""))
    return {"value": [found] if found else []}


@routes("GET", _DATASET + "/saveddatasets/<saved>")
def saved_dataset(call: Call, saved: str) -> dict[str, Any]:
    """Return a saved definition."""
    return datasets.saved_dataset(call.store, saved) | {"id": saved}


@routes("GET", _DATASET + "/datasets")
def list_datasets(call: Call) -> dict[str, Any]:
    """List the newest version of every dataset."""
    newest = {d["name"]: d for d in call.store.all("dataset")}
    return {"value": list(newest.values())}


@routes("POST", _DATASET + "/saveddatasets", _DATASET + "/saveddatasets/from-request")
def save_dataset(call: Call) -> dict[str, Any]:
    """Keep a definition that is used without being registered."""
    wanted = call.json()
    return datasets.save(call.store, wanted | {"dataflow": call.field(wanted, "dataflowJson")})


@routes("GET", "/data/v1.0/<scope:scope>/dataversion/<name>/versions/<version>")
def data_version(call: Call, name: str, version: str) -> dict[str, Any]:
    """Return the dataflow behind a dataset that the client names by its saved id."""
    definition = datasets.saved_dataset(call.store, name.removeprefix("unregistered-"))
    return {"legacyDataflow": definition.get("dataflow")}
