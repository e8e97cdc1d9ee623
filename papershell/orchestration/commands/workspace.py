"""``papershell workspace``: look into a workspace, or serve one on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from papershell.orchestration.commands.options import Auth, SignIn, Workspace, opened
from papershell.orchestration.table import print_table

group = typer.Typer(help="Look into a workspace, or serve one on this machine.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="workspace")


@group.command()
def show(workspace: Workspace = "", auth: SignIn = Auth.auto) -> None:
    """Show a workspace's place and contents, and the version of the SDK."""
    from papershell.orchestration.azure.sign_in import describe

    found = opened(workspace, auth)
    print_table(("", found.name), list(describe(found).items()))


@group.command()
def serve(
    root: Annotated[Path, typer.Option(help="Folder of the workspace; made if missing.")],
    port: Annotated[
        int, typer.Option(help="TCP port (default: the last one, or a free one).", show_default=False)
    ] = 0,
    slots: Annotated[int, typer.Option(min=1, help="Most runs at the same time.")] = 2,
    provision_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds that it takes to create, change or delete a cluster.")
    ] = 0.0,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:COUNT@PATH",
            help="Answer the next COUNT requests (default: 1) whose path holds PATH (default: any) with a fault, "
            "to test a client: 429, 500, 503, garbage, half, nothing or cut, as in 503:2@/metric/.",
        ),
    ] = None,
) -> None:
    """Serve an Azure ML workspace on 127.0.0.1 until interrupted.

    Other terminals and your own azureml-core code reach it through ROOT/config.json.
    """
    from papershell.orchestration import loopback
    from papershell.orchestration.loopback.faults import Fault
    from papershell.orchestration.loopback.service import Options

    options = Options(slots, provision_seconds, [Fault.parse(text) for text in fault or []])
    print(f"serving {root.resolve()}; use --workspace {root / 'config.json'}; Ctrl-C ends it", flush=True)
    loopback.serve(root, port=port, options=options)


@group.command()
def clean(
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the workspace (default: your own loopback workspace).", show_default=False
        ),
    ] = None,
) -> None:
    """Remove the working folders of ended runs; their records, logs, outputs and models stay."""
    from papershell.orchestration import loopback
    from papershell.orchestration.workspaces import user_workspace_folder

    print(f"freed {loopback.clean(root or user_workspace_folder()) / 1e6:.1f} MB")
