"""``papershell submit``, ``preflight``, ``cluster``, ``workspace``: jobs on Azure ML and on this machine."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from papershell.orchestration.table import print_table

if TYPE_CHECKING:
    from papershell.orchestration.azure.job import TrainJob
    from papershell.orchestration.azure.preflight import Finding
    from papershell.orchestration.azure.run_handle import RunHandle

cluster_group = typer.Typer(help="Create, watch and delete clusters.", no_args_is_help=True)
workspace_group = typer.Typer(help="An Azure ML workspace on this machine.", no_args_is_help=True)
_BESIDE_A_JOB = ("trainer", "job", "workspace", "auth", "dry_run", "export", "wait")
_TRAINER_FLAGS = {"ignore_unknown_options": True, "allow_extra_args": True}


class Auth(StrEnum):
    """How to sign in, see `papershell.orchestration.azure.authentication`."""

    auto = "auto"
    service_principal = "service-principal"
    cli = "cli"
    interactive = "interactive"


class DataMode(StrEnum):
    """How data gets to a node."""

    download = "download"
    mount = "mount"


Workspace = Annotated[
    str, typer.Option(help="config.json of a workspace, or loopback for the one on this machine.")
]
SignIn = Annotated[Auth, typer.Option("--auth", help="How to sign in to Azure.")]
ClusterName = Annotated[str, typer.Argument(help="The cluster's name.")]
Trainer = Annotated[str, typer.Argument(help="logreg, keras-mnist or torch-cifar10, then its own flags.")]
Data = Annotated[
    str | None, typer.Option(help="A folder, mnist, digits, cifar10, or dataset:NAME of the workspace.")
]
Mode = Annotated[DataMode, typer.Option("--data-mode", help="How the data gets to the node.")]
OnCluster = Annotated[str | None, typer.Option("--cluster", help="Name of the cluster.")]
VmSize = Annotated[str | None, typer.Option(help="VM size of the cluster, if it is to be created.")]
MaxNodes = Annotated[int | None, typer.Option(help="Most nodes of the cluster, if it is to be created.")]
Nodes = Annotated[int, typer.Option(help="Nodes of this run.")]
Processes = Annotated[int, typer.Option(help="Processes on each node.")]
EnvironmentFile = Annotated[Path | None, typer.Option("--environment", help="Conda file.")]
Image = Annotated[str | None, typer.Option(help="Base image (default: by the GPU).")]
ExperimentName = Annotated[str | None, typer.Option("--experiment", help="(default: the trainer's)")]
TimeLimit = Annotated[float | None, typer.Option("--time-limit-min", help="End the run after so long.")]
JobFile = Annotated[Path | None, typer.Option("--job", help="Take the whole job from a JSON file.")]


def register(app: typer.Typer) -> None:
    from papershell.orchestration.commands import runs

    app.command(context_settings=_TRAINER_FLAGS)(submit)
    app.command("preflight", context_settings=_TRAINER_FLAGS)(preflight_)
    app.add_typer(cluster_group, name="cluster")
    app.add_typer(workspace_group, name="workspace")
    runs.group.command()(log)
    runs.group.command()(cancel)
    runs.group.command()(download)
    runs.group.command("register")(register_model)


def submit(
    context: typer.Context,
    trainer: Trainer,
    workspace: Workspace = "config.json",
    data: Data = None,
    data_mode: Mode = DataMode.download,
    cluster: OnCluster = None,
    vm_size: VmSize = None,
    max_nodes: MaxNodes = None,
    nodes: Nodes = 1,
    processes_per_node: Processes = 1,
    environment: EnvironmentFile = None,
    image: Image = None,
    experiment: ExperimentName = None,
    time_limit_min: TimeLimit = None,
    job: JobFile = None,
    auth: SignIn = Auth.auto,
    dry_run: Annotated[bool, typer.Option(help="Print the request, send nothing.")] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write the job for Azure ML version 2, send nothing.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Show the log and wait for the end.")] = False,
) -> None:
    """Submit a trainer as a run, on Azure ML or, with --workspace loopback, on this machine."""
    from papershell.orchestration import azure
    from papershell.orchestration.azure import preflight
    from papershell.orchestration.azure.export import export as write_files

    described = _read_job(context, job) or _job(
        trainer,
        context.args,
        data,
        environment,
        {"name": cluster, "vm_size": vm_size, "max_nodes": max_nodes},
        data_mode=data_mode.value,
        nodes=nodes,
        processes_per_node=processes_per_node,
        image=image,
        experiment=experiment,
        time_limit_min=time_limit_min,
    )
    here = azure.is_loopback(workspace)
    stops = _stops(preflight.preflight(described), here=here)
    if dry_run:
        print(json.dumps(azure.request(described), indent=2))
    if stops:
        raise typer.Exit(1)
    if export:
        for path in write_files(described, export):
            print(f"wrote {path}")
    if dry_run or export:
        return
    opened = azure.open_workspace(workspace, auth=auth.value)
    if _stops(preflight.quota(described, azure.free_cores(opened)), here=here):
        raise typer.Exit(1)
    handle = azure.submit(described, opened, show=lambda line: print(line, file=sys.stderr))
    print(f"run {handle.id}")
    if not here:
        print(f"portal {handle.portal_url}", file=sys.stderr)
    if wait:
        _wait(handle)


def preflight_(
    context: typer.Context,
    trainer: Trainer,
    data: Data = None,
    cluster: OnCluster = None,
    vm_size: VmSize = None,
    max_nodes: MaxNodes = None,
    nodes: Nodes = 1,
    processes_per_node: Processes = 1,
    environment: EnvironmentFile = None,
    image: Image = None,
    job: JobFile = None,
) -> None:
    """Say what would go wrong with a job on Azure, without asking anybody."""
    from papershell.orchestration.azure import preflight

    described = _read_job(context, job) or _job(
        trainer,
        context.args,
        data,
        environment,
        {"name": cluster, "vm_size": vm_size, "max_nodes": max_nodes},
        nodes=nodes,
        processes_per_node=processes_per_node,
        image=image,
    )
    if _stops(preflight.preflight(described), here=False):
        raise typer.Exit(1)
    print("nothing stands against this job")


def _read_job(context: typer.Context, path: Path | None) -> TrainJob | None:
    """Return the job of ``--job``, which says everything: flags beside it would be ignored, so they are refused."""
    from papershell.orchestration.azure.job import JobError, TrainJob

    if path is None:
        return None
    described = TrainJob.from_json(path.read_text(encoding="utf-8"))
    sources = (
        (name, context.get_parameter_source(name)) for name in context.params if name not in _BESIDE_A_JOB
    )
    given = [
        f"--{name.replace('_', '-')}" for name, source in sources if source and source.name == "COMMANDLINE"
    ]
    if described.trainer != context.params["trainer"] or given or context.args:
        unused = ", ".join([*given, *context.args]) or f"trainer {context.params['trainer']!r}"
        raise JobError(f"{path} says all of the job, for {described.trainer}; leave out {unused}")
    return described


def _job(
    trainer: str,
    arguments: list[str],
    data: str | None,
    environment: Path | None,
    cluster: dict[str, Any],
    **fields: Any,
) -> TrainJob:
    """Return the job that the flags describe, the walk-through's values where they are silent."""
    from dataclasses import replace

    from papershell.orchestration.azure import conda_file, job
    from papershell.trainers.datasets import SOURCES

    known = job.trainer(trainer)
    file = environment or conda_file.shipped("gpu" if known.gpu else "cpu")
    asked = {key: value for key, value in cluster.items() if value is not None}
    named = data or known.data
    return job.TrainJob(
        trainer=trainer,
        cluster=replace(job.default_cluster(trainer, os.environ), **asked),
        environment=str(file),
        arguments=tuple(arguments),
        data=_data_folder(named),
        data_name=named if named in SOURCES else None,
        **fields,
    )


