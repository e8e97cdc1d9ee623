"""Whose records a command is about: this machine's, or a workspace's."""

from __future__ import annotations

from typing import Annotated, Any

import typer

RemoteWorkspace = Annotated[
    str | None,
    typer.Option("--workspace", help="config.json of a workspace, or loopback (default: the local records)."),
]


def runs_of(workspace: str | None) -> Any:
    """Return the functions of `papershell.trainers.run_history`: of that module itself, or for a workspace."""
    if workspace is not None:
        return _records(workspace)
    from papershell.trainers import run_history

    return run_history


def models_of(workspace: str | None) -> Any:
    """Return the functions of `papershell.trainers.registry`: of that module itself, or for a workspace."""
    if workspace is not None:
        return _records(workspace)
    from papershell.trainers import registry

    return registry


def _records(workspace: str) -> Any:
    from papershell.orchestration.azure.workspace_records import WorkspaceRecords
    from papershell.orchestration.workspaces import open_workspace

    return WorkspaceRecords(open_workspace(workspace))
