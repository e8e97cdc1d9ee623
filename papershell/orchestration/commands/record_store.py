"""Whose records a command is about: this machine's, or a workspace's."""

from __future__ import annotations

import importlib
from typing import Any

from papershell.orchestration.commands.options import LOCAL


def runs_of(workspace: str) -> Any:
    """Return the functions of `papershell.trainers.run_history`: of that module itself, or for a workspace."""
    return _records(workspace, "run_history")


def models_of(workspace: str) -> Any:
    """Return the functions of `papershell.trainers.registry`: of that module itself, or for a workspace."""
    return _records(workspace, "registry")


def _records(workspace: str, module: str) -> Any:
    if workspace == LOCAL:
        return importlib.import_module(f"papershell.trainers.{module}")
    from papershell.orchestration.azure.workspace_records import WorkspaceRecords
    from papershell.orchestration.workspaces import open_workspace

    return WorkspaceRecords(open_workspace(workspace))
