"""The names of the workspace and its parts, and the format of its times."""

from __future__ import annotations

import time
from datetime import UTC, datetime

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
TENANT = "00000000-0000-0000-0000-000000000000"
RESOURCE_GROUP = "papershell"
WORKSPACE = "loopback"
LOCATION = "here"
SERVICE_FILE = "service.json"  # of the workspace's folder: the address of its service, and the owner's token
LOCAL = "local"  # the compute target without a cluster
PROVIDER = "providers/Microsoft.MachineLearningServices"
SCOPE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}/{PROVIDER}/workspaces/{WORKSPACE}"

ACCOUNT = "papershell"
DOMAIN = "loopback.test"  # a domain that cannot exist (RFC 2606)
BLOB_HOST = f"{ACCOUNT}.blob.{DOMAIN}"
ARTIFACTS = "azureml"  # this and the next are containers
SNAPSHOTS = "snapshots"
DATASTORES = {"workspaceblobstore": "azureml-blobstore", "workspaceartifactstore": ARTIFACTS}
SCOPED_DATASTORES = f"azureml://subscriptions/{SUBSCRIPTION}/resourcegroups/{RESOURCE_GROUP}/workspaces/{WORKSPACE}/datastores"
CONTAINERS = (*DATASTORES.values(), SNAPSHOTS)


def timestamp(later_s: float = 0.0) -> str:
    """Return the time ``later_s`` seconds from now as the services write it."""
    return utc(time.time() + later_s)


def utc(time_s: float) -> str:
    """Return a time, in seconds since 1970, as the services write it."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
