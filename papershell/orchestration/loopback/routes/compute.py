"""AmlCompute clusters, their sizes and quota; states take time when the service is asked to be slow."""

from __future__ import annotations

import json
import re
import time
import uuid
from typing import Any

import werkzeug.exceptions as http
from werkzeug.wrappers import Response

from papershell.orchestration.azure import sizes
from papershell.orchestration.loopback import run_history as history
from papershell.orchestration.loopback.names import LOCATION, SCOPE, timestamp
from papershell.orchestration.loopback.routing import Call, Routes
from papershell.orchestration.loopback.store import Document

routes = Routes()
_ARM = "/<scope:scope>/computes"
_DATA = "/rp/workspaces/<scope:scope>/computes"
_LOCATION = "/subscriptions/<subscription>/providers/Microsoft.MachineLearningServices/locations/<location>"
_QUOTA_CORES = 100
# Azure has hundreds of sizes and the project's table few: each that is named as Azure's are may be a cluster's.
_SIZE = re.compile(r"standard_[a-z]{1,4}\d+[a-z\d-]*(_[a-z\d]+)*", re.IGNORECASE)
_QUOTA_TYPE = "Microsoft.MachineLearningServices/vmFamily/dedicatedCores"


def _resource(call: Call, cluster: Document) -> dict[str, Any]:
    """Return the cluster as the service shows it at this moment."""
    ready = time.time() >= cluster["ready_at"]
    runs = [r for r in call.store.all("run") if r.get("target") == cluster["name"]]
    active = sum(r["status"] not in (*history.FINAL, "NotStarted", "Queued") for r in runs)
    nodes = max(active, cluster["scaleSettings"].get("minNodeCount", 0)) if ready else 0
    state = "Succeeded" if ready else cluster["transition"]
    counts = dict.fromkeys(("idle", "leaving", "preempted", "preparing", "running", "unusable"), 0)
    counts |= {"running": active, "idle": max(0, nodes - active)}
    return {
        "id": f"{SCOPE}/computes/{cluster['name']}", "name": cluster["name"], "location": LOCATION,
        "tags": cluster["tags"],
        "properties": {
            "computeType": "AmlCompute", "description": cluster["description"], "resourceId": None,
            "computeLocation": LOCATION, "provisioningState": state, "provisioningErrors": None,
            "isAttachedCompute": False, "createdOn": cluster["createdOn"], "modifiedOn": cluster["createdOn"],
            "properties": {
                "vmSize": cluster["vmSize"], "vmPriority": cluster["vmPriority"],
                "scaleSettings": cluster["scaleSettings"], "subnet": None, "errors": None,
                "currentNodeCount": nodes, "targetNodeCount": nodes,
                "nodeStateCounts": {f"{k}NodeCount": v for k, v in counts.items()},
                "allocationState": "Steady" if ready else "Resizing",
                "allocationStateTransitionTime": cluster["createdOn"],
            },
        },
    }  # fmt: skip


def _cluster(call: Call, name: str) -> Document:
    """Return a cluster that is not gone."""
    sentence = f"there is no cluster {name!r}; create it first"
    cluster = call.store.require("compute", name, sentence)
    if _is_gone(cluster):
        raise http.NotFound(sentence)
    return cluster


def _is_gone(cluster: Document) -> bool:
    return cluster["transition"] == "Deleting" and time.time() >= cluster["ready_at"]


@routes("GET", _ARM + "/<name>", _DATA + "/<name>")
def get(call: Call, name: str) -> dict[str, Any]:
    """Return a cluster."""
    return _resource(call, _cluster(call, name))


@routes("GET", _ARM, _DATA)
def list_clusters(call: Call) -> dict[str, Any]:
    """List the clusters."""
    return {"value": [_resource(call, c) for c in call.store.all("compute") if not _is_gone(c)]}


@routes("PUT", _ARM + "/<name>")
def create(call: Call, name: str) -> Response:
    """Begin to create a cluster."""
    body = call.json()
    wanted = call.field(call.field(body, "properties"), "properties")
    size = str(call.field(wanted, "vmSize"))
    if sizes.find(size) is None and not _SIZE.fullmatch(size):
        similar = ", ".join(sizes.similar(size))
        raise http.BadRequest(f"VM size {size} is unknown; similar ones: {similar}")
    cluster = {
        "name": name, "tags": body.get("tags"), "description": body["properties"].get("description"),
        "vmSize": size, "vmPriority": wanted.get("vmPriority") or "Dedicated",
        "scaleSettings": wanted.get("scaleSettings") or {}, "createdOn": timestamp(),
        "transition": "Creating", "ready_at": time.time() + call.state.provision_s,
    }  # fmt: skip
    call.store.put("compute", name, cluster)
    return _accepted(call, 201, cluster["ready_at"], _resource(call, cluster))


@routes("PATCH", _ARM + "/<name>")
def resize(call: Call, name: str) -> Response:
    """Begin to change a cluster's limits."""
    _cluster(call, name)
    settings = call.field(call.field(call.json(), "properties"), "properties").get("scaleSettings") or {}

    def change(cluster: Document) -> None:
        cluster["scaleSettings"].update({k: v for k, v in settings.items() if v is not None})
        cluster.update(transition="Updating", ready_at=time.time() + call.state.provision_s)

    cluster = call.store.update("compute", name, change)
    return _accepted(call, 202, cluster["ready_at"], _resource(call, cluster))


@routes("DELETE", _ARM + "/<name>")
def delete(call: Call, name: str) -> Response:
    """Begin to delete a cluster."""
    _cluster(call, name)
    ready_at = time.time() + call.state.provision_s
    change = {"transition": "Deleting", "ready_at": ready_at}
    call.store.update("compute", name, lambda cluster: cluster.update(change))
    return _accepted(call, 202, ready_at, {})


def _accepted(call: Call, status: int, ready_at: float, body: dict[str, Any]) -> Response:
    """Answer with the address under which the operation's progress is asked for."""
    operation = uuid.uuid4().hex
    call.store.put("operation", operation, {"ready_at": ready_at})
    headers = {"Azure-AsyncOperation": f"{call.state.url}/operations/{operation}"}
    return Response(json.dumps(body), status, headers, content_type="application/json")


@routes("GET", "/operations/<operation>")
def progress(call: Call, operation: str) -> dict[str, Any]:
    """Return whether an operation has ended."""
    found = call.store.require("operation", operation, f"there is no operation {operation}; read the cluster")
    return {"status": "Succeeded" if time.time() >= found["ready_at"] else "InProgress", "error": None}


@routes("GET", _LOCATION + "/vmSizes")
def vm_sizes(call: Call, subscription: str, location: str) -> dict[str, Any]:
    """List the VM sizes of the project's own table."""
    return {
        "amlCompute": [
            {"name": size.name, "vCPUs": size.vcpus, "gpus": size.gpus, "memoryGB": size.memory_gib,
             "maxResourceVolumeMB": 102400, "lowPriorityCapable": True, "premiumIO": True}
            for size in sizes.SIZES.values()
        ]
    }  # fmt: skip


@routes("GET", _LOCATION + "/usages")
def usages(call: Call, subscription: str, location: str) -> dict[str, Any]:
    """Return the quota of cores by VM family, of which this machine uses none."""
    families = sorted({size.family for size in sizes.SIZES.values()})
    return {
        "value": [
            {"id": f"{SCOPE}/usages/{family}", "type": _QUOTA_TYPE,
             "name": {"value": family, "localizedValue": family}, "unit": "Count", "currentValue": 0,
             "limit": _QUOTA_CORES}
            for family in families
        ]
    }  # fmt: skip
