"""The records of data sets: definitions by their saved ids, and named versions of them."""

from __future__ import annotations

import json
import uuid

import werkzeug.exceptions as http
import yaml

from papershell.orchestration.loopback.names import SCOPED_DATASTORES, timestamp
from papershell.orchestration.loopback.store import Document, Store, key_of


def saved_dataset(store: Store, saved: str) -> Document:
    """Return the definition of a dataset (its dataflow) by its saved id, registered or not.

    Raises
    ------
    werkzeug.exceptions.NotFound
        There is no such dataset.
    """
    return store.require(
        "saved-dataset", saved, f"there is no dataset with the id {saved!r}; register it first"
    )


def save(store: Store, definition: Document) -> Document:
    """Keep a definition that has no name."""
    saved = str(uuid.uuid4())
    return store.put("saved-dataset", saved, definition | {"id": saved})


def versions(store: Store, name: str) -> list[Document]:
    """Return the versions of a dataset, the oldest first."""
    return store.all("dataset", key_of(name, ""))


def register(store: Store, wanted: Document, *, new_version: bool) -> Document:
    """Register a dataset under ``wanted["name"]``; its newest version again if nothing differs.

    Raises
    ------
    werkzeug.exceptions.Conflict
        There is one of this name, and it is not to have a new version.
    """
    name, definition = wanted["name"], wanted.get("latest") or {}
    known = versions(store, name)
    if known and known[-1]["latest"].get("dataflow") == definition.get("dataflow"):
        return known[-1]
    if known and not new_version:
        raise http.Conflict(f"there is a dataset {name!r} already; ask for a new version")
    dataset_id = known[0]["datasetId"] if known else str(uuid.uuid4())
    number, saved = str(len(known) + 1), str(uuid.uuid4())
    latest = definition | {"versionId": number, "savedDatasetId": saved, "datasetId": dataset_id}
    store.put("saved-dataset", saved, latest | {"registeredAs": key_of(name, number)})
    dataset = wanted | {"datasetId": dataset_id, "createdTime": timestamp(), "latest": latest}
    return store.put("dataset", key_of(name, number), dataset)


def dataflow_of(datastore: str, path: str) -> str:
    """Return the dataflow of the files below a datastore's folder, as the client writes it."""
    address = f"{SCOPED_DATASTORES}/{datastore}/paths/{path.strip('/')}/"
    flow = yaml.safe_dump({"type": "mltable", "paths": [{"pattern": address}]})
    return json.dumps({"blocks": [], "meta": {"RsDataflow": flow}})
