"""Opening a workspace: Azure's, or one on this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from papershell.orchestration.azure.run_handle import asking
from papershell.orchestration.errors import OrchestrationError

if TYPE_CHECKING:
    from azureml.core import Workspace

LOOPBACK = "loopback"
AUTHENTICATIONS = ("auto", "service-principal", "cli", "interactive")
_IDLE_S = 900
_CONFIG_FIELDS = ("subscription_id", "resource_group", "workspace_name")
_PRINCIPAL = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")


def sdk_version() -> str:
    """Return the version of azureml-core."""
    import azureml.core

    return azureml.core.VERSION


def user_workspace_folder() -> Path:
    """Return the folder of the user's own loopback workspace."""
    import platformdirs

    chosen = os.environ.get("PAPERSHELL_WORKSPACE")
    return Path(chosen) if chosen else platformdirs.user_data_path("papershell") / LOOPBACK


def open_workspace(where: str, *, auth: str = "auto") -> Workspace:
    """Return the workspace that ``where`` names.

    Parameters
    ----------
    where : ``loopback`` for the user's own workspace on this machine, started if need be; else the
        path of a ``config.json`` or of a folder that holds one. A folder made by
        ``papershell workspace serve`` leads to its own service, any other to Azure.
    auth : for Azure, how to sign in, see `authentication`.

    Raises
    ------
    OrchestrationError
        There is no such file, it lacks a field, nobody can be signed in, or the service refuses.
    """
    from papershell.orchestration import loopback

    if where == LOOPBACK:
        loopback.start(user_workspace_folder(), arguments=("--idle-seconds", str(_IDLE_S)))
        with asking("open the workspace of this machine"):
            return loopback.connect(user_workspace_folder())
    path = Path(where) / "config.json" if Path(where).is_dir() else Path(where)
    _check_config(path)
    if is_loopback(where):
        with asking(f"open the workspace of {path.parent}"):
            return loopback.connect(path.parent)
    from azureml.core import Workspace

    with asking(f"open the workspace of {path}"):
        return Workspace.from_config(path=str(path), auth=authentication(auth, os.environ))


def describe(workspace: Workspace) -> dict[str, str]:
    """Return the SDK's version, and the workspace's name, location, resource group and contents."""
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


def is_loopback(where: str) -> bool:
    """Return whether ``where`` (see `open_workspace`) is a workspace of this machine."""
    from papershell.orchestration import loopback

    folder = Path(where) if Path(where).is_dir() else Path(where).parent
    return where == LOOPBACK or (folder / loopback.IDENTITY_FILE).exists()


def _check_config(path: Path) -> None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise OrchestrationError(
            f"there is no {path}; download it from the workspace's page of the portal, or use "
            f"--workspace {LOOPBACK}"
        ) from error
    except (OSError, ValueError) as error:
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
        ``auto`` takes the first of them that can work here.

    Raises
    ------
    OrchestrationError
        None can.
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
