"""Signing in to Azure, and the workspace of a ``config.json``."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from papershell.orchestration.azure.sdk import asking, sdk_version
from papershell.orchestration.errors import OrchestrationError

if TYPE_CHECKING:
    from azureml.core import Workspace

AUTHENTICATIONS = ("auto", "service-principal", "cli", "interactive")
_CONFIG_FIELDS = ("subscription_id", "resource_group", "workspace_name")
_PRINCIPAL = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")


def azure_workspace(config: Path, auth: str) -> Workspace:
    """Return the workspace of Azure that a ``config.json`` names; ``auth`` as in `authentication`.

    Raises
    ------
    OrchestrationError
        No sign-in is possible, or Azure refuses.
    """
    from azureml.core import Workspace

    with asking(f"open the workspace of {config}"):
        return Workspace.from_config(path=str(config), auth=authentication(auth, os.environ))


def check_config(path: Path) -> None:
    """Check that ``path`` names a workspace.

    Raises
    ------
    OrchestrationError
        The file is missing, is no JSON, or lacks a field.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise OrchestrationError(
            f"there is no {path}; download it from the workspace's page of the portal, or use "
            f"--workspace loopback"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise OrchestrationError(f"{path} is not a JSON file: {error}") from error
    missing = [name for name in _CONFIG_FIELDS if not isinstance(document, dict) or not document.get(name)]
    if missing:
        raise OrchestrationError(f"{path} lacks {', '.join(missing)}; download it again from the portal")


def authentication(kind: str, environment: Mapping[str, str]) -> Any:
    """Return the azureml authentication of a kind.

    Parameters
    ----------
    kind : ``service-principal`` reads ``AZURE_TENANT_ID``, ``AZURE_CLIENT_ID`` and
        ``AZURE_CLIENT_SECRET``; ``cli`` takes the login of ``az``; ``interactive`` opens a browser;
        ``auto`` takes the first of them that can work on this machine.

    Raises
    ------
    OrchestrationError
        The kind is unknown, or lacks its credentials.
    """
    from azureml.core import authentication as sdk

    if kind not in AUTHENTICATIONS:
        raise OrchestrationError(f"authentication {kind!r} is unknown; choose {', '.join(AUTHENTICATIONS)}")
    missing = [name for name in _PRINCIPAL if not environment.get(name)]
    if kind == "service-principal" and missing:
        raise OrchestrationError(f"a service principal needs {', '.join(missing)} in the environment")
    if kind == "service-principal" or (kind == "auto" and not missing):
        tenant, client, secret = (environment[name] for name in _PRINCIPAL)
        return sdk.ServicePrincipalAuthentication(tenant, client, secret)
    if kind == "cli" or (kind == "auto" and importlib.util.find_spec("azure.cli")):
        return sdk.AzureCliAuthentication()
    if kind == "interactive" or sys.stdin.isatty():
        return sdk.InteractiveLoginAuthentication()
    raise OrchestrationError(
        f"there are no credentials for Azure: set {', '.join(_PRINCIPAL)}, or pip install azure-cli "
        f"and run az login"
    )


def describe(workspace: Workspace) -> dict[str, str]:
    """Return the SDK's version, and the workspace's location, resource group and contents."""
    with asking(f"read workspace {workspace.name}"):
        return {
            "azureml-core": sdk_version(),
            "location": workspace.location,
            "resource group": workspace.resource_group,
            "subscription": workspace.subscription_id,
            "clusters": ", ".join(workspace.compute_targets),
            "datasets": ", ".join(workspace.datasets.keys()),
            "experiments": ", ".join(workspace.experiments),
        }
