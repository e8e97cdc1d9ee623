"""HyperDrive: sweeps over hyperparameters."""

from __future__ import annotations

import json
import uuid
from typing import Any

import werkzeug.exceptions as http
from werkzeug.wrappers import Response

from papershell.orchestration.loopback import run_history as history
from papershell.orchestration.loopback.names import SCOPE
from papershell.orchestration.loopback.routing import Call, Routes
from papershell.orchestration.loopback.sweeps import Sweep, tags

routes = Routes()
_EXPERIMENT = "/hyperdrive/v1.0/<scope:scope>/experiments/<experiment>"


@routes("POST", _EXPERIMENT + "/runs", _EXPERIMENT + "/hdruns/<run>")
def create(call: Call, experiment: str, run: str = "") -> Response:
    """Begin a sweep."""
    sent = call.request.files.get("config")
    if sent is None:
        raise http.BadRequest("the request has no file config; submit again")
    wanted = json.load(sent)
    definition = call.field(call.field(wanted, "platform_config"), "Definition")
    target = str(call.field(definition, "Overrides").get("target"))
    call.store.require(
        "compute", target, f"there is no cluster {target!r} in this workspace; create it first"
    )
    snapshot = str(definition.get("SnapshotId"))
    call.store.require("snapshot", snapshot, f"there is no snapshot {snapshot}; submit again")
    run_id = history.submitted_id(run or f"HD_{uuid.uuid4()}")
    sweep = Sweep(call.state, call.runner, run_id, wanted)
    wanted["platform_config"]["ParentRunId"] = run_id
    properties = {"ContentSnapshotId": snapshot, "platform": wanted.get("platform")}
    record = {"target": target, "runType": "hyperdrive", "tags": tags(wanted), "properties": properties}
    history.new_run(call.store, history.experiment(call.store, experiment), run_id, record)
    submission = {"runId": run_id, "configuration": definition["Overrides"], "snapshot": snapshot}
    if call.store.add("submission", run_id, submission) != submission:
        raise http.Conflict(f"run {run_id} was submitted before")
    call.runner.conduct(run_id, sweep.conduct)
    result = {"platform_config": wanted["platform_config"], "hyperdrive_run_id": run_id}
    return Response(json.dumps({"code": 0, "result": result}), 201, content_type="application/json")


@routes("POST", _EXPERIMENT + "/runs/<run>/cancel")
def cancel(call: Call, experiment: str, run: str) -> dict[str, Any]:
    """Cancel a sweep and its runs."""
    history.run(call.store, run)
    call.runner.cancel(run)
    return {"code": 0, "result": f"{SCOPE}/experiments/{experiment}/runs/{run}"}
