"""The client's side: the genuine azureml-core, pointed at a loopback workspace.

This module and `papershell.orchestration.azure` are the only ones that import azureml.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from papershell.orchestration.loopback.names import (
    BLOB_HOST,
    DATASTORES,
    RESOURCE_GROUP,
    SCOPED_DATASTORES,
    SUBSCRIPTION,
    TENANT,
    WORKSPACE,
)
from papershell.orchestration.loopback.process_hooks import find_datastores_here

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


def datastore_folders(root: Path) -> dict[str, str]:
    """Return the datastores' addresses, as the client writes them in lower case, and their folders."""
    return {
        f"{SCOPED_DATASTORES}/{name}".lower(): str(root / "blobs" / container)
        for name, container in DATASTORES.items()
    }


def _find_service(url: str, token: str, root: Path) -> None:
    """Let this process's client find the blob host and the datastores' files: it looks at each request."""
    os.environ.update({PROXY_VARIABLE: proxy_address(url, token)} | certificates(root))
    find_datastores_here(datastore_folders(root))


def open_workspace(url: str, token: str, root: Path) -> Workspace:
    """Return a genuine `azureml.core.Workspace` on the service at ``url``.

    Sets two variables of this process, and where azureml-dataprep finds the datastores' files.
    """
    from azureml.core import Workspace

    _find_service(url, token, root)
    return Workspace.get(
        name=WORKSPACE, subscription_id=SUBSCRIPTION, resource_group=RESOURCE_GROUP,
        auth=_authentication(url, token),
    )  # fmt: skip


def take_every_workspace(url: str, token: str, root: Path) -> None:
    """Make the service at ``url`` each workspace that this process opens, by whatever name and sign-in.

    For a control script that was written for Azure: ``Workspace.from_config()``, ``Workspace.get(...)``,
    ``Workspace.create(...)`` and ``Workspace(...)`` need no file and no account. This holds until the
    process ends, and is the one place that changes azureml-core: the sign-in (each class of
    ``azureml.core.authentication`` gives the workspace's own) and the class ``Workspace``.
    """
    from azureml.core.authentication import AbstractAuthentication
    from azureml.core.workspace import Workspace  # azureml.core itself may be half imported

    _find_service(url, token, root)
    authentication = _authentication(url, token)
    begin = Workspace.__init__

    def begin_here(self: Workspace, *_: Any, **__: Any) -> None:
        begin(self, SUBSCRIPTION, RESOURCE_GROUP, WORKSPACE, auth=authentication)

    def opened(*_: Any, **__: Any) -> Workspace:
        return Workspace(SUBSCRIPTION, RESOURCE_GROUP, WORKSPACE)

    # Python calls no __init__ on an object of another class: no sign-in of Azure begins.
    AbstractAuthentication.__new__ = lambda cls, *_, **__: authentication
    Workspace.__init__ = begin_here
    Workspace.from_config = Workspace.get = Workspace.create = staticmethod(opened)
    Workspace.list = staticmethod(lambda *_, **__: {WORKSPACE: [opened()]})


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
