"""The client's side: the genuine azureml-core, pointed at a loopback workspace.

This module and `papershell.orchestration.azure` are the only ones that import azureml.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from papershell.orchestration.loopback.names import BLOB_HOST, RESOURCE_GROUP, SUBSCRIPTION, TENANT, WORKSPACE

if TYPE_CHECKING:
    from azureml.core import Workspace


# The proxy is for the blob host alone: `requests` looks up scheme://host before https among the
# <name>_proxy variables, so that every other address is reached as before.
PROXY_VARIABLE = f"https://{BLOB_HOST}_proxy"


def proxy_address(url: str, token: str) -> str:
    """Return the service at ``url`` as a proxy that is shown the token."""
    return url.replace("://", f"://loopback:{token}@")


def certificates(root: Path) -> dict[str, str]:
    """Return the variable that names whom a client trusts: the usual authorities and this workspace's own."""
    return {"REQUESTS_CA_BUNDLE": str(root / "tls" / "bundle.pem")}


def open_workspace(url: str, token: str, root: Path) -> Workspace:
    """Return a genuine `azureml.core.Workspace` on the service at ``url``.

    Sets two variables of this process, which the client reads at each request, so that its blob
    requests find the service.
    """
    from azureml.core import Workspace

    os.environ.update({PROXY_VARIABLE: proxy_address(url, token)} | certificates(root))
    return Workspace.get(
        name=WORKSPACE, subscription_id=SUBSCRIPTION, resource_group=RESOURCE_GROUP,
        auth=_authentication(url, token),
    )  # fmt: skip


def _authentication(url: str, token: str) -> Any:
    """Return an authentication whose tokens are the workspace's and whose resource manager is the service."""
    from azureml.core.authentication import AbstractAuthentication, _SubscriptionInfo

    class LoopbackAuthentication(AbstractAuthentication):
        _cloud_type: Any

        def __init__(self) -> None:
            super().__init__("AzureCloud")  # naming the cloud spares a question to Azure about clouds
            cloud = copy.deepcopy(self._cloud_type)
            cloud.endpoints.resource_manager = url + "/"
            self._cloud_type = cloud

        def _get_arm_token(self) -> str:
            return token

        def _get_graph_token(self) -> str:
            return token

        def _get_azureml_client_token(self) -> str:
            return token

        def _get_all_subscription_ids(self) -> tuple[list[Any], str]:
            return [_SubscriptionInfo("loopback", SUBSCRIPTION)], TENANT

        def _check_if_subscription_exists(self, *_: Any) -> bool:
            return True

    return LoopbackAuthentication()
