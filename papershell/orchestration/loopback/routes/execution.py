"""Submission of runs."""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
import zipfile
from pathlib import Path
from typing import Any

import werkzeug.exceptions as http
from werkzeug.wrappers import Response

from papershell.orchestration.loopback import run_history as history
from papershell.orchestration.loopback.names import LOCAL, SCOPE, SERVICE_FILE
from papershell.orchestration.loopback.routing import Call, Routes
from papershell.orchestration.loopback.store import Document

routes = Routes()
_EXPERIMENT = "/execution/v1.0/<scope:scope>/experiments/<experiment>"
# The client copies the source into a folder of its own, which others may read, and runs this there: so the
# token is not in it, but comes from the workspace's private folder.
_INVOCATION = """#!/bin/bash
exec {python} -I -c 'import json, os, sys, urllib.request as u
service = json.load(open(sys.argv[1]))
body, right = json.dumps({{"folder": os.getcwd()}}).encode(), {{"Authorization": "Bearer " + service["token"]}}
u.build_opener(u.ProxyHandler({{}})).open(u.Request(service["url"] + sys.argv[2], body, right))' {service} {path}
"""


@routes("POST", _EXPERIMENT + "/snapshotrun")
def submit(call: Call, experiment: str) -> dict[str, Any]:
    """Queue a run of a snapshot."""
    body = call.json()
    snapshot = call.field(body, "SnapshotId")
    configuration = call.field(body, "Configuration")
    target = str(configuration.get("target"))
    call.store.require(
        "compute", target, f"there is no cluster {target!r} in this workspace; create it first"
    )
    call.store.require("snapshot", snapshot, f"there is no snapshot {snapshot}; submit again")
    parent = call.request.args.get("parentRunId") or body.get("ParentRunId")
    properties = {"ContentSnapshotId": snapshot, "_azureml.ComputeTargetType": "amlcompute"}
    wanted = {"target": target, "parentRunId": parent, "properties": properties}
    run_id = _begin(call, experiment, wanted, {"configuration": configuration, "snapshot": snapshot})
    history.move(call.store, run_id, "Queued")
    call.runner.start(run_id)
    return {"runId": run_id}


def _begin(call: Call, experiment: str, wanted: Document, submission: Document) -> str:
    """Begin the record of a submitted run; return the run's id."""
    run_id = history.submitted_id(call.request.args.get("runId", ""))
    history.new_run(call.store, history.experiment(call.store, experiment), run_id, wanted)
    submission = {"runId": run_id} | submission
    if call.store.add("submission", run_id, submission) != submission:
        raise http.Conflict(f"run {run_id} was submitted before")
    return run_id


@routes("POST", _EXPERIMENT + "/localrun")
def submit_local(call: Call, experiment: str) -> Response:
    """Begin a run with ``compute_target="local"``; return what the client runs beside its copy of the source."""
    definition = next(
        (f for f in call.request.files.getlist("files") if f.filename == "definition.json"), None
    )
    if definition is None:
        raise http.BadRequest("the request has no file definition.json; submit again")
    body = json.loads(definition.read())
    configuration = call.field(body, "Configuration")
    wanted = {
        "target": LOCAL,
        "parentRunId": body.get("ParentRunId"),
        "properties": {"_azureml.ComputeTargetType": LOCAL},
    }
    run_id = _begin(call, experiment, wanted, {"configuration": configuration, "snapshot": None})
    service, path = call.state.root / SERVICE_FILE, f"/execution/v1.0{SCOPE}/localruns/{run_id}"
    script = _INVOCATION.format(
        python=shlex.quote(sys.executable), service=shlex.quote(str(service)), path=path
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as whole:
        whole.writestr("azureml-setup/Invocation.sh", script)
    return Response(archive.getvalue(), content_type="application/zip")


@routes("POST", "/execution/v1.0/<scope:scope>/localruns/<run>")
def start_local(call: Call, run: str) -> dict[str, Any]:
    """Queue a local run: its source lies in the folder that the client made for it, which is taken from there."""
    folder = Path(call.field(call.json(), "folder"))
    if not (folder.name == run and folder.is_dir() and folder.stat().st_uid == os.geteuid()):
        raise http.BadRequest(f"{folder} is not the folder that the client made for run {run}")
    submission = call.store.require("submission", run, f"there is no run {run!r}; submit it again")
    if submission.get("folder") or submission["snapshot"]:
        raise http.Conflict(f"run {run} was started before")
    call.store.put("submission", run, submission | {"folder": str(folder)})
    history.move(call.store, run, "Queued")
    call.runner.start(run)
    return {"runId": run}
