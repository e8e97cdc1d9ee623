"""Options that several commands share: the workspace and the sign-in."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer


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


def pass_on(chunk: bytes) -> None:
    """Write a part of a log to stdout as it is: a log need not be text."""
    sys.stdout.buffer.write(chunk)
    sys.stdout.flush()
