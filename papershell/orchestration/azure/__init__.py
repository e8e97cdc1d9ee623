"""Azure ML through azureml-core: a `TrainJob` becomes a run, and a workspace's records are read.

With `papershell.orchestration.loopback.client` the only place that imports azureml, and it does so when it is
used. Every call of the SDK that can fail for a reason outside this program is made inside
`papershell.orchestration.azure.run_handle.asking`, which turns whatever the SDK raises into one sentence.

The SDK is version 1, whose support ended in June 2026; `papershell.orchestration.azure.export` writes the same
job for version 2.
"""

from papershell.orchestration.azure.cluster import (
    cluster_state,
    delete_cluster,
    ensure_cluster,
    find_cluster,
    free_cores,
    require_cluster,
)
from papershell.orchestration.azure.records import WorkspaceRecords, find_run
from papershell.orchestration.azure.submission import request, submit
from papershell.orchestration.azure.uploads import register_dataset, upload_folder
from papershell.orchestration.azure.workspace import (
    authentication,
    describe,
    is_loopback,
    open_workspace,
    sdk_version,
)

__all__ = [
    "WorkspaceRecords",
    "authentication",
    "cluster_state",
    "delete_cluster",
    "describe",
    "ensure_cluster",
    "find_cluster",
    "find_run",
    "free_cores",
    "is_loopback",
    "open_workspace",
    "register_dataset",
    "request",
    "require_cluster",
    "sdk_version",
    "submit",
    "upload_folder",
]
