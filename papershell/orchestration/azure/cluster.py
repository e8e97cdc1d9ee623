"""Clusters: attach or create, watch, delete, and the cores that the quota leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from papershell.orchestration.azure.job import Cluster
from papershell.orchestration.azure.sdk import asking, watch
from papershell.orchestration.errors import OrchestrationError

if TYPE_CHECKING:
    from azureml.core import Workspace
    from azureml.core.compute import AmlCompute

PROVISION_TIMEOUT_S = 20 * 60.0
_PROVISIONED = ("Succeeded", "Failed", "Canceled")


def find_cluster(workspace: Workspace, name: str) -> AmlCompute | None:
    """Return a cluster of the workspace, or None."""
    from azureml.core.compute import ComputeTarget
    from azureml.core.compute_target import ComputeTargetException

    with asking(f"look for cluster {name}"):
        try:
            return ComputeTarget(workspace, name)
        except ComputeTargetException as error:
            if "NotFound" in str(error):
                return None
            raise


def require_cluster(workspace: Workspace, name: str) -> AmlCompute:
    """Return a cluster of the workspace.

    Raises
    ------
    OrchestrationError
        The workspace has no cluster of that name; the message lists its clusters.
    """
    found = find_cluster(workspace, name)
    if found is None:
        with asking("list the clusters"):
            known = ", ".join(workspace.compute_targets) or "none"
        raise OrchestrationError(f"workspace {workspace.name} has no cluster {name!r}; it has {known}")
    return found


def ensure_cluster(
    workspace: Workspace,
    cluster: Cluster,
    *,
    timeout_s: float = PROVISION_TIMEOUT_S,
    show: Callable[[str], None] = print,
) -> AmlCompute:
    """Attach to the cluster of that name, or create it and wait until it is ready.

    Parameters
    ----------
    timeout_s : how long to wait, in seconds.
    show : receives each state once.

    Raises
    ------
    OrchestrationError
        The cluster cannot be created, or is not ready in time.
    """
    from azureml.core.compute import AmlCompute, ComputeTarget

    found = find_cluster(workspace, cluster.name)
    if found is None:
        settings = AmlCompute.provisioning_configuration(
            vm_size=cluster.vm_size, min_nodes=cluster.min_nodes, max_nodes=cluster.max_nodes
        )
        with asking(f"create cluster {cluster.name}"):
            found = ComputeTarget.create(workspace, cluster.name, settings)
    elif found.vm_size and found.vm_size.upper() != cluster.vm_size.upper():
        show(f"cluster {cluster.name} exists already, with {found.vm_size} instead of {cluster.vm_size}")
    _wait_for_cluster(found, timeout_s, show)
    return found


def _wait_for_cluster(cluster: AmlCompute, timeout_s: float, show: Callable[[str], None]) -> None:
    def ask() -> str:
        with asking(f"ask for the state of cluster {cluster.name}"):
            cluster.refresh_state()
        return str(cluster.provisioning_state)

    name = f"cluster {cluster.name}"
    state = watch(name, ask, _PROVISIONED, timeout_s, lambda state: show(f"{name}: {state}"))
    if state != "Succeeded":
        raise OrchestrationError(
            f"{name} could not be created: {cluster.provisioning_errors}; delete it and try another size or region"
        )


def cluster_state(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return a cluster's size, limits, state and number of nodes."""
    cluster = require_cluster(workspace, name)
    with asking(f"ask for the state of cluster {name}"):
        status = cluster.get_status().serialize()
    scale = status.get("scaleSettings") or {}
    return {
        "vm size": cluster.vm_size,
        "state": cluster.provisioning_state,
        "nodes": status.get("currentNodeCount"),
        "min nodes": scale.get("minNodeCount"),
        "max nodes": scale.get("maxNodeCount"),
    }


def delete_cluster(workspace: Workspace, name: str, *, timeout_s: float = PROVISION_TIMEOUT_S) -> None:
    """Delete a cluster and wait until it is gone."""
    with asking(f"delete cluster {name}"):
        require_cluster(workspace, name).delete()
    watch(
        f"cluster {name}", lambda: "there" if find_cluster(workspace, name) else "gone", ("gone",), timeout_s
    )


def free_cores(workspace: Workspace) -> dict[str, int] | None:
    """Return the cores that the quota leaves, by VM family, or None if the service does not tell."""
    from azureml.core.compute import AmlCompute

    try:
        usages = AmlCompute.list_usages(workspace)
        return {u["name"]["value"]: int(u["limit"]) - int(u["currentValue"]) for u in usages}
    except Exception:  # an unreadable quota does not stop a submission
        return None