def _data_folder(data: str) -> str:
    """Return the folder of a data set that has a name, fetched first if need be; anything else as it is."""
    from papershell.orchestration.azure.job import DATASET_PREFIX
    from papershell.trainers.datasets import resolve

    return data if data.startswith(DATASET_PREFIX) else str(resolve(data))


def _stops(found: list[Finding], *, here: bool) -> bool:
    """Show what preflight found; return whether it stops the job. Azure's machines do not matter here."""
    stopping = [finding for finding in found if finding.level == "error" and not (here and finding.cloud)]
    for finding in found:
        print(_line(finding, stops=finding in stopping), file=sys.stderr)
    return bool(stopping)


def _line(finding: Finding, *, stops: bool) -> str:
    if stops:
        return f"error: {finding.message}"
    return f"warning{' (on Azure an error)' if finding.level == 'error' else ''}: {finding.message}"


def _wait(handle: RunHandle) -> None:
    """Show the log until the run ends, then what came out of it."""
    state = handle.follow(_to_stdout)
    print(f"{state}: {json.dumps(handle.metrics())}")
    for name in handle.files():
        print(f"  {name}")
    if state != "Completed":
        raise RuntimeError(f"run {handle.id} ended as {state}; {handle.failure() or 'its log says more'}")


def _to_stdout(chunk: bytes) -> None:
    """Pass a log on as it is: it need not be text."""
    sys.stdout.buffer.write(chunk)
    sys.stdout.flush()


RunId = Annotated[str, typer.Argument(help="The run's id.")]


