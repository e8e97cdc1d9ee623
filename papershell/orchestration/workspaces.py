"""Opening a workspace, of Azure or of this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from papershell.orchestration import loopback
from papershell.orchestration.azure.sdk import asking, sdk_version
from papershell.orchestration.azure.sign_in import azure_workspace, check_config

if TYPE_CHECKING:
    from azureml.core import Workspace

LOOPBACK = "loopback"
_IDLE_S = 900


def open_workspace(where: str, *, auth: str = "auto") -> Workspace:
    """Return the workspace that ``where`` names.

    Parameters
    ----------
    where : ``loopback`` for the user's own workspace on this machine, which is started if no service answers;
        else the path of a ``config.json`` or of a folder that holds one. A folder made by
        ``papershell workspace serve`` leads to its own service, any other folder to Azure.
    auth : how to sign in to Azure, as in `papershell.orchestration.azure.sign_in.authentication`.

    Raises
    ------
    OrchestrationError
        The file is missing or lacks a field, no sign-in is possible, or the service refuses.
    """
    if where == LOOPBACK:
        sdk_version()  # fails without the SDK, before a service is started
        folder = user_workspace_folder()
        loopback.start(folder, arguments=("--idle-seconds", str(_IDLE_S)))
        with asking("open the workspace of this machine"):
            return loopback.connect(folder)
    path = Path(where) / "config.json" if Path(where).is_dir() else Path(where)
    check_config(path)
    if is_loopback(where):
        with asking(f"open the workspace of {path.parent}"):
            return loopback.connect(path.parent)
    return azure_workspace(path, auth)


def is_loopback(where: str) -> bool:
    """Return whether ``where`` (see `open_workspace`) is a workspace of this machine."""
    folder = Path(where) if Path(where).is_dir() else Path(where).parent
    return where == LOOPBACK or (folder / loopback.IDENTITY_FILE).exists()


def user_workspace_folder() -> Path:
    """Return the folder of the user's own loopback workspace: ``$PAPERSHELL_WORKSPACE``, or the platform's."""
    import platformdirs

    chosen = os.environ.get("PAPERSHELL_WORKSPACE")
    return Path(chosen) if chosen else platformdirs.user_data_path("papershell") / LOOPBACK
