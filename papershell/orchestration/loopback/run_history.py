"""Experiments and runs: their records, and the states that a run passes through."""

from __future__ import annotations

import getpass
import uuid
from pathlib import Path

import werkzeug.exceptions as http

from papershell.orchestration.loopback.names import ARTIFACTS, timestamp
from papershell.orchestration.loopback.store import Document, Store
from papershell.orchestration.loopback.stored_files import regular_files

FINAL = ("Completed", "Failed", "Canceled")
_KEPT = ("runId", "rootRunId", "experimentId", "dataContainerId", "status")
_KINDS = dict.fromkeys(("createdBy", "error", "parameters"), dict) | dict.fromkeys(
    ("name", "displayName", "parentRunId", "target", "createdUtc", "startTimeUtc", "endTimeUtc"), str
) | {"warnings": list, "mlflowDatasets": list, "mlflowModels": list, "hidden": bool}  # fmt: skip


def find_experiment(store: Store, name_or_id: str) -> Document | None:
    """Return the experiment of that id or name, or None."""
    found = (e for e in store.all("experiment") if name_or_id in (e["experimentId"], e["name"]))
    return next(found, None)


def experiment(store: Store, name_or_id: str) -> Document:
    """Return the experiment of that id or name, made now if there is none."""
    if found := find_experiment(store, name_or_id):
        return found
    created: Document = {
        "experimentId": str(uuid.uuid4()), "name": name_or_id, "createdUtc": timestamp(), "tags": {},
        "properties": {}, "archivedTime": None, "description": None,
    }  # fmt: skip
    return store.add("experiment", name_or_id, created)


def new_run(store: Store, experiment: Document, run_id: str, wanted: Document) -> Document:
    """Begin the record of a run, NotStarted."""
    parent = store.get("run", wanted.get("parentRunId") or "")
    record = {
        "runId": run_id, "runNumber": store.count("run") + 1,
        "rootRunId": parent["rootRunId"] if parent else run_id,
        "parentRunId": wanted.get("parentRunId"), "experimentId": experiment["experimentId"],
        "status": "NotStarted", "createdUtc": timestamp(), "startTimeUtc": None, "endTimeUtc": None,
        "runType": "azureml.scriptrun" if wanted.get("target") else "azureml.interactive",
        "name": None, "description": None, "hidden": False, "target": None, "error": None, "warnings": None,
        "createdBy": {"userName": getpass.getuser()}, "dataContainerId": f"dcid.{run_id}",
        "tags": {}, "properties": {},
    }  # fmt: skip
    return store.add("run", run_id, merge(record, {k: v for k, v in wanted.items() if k != "status"}))


def submitted_id(run_id: str) -> str:
    """Return the id of a run that gets folders of its name; `werkzeug.exceptions.BadRequest` if it cannot."""
    if not run_id.replace("-", "").replace("_", "").isalnum():
        raise http.BadRequest(f"run id {run_id!r} may hold letters, digits, - and _ only")
    return run_id


def merge(record: Document, changes: Document) -> Document:
    """Edit ``record`` by the fields that ``changes`` sets; tags and properties are added to."""
    for key, value in changes.items():
        if key in ("tags", "properties"):
            record[key] = record.get(key, {}) | {k: str(v) for k, v in (value or {}).items()}
        elif value is not None and key not in _KEPT:
            if not isinstance(value, _KINDS.get(key, object)):
                raise http.BadRequest(
                    f"{key} of a run is to be of type {_KINDS[key].__name__}, not {value!r:.40}"
                )
            record[key] = value
    return record


def run(store: Store, run_id: str) -> Document:
    """Return the record of a run; `werkzeug.exceptions.NotFound` if there is none."""
    return store.require("run", run_id, f"there is no run {run_id!r}; list the experiment's runs")


def display_name(record: Document) -> str:
    """Return the name under which a run is shown: the one it was given, or its id."""
    return str(record.get("displayName") or record.get("name") or record["runId"])


def move(store: Store, run_id: str, state: str, *, message: str | None = None) -> None:
    """Move a run to ``state``, unless it has ended, or is to end and ``state`` is no end."""

    def change(record: Document) -> None:
        if record["status"] in FINAL or (record["status"] == "CancelRequested" and state not in FINAL):
            return
        record["status"] = state
        if state == "Running":
            record["startTimeUtc"] = record["startTimeUtc"] or timestamp()
        if state in FINAL:
            record["endTimeUtc"] = timestamp()
        if message:
            record["error"] = {"error": {"code": "UserError", "message": message}}

    store.update("run", run_id, change)


def close_children(store: Store, run_id: str) -> None:
    """Cancel the child runs that the process of ``run_id`` began and, being ended by force, left open."""
    message = f"run {run_id}, which began this one, was ended"
    for record in store.all("run"):
        if record["rootRunId"] == run_id and store.get("submission", record["runId"]) is None:
            move(store, record["runId"], "Canceled", message=message)


def artifact_folder(record: Document) -> str:
    """Return the folder, below ``blobs/``, of a run's artifacts, as in a real workspace's container."""
    return f"{ARTIFACTS}/ExperimentRun/{record['dataContainerId']}"


def artifact_files(blobs: Path, record: Document) -> list[Path]:
    """Return the files that a run has uploaded or written."""
    return regular_files(blobs / artifact_folder(record))
