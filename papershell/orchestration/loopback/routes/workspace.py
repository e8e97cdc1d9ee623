"""The workspace itself, the addresses of its services, and whether the service lives."""

from __future__ import annotations

import os
from typing import Any

from papershell.orchestration.loopback.names import LOCATION, SCOPE, WORKSPACE
from papershell.orchestration.loopback.routing import Call, Routes

routes = Routes()
_SERVICES = ("api", "experimentation", "history", "hyperdrive", "modelmanagement", "pipelines", "studio",
             "catalog", "jobs")  # fmt: skip


@routes("GET", "/<scope:scope>")
def workspace(call: Call) -> dict[str, Any]:
    """Return the workspace resource."""
    return {
        "id": SCOPE,
        "name": WORKSPACE,
        "type": "Microsoft.MachineLearningServices/workspaces",
        "location": LOCATION,
        "tags": {},
        "sku": {"name": "Basic", "tier": "Basic"},
        "properties": {
            "workspaceId": call.state.workspace_id,
            "friendlyName": WORKSPACE,
            "provisioningState": "Succeeded",
            "discoveryUrl": call.state.discovery_url(),
            "storageAccount": f"{SCOPE}/storage",
            "keyVault": f"{SCOPE}/vault",
            "applicationInsights": f"{SCOPE}/insights",
            "containerRegistry": f"{SCOPE}/registry",
        },
    }


@routes("GET", "/discovery/<signature>", "/discovery/<signature>/<path:below>")
def discovery(call: Call, signature: str, below: str = "") -> dict[str, str]:
    """Return every service's address: this one."""
    return dict.fromkeys(_SERVICES, call.state.url)


@routes("GET", "/loopback/health")
def health(call: Call) -> dict[str, Any]:
    """Return who serves which folder."""
    return {"pid": os.getpid(), "root": str(call.state.root), "active_runs": call.runner.active()}


@routes("POST", "/loopback/link")
def link(call: Call) -> dict[str, Any]:
    """Return an address that opens the page in one browser, once."""
    return {"url": f"{call.state.url}/open?link={call.state.page_access.link()}"}


@routes("POST", "/loopback/clean", streams=True)
def clean(call: Call) -> dict[str, Any]:
    """Remove the working folders of ended runs."""
    return {"bytes": call.runner.clean(0.0)}