def log(run: RunId, workspace: Workspace = "loopback", auth: SignIn = Auth.auto) -> None:
    """Show the log of a workspace's run, following it until the run ends."""
    _find(workspace, auth, run).follow(_to_stdout)


def cancel(run: RunId, workspace: Workspace = "loopback", auth: SignIn = Auth.auto) -> None:
    """End a run of a workspace, and wait until it has ended."""
    handle = _find(workspace, auth, run)
    handle.cancel()
    print(handle.wait())


def download(
    run: RunId,
    workspace: Workspace = "loopback",
    prefix: Annotated[str, typer.Option(help="Only files whose name begins so.")] = "outputs/",
    out: Annotated[Path, typer.Option(help="Where the files go.")] = Path(),
    auth: SignIn = Auth.auto,
) -> None:
    """Download the files of a workspace's run."""
    for path in _find(workspace, auth, run).download(out, prefix=prefix):
        print(f"wrote {path}")


def register_model(
    run: RunId,
    name: Annotated[str, typer.Argument(help="The name to register under, as in sklearn_mnist.")],
    path: Annotated[str, typer.Argument(help="File or folder of the run, as in outputs/model.")],
    workspace: Workspace = "loopback",
    auth: SignIn = Auth.auto,
) -> None:
    """Register files of a workspace's run as the next version of a model."""
    model = _find(workspace, auth, run).register(name, path)
    print(f"registered {model.name}, id {model.id}, version {model.version}")


def _find(workspace: str, auth: Auth, run: str) -> RunHandle:
    from papershell.orchestration import azure

    return azure.find_run(azure.open_workspace(workspace, auth=auth.value), run)


@cluster_group.command("create")
def create_cluster(
    name: ClusterName,
    vm_size: Annotated[str, typer.Option(help="VM size.")] = "STANDARD_NC4as_T4_v3",
    min_nodes: Annotated[int, typer.Option(help="Nodes that are always there, and paid for.")] = 0,
    max_nodes: Annotated[int, typer.Option(help="Most nodes.")] = 4,
    workspace: Workspace = "config.json",
    auth: SignIn = Auth.auto,
) -> None:
    """Attach to a cluster, or create it and wait until it is there."""
    from papershell.orchestration import azure
    from papershell.orchestration.azure.job import Cluster

    opened = azure.open_workspace(workspace, auth=auth.value)
    azure.ensure_cluster(opened, Cluster(name, vm_size, min_nodes, max_nodes))


@cluster_group.command("status")
def cluster_status(name: ClusterName, workspace: Workspace = "config.json", auth: SignIn = Auth.auto) -> None:
    """Show a cluster's size, state and nodes."""
    from papershell.orchestration import azure

    opened = azure.open_workspace(workspace, auth=auth.value)
    state = azure.cluster_state(opened, name)
    print_table(("", name), [(key, str(value)) for key, value in state.items()])


@cluster_group.command("delete")
def delete_cluster(name: ClusterName, workspace: Workspace = "config.json", auth: SignIn = Auth.auto) -> None:
    """Delete a cluster and wait until it is gone."""
    from papershell.orchestration import azure

    azure.delete_cluster(azure.open_workspace(workspace, auth=auth.value), name)
    print(f"cluster {name} is gone")


@workspace_group.command("show")
def show_workspace(workspace: Workspace = "config.json", auth: SignIn = Auth.auto) -> None:
    """Show what a workspace is and holds, and the version of the SDK."""
    from papershell.orchestration import azure

    opened = azure.open_workspace(workspace, auth=auth.value)
    print_table(("", opened.name), list(azure.describe(opened).items()))


@workspace_group.command("serve")
def serve(
    root: Annotated[Path, typer.Option(help="Folder of the workspace; made if missing.")],
    port: Annotated[int, typer.Option(help="TCP port (default: last time's, or a free one).")] = 0,
    slots: Annotated[int, typer.Option(min=1, help="Runs at once.")] = 2,
    provision_seconds: Annotated[float, typer.Option(help="Time that a cluster takes.")] = 0.0,
    fault: Annotated[
        list[str] | None, typer.Option(help="KIND[:COUNT][@PATH]: what is to go wrong, as in 503:2@/metric/.")
    ] = None,
) -> None:
    """Serve an Azure ML workspace on 127.0.0.1 until interrupted."""
    from papershell.orchestration import loopback
    from papershell.orchestration.loopback.faults import Fault
    from papershell.orchestration.loopback.service import Options

    options = Options(slots, provision_seconds, [Fault.parse(text) for text in fault or []])
    print(f"serving {root.resolve()}; use --workspace {root / 'config.json'}; Ctrl-C ends it", flush=True)
    loopback.serve(root, port=port, options=options)
