"""``papershell workspace``: look into a workspace, or serve one on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from papershell.orchestration.commands.options import Auth, SignIn, Workspace, opened
from papershell.orchestration.table import print_table

group = typer.Typer(help="Look into a workspace, or serve one on this machine.", no_args_is_help=True)

Root = Annotated[
    Path | None,
    typer.Option(help="Folder of the workspace (default: your own loopback workspace).", show_default=False),
]


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


@group.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def run(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="SCRIPT.py|NOTEBOOK.ipynb|-m MODULE [FLAGS]...", help="Flags go to the script."
        ),
    ],
    root: Root = None,
) -> None:
    """Run a control script or notebook that was written for Azure, unchanged, on a workspace of this machine.

    Workspace.from_config() and Workspace.get(...) give this workspace; it is served until the script ends. A notebook
    keeps its outputs.
    """
    from papershell.orchestration.azure.sdk import sdk_version
    from papershell.orchestration.loopback.control import run_control
    from papershell.orchestration.workspaces import user_workspace_folder

    sdk_version()  # fails without the SDK, before a service is started
    raise typer.Exit(run_control(root or user_workspace_folder(), words))


@group.command()
def clean(root: Root = None) -> None:
    """Remove the working folders of ended runs; their records, logs, outputs and models stay."""
    from papershell.orchestration import loopback
    from papershell.orchestration.workspaces import user_workspace_folder

    print(f"freed {loopback.clean(root or user_workspace_folder()) / 1e6:.1f} MB")


@group.command("open")
def open_page(
    run: Annotated[
        str | None, typer.Argument(help="Id of a run, to see its page.", show_default=False)
    ] = None,
    root: Root = None,
) -> None:
    """Look at a loopback workspace in the browser; without one, print a link to its page.

    The link is good for one browser and ten minutes. The service is started if need be.
    """
    from papershell.orchestration import loopback
    from papershell.orchestration.browser import show
    from papershell.orchestration.workspaces import user_workspace_folder

    folder = root or user_workspace_folder()
    link = loopback.page_link(folder, run)
    print("opened the workspace's page in the browser" if show(link, folder) else link)
