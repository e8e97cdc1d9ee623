"""Azure ML through azureml-core: a `TrainJob` becomes a run, and a workspace's records are read.

With `orchestration.loopback.client` the only place that imports azureml, and it does so when it is
used. Every call of the SDK that can fail for a reason outside this program is made inside
`orchestration.run_handle.asking`, which turns whatever the SDK raises into one sentence.

The SDK is version 1, whose support ended in June 2026; `orchestration.export_v2` writes the same
job for version 2.
"""

from orchestration.azure_ml.cluster import (
    cluster_state,
    delete_cluster,
    ensure_cluster,
    find_cluster,
    free_cores,
    require_cluster,
)
from orchestration.azure_ml.data import register_dataset, upload_folder
from orchestration.azure_ml.records import WorkspaceRecords, find_run
from orchestration.azure_ml.submission import request, submit
from orchestration.azure_ml.workspace import (
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
