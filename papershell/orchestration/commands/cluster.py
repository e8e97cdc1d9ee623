"""``papershell cluster``: create, watch and delete clusters."""

from __future__ import annotations

from typing import Annotated

import typer

from papershell.orchestration.commands.options import Auth, SignIn, Workspace, opened
from papershell.orchestration.table import print_table

group = typer.Typer(help="Create, watch and delete clusters.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The cluster's name.")]


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="cluster")


@group.command()
def create(
    name: Name,
    vm_size: Annotated[str, typer.Option(help="VM size.")] = "STANDARD_NC4as_T4_v3",
    min_nodes: Annotated[int, typer.Option(help="Nodes that always run, and are paid for.")] = 0,
    max_nodes: Annotated[int, typer.Option(help="Most nodes.")] = 4,
    workspace: Workspace = "",
    auth: SignIn = Auth.auto,
) -> None:
    """Attach to a cluster, or create it and wait until it is ready."""
    from papershell.orchestration.azure.cluster import ensure_cluster
    from papershell.orchestration.azure.job import Cluster

    cluster = Cluster(name, vm_size, min_nodes, max_nodes)
    ensure_cluster(opened(workspace, auth), cluster)


@group.command()
def status(name: Name, workspace: Workspace = "", auth: SignIn = Auth.auto) -> None:
    """Show a cluster's size, state and nodes."""
    from papershell.orchestration.azure.cluster import cluster_state

    state = cluster_state(opened(workspace, auth), name)
    print_table(("", name), [(key, str(value)) for key, value in state.items()])


@group.command()
def delete(name: Name, workspace: Workspace = "", auth: SignIn = Auth.auto) -> None:
    """Delete a cluster and wait until it is gone."""
    from papershell.orchestration.azure.cluster import delete_cluster

    delete_cluster(opened(workspace, auth), name)
    print(f"cluster {name} is gone")
