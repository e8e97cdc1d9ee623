"""The services of an Azure ML workspace, one module each."""

from papershell.orchestration.loopback.routes import (
    artifacts,
    blobs,
    compute,
    content,
    data,
    environments,
    execution,
    history,
    hyperdrive,
    metrics,
    mlflow_files,
    mlflow_models,
    mlflow_registry,
    mlflow_tracking,
    models,
    page,
    workspace,
)
from papershell.orchestration.loopback.routing import Routes

ALL_ROUTES: Routes = Routes(
    route
    for module in (
        workspace, compute, history, metrics, artifacts, content, execution, environments, models, data, blobs,
        mlflow_tracking, mlflow_models, mlflow_registry, mlflow_files, hyperdrive, page,
    )
    for route in module.routes
)  # fmt: skip
