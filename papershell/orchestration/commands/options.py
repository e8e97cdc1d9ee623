"""Options that several commands share: the workspace and the sign-in."""

from __future__ import annotations

import os
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


LOCAL = "local"  # the record of this machine, which train and sweep write


def default_workspace(here: str) -> str:
    """Return which workspace a command is about that was told none: the one rule for all commands.

    It is the one of ``config.json`` in the current folder, or in ``.azureml`` there, if there is such a file; else
    ``here``, this machine: `LOCAL` for the commands that list, show and compare records, which need no workspace,
    and ``loopback`` for all others.
    """
    configs = ("config.json", os.path.join(".azureml", "config.json"))
    return next(filter(os.path.isfile, configs), here)


Workspace = Annotated[
    str,
    typer.Option(
        callback=lambda value: value or default_workspace("loopback"),
        help="config.json of a workspace, or loopback, the one of this machine "
        "(default: config.json if it is here, else loopback).",
        show_default=False,
    ),
]
Records = Annotated[
    str,
    typer.Option(
        "--workspace",
        callback=lambda value: value or default_workspace(LOCAL),
        help="config.json of a workspace, loopback, or local, the record of train and sweep "
        "(default: config.json if it is here, else local).",
        show_default=False,
    ),
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
