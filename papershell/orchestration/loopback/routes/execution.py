"""Submission of runs."""

from __future__ import annotations

from typing import Any

import werkzeug.exceptions as http

from papershell.orchestration.loopback import run_records as records
from papershell.orchestration.loopback.routing import Call, Routes

routes = Routes()


@routes("POST", "/execution/v1.0/<scope:scope>/experiments/<experiment>/snapshotrun")
def submit(call: Call, experiment: str) -> dict[str, Any]:
    """Queue a run of a snapshot."""
    store, body = call.service.store, call.json()
    configuration = call.field(body, "Configuration")
    snapshot = call.field(body, "SnapshotId")
    run_id = call.request.args.get("runId", "")
    if not run_id.replace("-", "").replace("_", "").isalnum():
        raise http.BadRequest(f"run id {run_id!r} may hold letters, digits, - and _ only")
    target = str(configuration.get("target"))
    if store.get("compute", target) is None:
        raise http.BadRequest(f"there is no cluster {target!r} in this workspace; create it first")
    if store.get("snapshot", snapshot) is None:
        raise http.BadRequest(f"there is no snapshot {snapshot}; submit again")
    wanted = {
        "target": target,
        "parentRunId": call.request.args.get("parentRunId"),
        "properties": {"ContentSnapshotId": snapshot, "_azureml.ComputeTargetType": "amlcompute"},
    }
    records.new_run(store, records.experiment(store, experiment), run_id, wanted)
    submission = {"runId": run_id, "configuration": configuration, "snapshot": snapshot}
    if store.add("submission", run_id, submission) != submission:
        raise http.Conflict(f"run {run_id} was submitted before")
    records.move(store, run_id, "Queued")
    call.service.runner.start(run_id)
    return {"runId": run_id}
