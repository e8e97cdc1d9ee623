"""Options that several commands share: the workspace and the sign-in."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from papershell.orchestration.azure.run_handle import RunHandle


class Auth(StrEnum):
    """How to sign in, see `papershell.orchestration.azure.sign_in.authentication`."""

    auto = "auto"
    service_principal = "service-principal"
    cli = "cli"
    interactive = "interactive"


Workspace = Annotated[
    str, typer.Option(help="config.json of a workspace, or loopback for the one on this machine.")
]
SignIn = Annotated[Auth, typer.Option("--auth", help="How to sign in to Azure.")]


def opened(workspace: str, auth: Auth) -> Any:
    """Return the azureml-core workspace of these two options."""
    from papershell.orchestration.workspaces import open_workspace

    return open_workspace(workspace, auth=auth.value)


def show_log(run: RunHandle, workspace: str) -> str:
    """Show a run's log until the run ends, as it is: a log need not be text. Return the final state.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C; it says that the run goes on, and how to end it.
    """

    def write(chunk: bytes) -> None:
        sys.stdout.buffer.write(chunk)
        sys.stdout.flush()

    try:
        return run.follow(write)
    except KeyboardInterrupt as stop:
        cancel = f"papershell runs cancel {run.id} --workspace {shlex.quote(workspace)}"
        raise KeyboardInterrupt(f"run {run.id} goes on; `{cancel}` ends it") from stop
