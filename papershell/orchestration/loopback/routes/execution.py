"""Submission of runs."""

from __future__ import annotations

from typing import Any

import werkzeug.exceptions as http

from papershell.orchestration.loopback import run_history as history
from papershell.orchestration.loopback.routing import Call, Routes

routes = Routes()


@routes("POST", "/execution/v1.0/<scope:scope>/experiments/<experiment>/snapshotrun")
def submit(call: Call, experiment: str) -> dict[str, Any]:
    """Queue a run of a snapshot."""
    store, body = call.store, call.json()
    configuration = call.field(body, "Configuration")
    snapshot = call.field(body, "SnapshotId")
    run_id = call.request.args.get("runId", "")
    if not run_id.replace("-", "").replace("_", "").isalnum():
        raise http.BadRequest(f"run id {run_id!r} may hold letters, digits, - and _ only")
    target = str(configuration.get("target"))
    store.require("compute", target, f"there is no cluster {target!r} in this workspace; create it first")
    store.require("snapshot", snapshot, f"there is no snapshot {snapshot}; submit again")
    wanted = {
        "target": target,
        "parentRunId": call.request.args.get("parentRunId"),
        "properties": {"ContentSnapshotId": snapshot, "_azureml.ComputeTargetType": "amlcompute"},
    }
    history.new_run(store, history.experiment(store, experiment), run_id, wanted)
    submission = {"runId": run_id, "configuration": configuration, "snapshot": snapshot}
    if store.add("submission", run_id, submission) != submission:
        raise http.Conflict(f"run {run_id} was submitted before")
    history.move(store, run_id, "Queued")
    call.runner.start(run_id)
    return {"runId": run_id}
